"""`scope view`: the page over recorded runs, until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from services.cli.connect import RUNS
from services.cli.output import remark, say
from services.cli.parser import add_examples

if TYPE_CHECKING:
    from services.recorded.recorded_run import RecordedRun
    from services.recorded.serve import View


def add_view(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scope view`."""
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="run id under runs/, run directory, folder of runs, directory of a comparison, or an archive of one of "
        "these (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz, .tar.zst); default: all of runs/",
    )
    parser.add_argument(
        "--port", type=int, default=0, help="port of 127.0.0.1 to serve the page on (default: a free one)"
    )
    add_examples(
        parser, "scope view quickstart", "scope view quickstart.tar.gz", "scope view runs --port 8090"
    )
    parser.set_defaults(command=_view)


def _view(options: argparse.Namespace) -> int:
    from services.recorded.find import recorded_runs
    from services.recorded.serve import served

    try:
        places = [_place(text) for text in options.runs or [str(RUNS)]]
        with recorded_runs(places, remark) as runs, served(runs, "viewer", options.port) as view:
            for run in runs:
                remark(f"{run.run_id}: {_how(run)}")
            say(_address(view, runs))
            remark("The address holds a token for reading, valid until this view ends. Ctrl-C ends it.")
            while True:
                signal.pause()
    except KeyboardInterrupt:
        # A signal is how a view ends; what it started and wrote is gone by now.
        return 0


def _place(text: str) -> Path:
    path = os.path.expanduser(text)
    # Not `Path.exists`, which raises for a name that is too long.
    return Path(path) if os.path.exists(path) else RUNS / text


def _how(run: RecordedRun) -> str:
    from services.cli.connect import endpoint_of

    if run.ending != "live":
        return run.sentence()
    address = endpoint_of(run.path)
    where = "" if address is None else f" at {address}"
    return f"it is live{where}; this view does not follow it: it shows step {run.step} of {run.of}"


def _address(view: View, runs: list[RecordedRun]) -> str:
    # After the `#`, a browser sends nothing to the server, so the token is in no log.
    place = f"/runs/{quote(runs[0].run_id)}?" if len(runs) == 1 else ""
    return f"{view.url}/#{place}token={view.token}"
