"""`scope export`: write a run's policy as a Hugging Face directory."""

from __future__ import annotations

import argparse
from pathlib import Path

from services.cli.connect import run_directory


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scope export`."""
    parser.add_argument("run", metavar="RUN", help="run directory, or the id of a run under runs/")
    parser.add_argument(
        "--step", type=int, metavar="N", help="export the checkpoint of this step; default: the run's model/"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new or empty directory")
    parser.set_defaults(command=_export)


def _export(options: argparse.Namespace) -> int:
    from services.results.export import export

    exported = export(run_directory(options.run), options.step, options.out.expanduser().absolute())
    print(f"run {exported.run_id} after {exported.step} learner steps: {options.out}, with README.md")
    return 0
