"""The control plane that a command reads: that of the live run or, without one, one over its directory or archive."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.connect import chosen_run, client_of, run_name
from services.run.lock import is_driven
from trainer.errors import ScopeError

if TYPE_CHECKING:
    from services.control_plane.client import ControlPlaneClient


@contextmanager
def reader_of(options: argparse.Namespace, *, note: bool = True) -> Iterator[tuple[ControlPlaneClient, str]]:
    """Like `client_of`, for a command that only reads: it also reads a run that has no control plane.

    note: say on stderr how such a run ended. Raises ScopeError.
    """
    place = None if options.url or options.context else chosen_place(options)
    if place is None or _answers(options, place):
        with client_of(options) as found:
            yield found
        return
    from services.control_plane.client import ControlPlaneClient, ControlPlaneError
    from services.recorded.find import recorded_runs
    from services.recorded.serve import served

    with recorded_runs([place]) as runs:
        if len(runs) > 1:
            names = ", ".join(run.run_id for run in runs)
            raise ScopeError(f"{place} has several runs: {names}. `scope view {place}` shows them.")
        if note:
            print(f"{runs[0].run_id} is read from {place}: {runs[0].sentence()}.", file=sys.stderr)
        with served(runs, "admin") as view, ControlPlaneClient(view.url, view.token) as client:
            try:
                yield client, runs[0].run_id
            except ControlPlaneError as error:
                raise ScopeError(str(error)) from error


@contextmanager
def records_of(place: Path) -> Iterator[Path]:
    """The run directory at a place, which may be an archive of one. Raises ScopeError."""
    from services.recorded.find import opened, run_directories

    with opened(place) as folder:
        found = run_directories(folder)
        if len(found) != 1:
            raise ScopeError(f"{place} must hold one run, and holds {len(found)}.")
        yield found[0]


def chosen_place(options: argparse.Namespace) -> Path:
    """The directory or the archive of the run that the options name. Raises ScopeError."""
    name = run_name(options)
    path = os.path.expanduser(name or "")
    return Path(path) if os.path.isfile(path) else chosen_run(options)


def _answers(options: argparse.Namespace, place: Path) -> bool:
    """Whether the run is live and its control plane answers for it."""
    from services.access.tokens import TOKEN_VARIABLE

    # The run's own token goes only to a control plane whose driver is alive: another program may have the port since.
    if place.is_file() or not (is_driven(place) or os.environ.get(TOKEN_VARIABLE)):
        return False
    try:
        with client_of(options) as (client, run_id):
            client.run(run_id)
    except ScopeError:
        return False
    return True
