"""Commands that ask something of a run as a whole."""

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
    """One command for each action."""
    for action in get_args(Action):
        parser = commands.add_parser(action, help=_HELP[action])
        add_run(parser)
        parser.set_defaults(command=partial(_ask, action))


def _ask(action: Action, options: argparse.Namespace) -> int:
    with client_of(options) as (client, run_id):
        run = client.ask(run_id, action).model_dump(mode="json")
    print(json.dumps(run, indent=2) if options.json else f"run {run_id} {_SAID[action]}")
    return 0
