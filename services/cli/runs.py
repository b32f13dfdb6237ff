"""`scope pause`, `resume`, `stop` and `checkpoint`."""

from __future__ import annotations

import argparse
from functools import partial

from services.cli.connect import add_run, client_of
from services.cli.output import say, say_json
from services.cli.parser import add_examples
from services.run.control import Action

_ACCEPTED: dict[Action, str] = {
    "pause": "pauses at its next step boundary",
    "resume": "resumes",
    "stop": "stops after its current step",
    "checkpoint": "writes a checkpoint at its next step boundary",
}


def _add(action: Action, parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_examples(parser, f"scope {action}", f"scope {action} quickstart")
    parser.set_defaults(command=partial(_ask, action))


add_pause = partial(_add, "pause")
add_resume = partial(_add, "resume")
add_stop = partial(_add, "stop")
add_checkpoint = partial(_add, "checkpoint")


def _ask(action: Action, options: argparse.Namespace) -> int:
    with client_of(options) as (client, run_id):
        run = client.request_action(run_id, action).model_dump(mode="json")
    if options.json:
        say_json(run)
    else:
        say(f"run {run_id} {_ACCEPTED[action]}")
    return 0
