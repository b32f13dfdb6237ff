"""`scope train`: start a run from a configuration, or resume a run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import ScopeError

if TYPE_CHECKING:
    from services.driver.progress import Progress


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scope train`."""
    parser.add_argument("config", nargs="?", type=Path, help="YAML file")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="A.B=C", help="override a field"
    )
    parser.add_argument("--run-id", help="name of the run directory; default: the file's name and the time")
    parser.add_argument(
        "--replace", action="store_true", help="move an existing run directory of that name aside"
    )
    parser.add_argument("--resume", type=Path, metavar="RUN_DIR", help="resume a stopped run")
    parser.add_argument(
        "--continue",
        dest="resume_existing",
        action="store_true",
        help="resume the run --run-id if it exists, otherwise start it (for jobs that are retried)",
    )
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="format of the terminal output (default: text)",
    )
    parser.set_defaults(command=_train)


def _train(options: argparse.Namespace) -> int:
    from services.driver.open_run import new_run, open_run, reopen_run

    if (options.config is None) == (options.resume is None):
        raise ScopeError("scope train needs either a configuration file or --resume RUN_DIR, not both.")
    if options.resume is not None:
        if options.run_id or options.replace or options.resume_existing:
            raise ScopeError("--run-id, --replace and --continue cannot be combined with --resume.")
        directory = reopen_run(options.resume, options.overrides)
    elif options.resume_existing:
        if not options.run_id or options.replace:
            raise ScopeError("--continue needs --run-id and cannot be combined with --replace.")
        directory = open_run(options.config, options.overrides, options.run_id)
    else:
        directory = new_run(options.config, options.overrides, options.run_id, replace=options.replace)
    from services.driver.run import train

    with make_progress(directory.run_id, options.log_format) as progress:
        progress.say(f"run {directory.run_id} in {directory.path}")
        for note in directory.notes:
            progress.say(note)
        return train(directory, progress)


def make_progress(run_id: str, log_format: str) -> Progress:
    """A live line on a terminal, else plain lines; or JSON."""
    from rich.console import Console

    from services.driver.live_progress import LiveProgress
    from services.driver.progress import JsonProgress, Progress

    if log_format == "json":
        return JsonProgress(run_id)
    console = Console(highlight=False)
    # A terminal that cannot write a line anew, such as TERM=dumb, gets plain lines too.
    live = sys.stdout.isatty() and not console.is_dumb_terminal
    return LiveProgress(console) if live else Progress()
