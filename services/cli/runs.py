"""Commands about a run as a whole: its status, and what can be asked of it."""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import Any, get_args

from services.cli.connect import add_run, client_of
from services.run_control import Action

_SAID: dict[Action, str] = {
    "pause": "pauses at its next step boundary",
    "resume": "goes on",
    "stop": "stops after its current step",
    "checkpoint": "writes a checkpoint at its next step boundary",
}
_HELP: dict[Action, str] = {
    "pause": "hold a run: engines stay warm, nothing is generated or learned",
    "resume": "let a paused run go on",
    "stop": "stop a run in order: checkpoint, then end",
    "checkpoint": "write a checkpoint at the next step",
}


def add_runs(commands: Any) -> None:
    """`scope status` and one command for each action."""
    status = commands.add_parser("status", help="how a run goes")
    add_run(status)
    status.set_defaults(command=_status)
    for action in get_args(Action):
        parser = commands.add_parser(action, help=_HELP[action])
        add_run(parser)
        parser.set_defaults(command=partial(_ask, action))


def _status(options: argparse.Namespace) -> int:
    with client_of(options) as (client, run_id):
        run = client.run(run_id).model_dump(mode="json")
    print(json.dumps(run, indent=2) if options.json else _status_text(run))
    return 0


def _ask(action: Action, options: argparse.Namespace) -> int:
    with client_of(options) as (client, run_id):
        run = client.ask(run_id, action).model_dump(mode="json")
    print(json.dumps(run, indent=2) if options.json else f"run {run_id} {_SAID[action]}")
    return 0


def _status_text(run: dict[str, Any]) -> str:
    status = run["status"]
    lines = [f"run {run['metadata']['id']}: {status['phase']}, step {status['step']} of {status['of']}"]
    record = status.get("record")
    if record:
        set_point = "none" if record["set_point"] is None else f"{record['set_point']:.3f}"
        lines.append(
            f"entropy {record['entropy'] or float('nan'):.3f} nats/token, set-point {set_point}, temperature "
            f"{record['next_temperature']:.2f}, alpha {record['next_alpha']:.2f}, reward {record['reward']:.3f}, "
            f"{record['step_seconds']:.2f} s/step"
        )
    if status.get("error"):
        lines.append(f"error: {status['error']}")
    return "\n".join(lines)
