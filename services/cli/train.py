"""`scope train`: start a run from a configuration, or resume a run."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from services.cli.connect import run_directory
from services.cli.output import complain, terminal
from services.cli.parser import add_examples, path_argument
from trainer.errors import ScopeError

if TYPE_CHECKING:
    from services.driver.progress import Progress
    from services.driver.stop_signals import StopSignals


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scope train`."""
    parser.add_argument("config", nargs="?", type=path_argument, help="YAML file")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="A.B=C", help="override a field"
    )
    parser.add_argument("--run-id", help="name of the run directory; default: the file's name and the time")
    parser.add_argument(
        "--replace", action="store_true", help="move an existing run directory of that name aside"
    )
    parser.add_argument(
        "--resume", metavar="RUN", help="resume a stopped run, by its id under runs/ or its directory"
    )
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
    add_examples(
        parser,
        "scope train deploy/configs/countdown-cpu.yaml --run-id quickstart --replace",
        "scope train deploy/configs/countdown-cpu.yaml --set entropy_control.kind=none --set steps=40",
        "scope train --resume quickstart",
    )
    parser.set_defaults(command=_train)


def _train(options: argparse.Namespace) -> int:
    from services.driver.stop_signals import StopSignals

    if (options.config is None) == (options.resume is None):
        raise ScopeError("scope train needs either a configuration file or --resume RUN, not both.")
    if options.resume is not None and (options.run_id or options.replace or options.resume_existing):
        raise ScopeError("--run-id, --replace and --continue cannot be combined with --resume.")
    if options.resume_existing and (not options.run_id or options.replace):
        raise ScopeError("--continue needs --run-id and cannot be combined with --replace.")
    with StopSignals(complain) as stop:
        return _drive(options, stop)


def _drive(options: argparse.Namespace, stop: StopSignals) -> int:
    from services.driver.open_run import new_run, open_run, reopen_run
    from services.driver.resumption import FinishedRun

    try:
        if options.resume is not None:
            directory = reopen_run(run_directory(options.resume), options.overrides)
        elif options.resume_existing:
            directory = open_run(options.config, options.overrides, options.run_id)
        else:
            directory = new_run(options.config, options.overrides, options.run_id, replace=options.replace)
    except FinishedRun as finished:
        with make_progress(finished.run_id, options.log_format) as progress:
            progress.say(str(finished))
        return 0
    from services.driver.run import train

    with make_progress(directory.run_id, options.log_format) as progress:
        progress.say(f"run {directory.run_id} in {directory.path}")
        for note in directory.notes:
            progress.say(note)
        return train(directory, progress, stop)


def make_progress(run_id: str, log_format: str) -> Progress:
    """A live line on a terminal, else plain lines; or JSON."""
    from services.driver.live_progress import LiveProgress
    from services.driver.progress import JsonProgress, Progress

    if log_format == "json":
        return JsonProgress(run_id)
    console = terminal()
    # A terminal that cannot write a line anew, such as TERM=dumb, gets plain lines too.
    live = sys.stdout.isatty() and not console.is_dumb_terminal
    return LiveProgress(console) if live else Progress()
