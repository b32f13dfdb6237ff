"""`scope export`: write a run's policy as a Hugging Face directory."""

from __future__ import annotations

import argparse

from services.cli.connect import add_run_name, chosen_run
from services.cli.output import say
from services.cli.parser import add_examples, path_argument


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scope export`."""
    add_run_name(parser)
    parser.add_argument(
        "--step", type=int, metavar="N", help="export the checkpoint of this step; default: the run's model/"
    )
    parser.add_argument(
        "--out", type=path_argument, required=True, metavar="DIR", help="new or empty directory"
    )
    parser.add_argument("--replace", action="store_true", help="replace a model in DIR")
    add_examples(
        parser,
        "scope export quickstart --out quickstart-model --replace",
        "scope export quickstart --step 40 --out quickstart-40",
    )
    parser.set_defaults(command=_export)


def _export(options: argparse.Namespace) -> int:
    from services.results.export import export

    exported = export(chosen_run(options), options.step, options.out.absolute(), replace=options.replace)
    say(f"run {exported.run_id} after {exported.step} learner steps: {options.out}, with README.md")
    return 0
