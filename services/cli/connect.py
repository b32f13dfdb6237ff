"""The run that a command is for, and a client of its control plane."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.parser import nearest
from services.host.terminal import plain
from trainer.errors import ScopeError

if TYPE_CHECKING:
    from services.control_plane.client import ControlPlaneClient


RUNS = Path("runs")
MOST_LISTED = 10
"""runs that an error message lists"""


def add_run_name(parser: argparse.ArgumentParser, *, positional: bool = True) -> None:
    """Add the two ways to name a run of this machine. positional: False where another argument stands there."""
    if positional:
        parser.add_argument(
            "named", nargs="?", metavar="RUN", help="run id under runs/, or run directory; same as --run"
        )
    parser.add_argument(
        "--run",
        metavar="RUN",
        help="run id under runs/, or run directory; default: the newest run under runs/",
    )


def add_run(parser: argparse.ArgumentParser, *, positional: bool = True) -> None:
    """Add the options that name a run and its control plane. positional: as in `add_run_name`."""
    add_run_name(parser, positional=positional)
    parser.add_argument("--url", help="control plane at this address; needs a run id and SCOPE_TOKEN")
    parser.add_argument(
        "--context", help="kubectl context: the control plane in that cluster, instead of --url"
    )
    parser.add_argument(
        "--namespace", default="scope-rl", help="with --context: its namespace (default: scope-rl)"
    )
    parser.add_argument("--run-id", help="the same as --run; with --url or --context: the run's id there")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


@contextmanager
def client_of(options: argparse.Namespace) -> Iterator[tuple[ControlPlaneClient, str]]:
    """A client of the control plane of the run that the options name, and the run id. Raises ScopeError."""
    from services.control_plane.client import ControlPlaneClient, ControlPlaneError

    with _endpoint(options) as (url, run_id, token):
        try:
            with ControlPlaneClient(url, token) as client:
                yield client, run_id
        except ControlPlaneError as error:
            # One line: the text may come from any server.
            raise ScopeError(plain(str(error))) from error


@contextmanager
def _endpoint(options: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    from services.access.run_secrets import RunSecrets
    from services.access.tokens import TOKEN_VARIABLE

    token = os.environ.get(TOKEN_VARIABLE)
    if token and not re.fullmatch(r"[!-~]+", token):
        raise ScopeError(
            f"{TOKEN_VARIABLE} contains a character that is not allowed in a token: printable ASCII only."
        )
    url: str | None = options.url
    context: str | None = options.context
    if url is not None and context is not None:
        raise ScopeError("--url and --context each name a control plane: give only one of them.")
    if url is None and context is None:
        run = chosen_run(options)
        if not token:
            _refuse_ended(run)
        address, run_id = _endpoint_file(run)
        yield address, run_id, token or RunSecrets(run).token()
        return
    run_id = Path(run_name(options) or "").name
    every_run = getattr(options, "every_run", False)
    if not token or not (run_id or every_run):
        way = "--url" if context is None else "--context"
        needed = "a bearer token" if every_run else "--run-id and a bearer token"
        raise ScopeError(f"{way} needs {needed} in the environment variable {TOKEN_VARIABLE}.")
    if url is not None:
        yield url, run_id, token
    elif context is not None:
        from services.kubernetes.port_forward import forwarded

        with forwarded(context, options.namespace) as address:
            yield address, run_id, token


def _endpoint_file(run: Path) -> tuple[str, str]:
    """Address and run id from the `endpoint.json` of a run directory."""
    try:
        endpoint = json.loads((run / "endpoint.json").read_text())
        return str(endpoint["url"]), str(endpoint["run_id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScopeError(
            f"The run in {run} has no control plane: it has no readable endpoint.json, which a run writes when its "
            "control plane starts."
        ) from error


def chosen_run(options: argparse.Namespace) -> Path:
    """The directory of the run that the options of `add_run_name` name, or of the newest one. Raises ScopeError."""
    name = run_name(options)
    return newest_run() if name is None else run_directory(name)


def run_name(options: argparse.Namespace) -> str | None:
    """The run as the command line names it; None if it names none. Raises ScopeError if it names two."""
    given = (getattr(options, name, None) for name in ("named", "run", "run_id"))
    names = list(dict.fromkeys(name for name in given if name is not None))
    if len(names) > 1:
        raise ScopeError(f"The command names two runs, {names[0]!r} and {names[1]!r}: give one of them.")
    return names[0] if names else None


def endpoint_of(run: Path) -> str | None:
    """The address of a run's control plane as its directory has it, or None."""
    try:
        return _endpoint_file(run)[0]
    except ScopeError:
        return None


def _refuse_ended(run: Path) -> None:
    """Raise ScopeError, which says how the run ended, unless it is live. Another program may have its port since."""
    from services.run.directory import CONFIG_FILE
    from services.run.lock import is_driven

    if is_driven(run) or not (run / CONFIG_FILE).is_file():
        return
    from services.recorded.recorded_run import read_run

    ended = read_run(run, run.name)
    continues = "" if ended.step >= ended.of else f"; scope train --resume {run} continues it"
    raise ScopeError(
        f"The run {run.name} has no control plane to ask: {ended.sentence()}. scope view {run} shows it{continues}."
    )


def run_directory(text: str) -> Path:
    """The run directory that `text` names, by its path or its id under ./runs. Raises ScopeError if there is none."""
    for path in (Path(os.path.expanduser(text)), RUNS / text):
        if text and _is_run(path):
            return path.resolve()
    raise ScopeError(
        f"There is no run {text!r}: it is neither a run directory nor the id of a run under {RUNS}/, {_there(text)}"
    )


def run_ids() -> list[str]:
    """The ids of the runs under ./runs, the newest first."""
    found = [path for path in RUNS.glob("*") if _is_run(path)]
    return [path.name for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]


def _is_run(path: Path) -> bool:
    # Not `Path.is_file`, which raises for a name that is too long.
    return any(os.path.isfile(path / name) for name in ("config.yaml", "endpoint.json"))


def _there(text: str) -> str:
    """Which runs there are, and which of them `text` may be a misspelling of."""
    ids = run_ids()
    if not ids:
        return "which has none."
    more = f" and {len(ids) - MOST_LISTED} more" if len(ids) > MOST_LISTED else ""
    near = nearest(Path(text).name, ids)
    hint = "." if near is None else f". Did you mean {near}?"
    return f"which has {', '.join(ids[:MOST_LISTED])}{more}{hint}"


def newest_run() -> Path:
    """The newest run under ./runs. Raises ScopeError if there is none."""
    found = sorted(RUNS.glob("*/config.yaml"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ScopeError("There is no run under ./runs: name one with --run RUN.")
    return found[-1].parent
