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

from trainer.errors import ScopeError

if TYPE_CHECKING:
    from services.control_plane.client import ControlPlaneClient


RUNS = Path("runs")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a run."""
    parser.add_argument(
        "--run", type=Path, metavar="RUN_DIR", help="run directory; default: the newest run under runs/"
    )
    parser.add_argument("--url", help="control plane at this address; needs --run-id and SCOPE_TOKEN")
    parser.add_argument(
        "--context", help="kubectl context: the control plane in that cluster, instead of --url"
    )
    parser.add_argument(
        "--namespace", default="scope-rl", help="with --context: its namespace (default: scope-rl)"
    )
    parser.add_argument("--run-id", help="with --url or --context: the run")
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
            raise ScopeError(str(error)) from error


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
    every_run = getattr(options, "every_run", False)
    if not token or not (options.run_id or every_run):
        way = "--url" if context is None else "--context"
        needed = "a bearer token" if every_run else "--run-id and a bearer token"
        raise ScopeError(f"{way} needs {needed} in the environment variable {TOKEN_VARIABLE}.")
    if url is not None:
        yield url, options.run_id or "", token
    elif context is not None:
        from services.kubernetes.port_forward import forwarded

        with forwarded(context, options.namespace) as address:
            yield address, options.run_id or "", token


def _endpoint_file(run: Path) -> tuple[str, str]:
    """Address and run id from the `endpoint.json` of a run directory."""
    try:
        endpoint = json.loads((run / "endpoint.json").read_text())
    except (OSError, ValueError) as error:
        raise ScopeError(
            f"--run {run} has no endpoint.json: it is not a run directory, or its control plane never started."
        ) from error
    return endpoint["url"], endpoint["run_id"]


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


def run_name(options: argparse.Namespace) -> str | None:
    """The run as the command line names it; None if it names none."""
    return None if options.run is None else str(options.run)


def chosen_run(options: argparse.Namespace) -> Path:
    """The directory of the run that the options name, or of the newest one. Raises ScopeError."""
    return options.run or newest_run()


def run_directory(text: str) -> Path:
    """The run directory that `text` names, by its path or its id under ./runs. Raises ScopeError if there is none."""
    for path in (Path(text).expanduser(), Path("runs") / text):
        if (path / "config.yaml").is_file():
            return path.resolve()
    raise ScopeError(
        f"RUN={text!r} is not a run: neither a directory with a config.yaml, nor the id of a run under runs/."
    )


def newest_run() -> Path:
    """The newest run under ./runs. Raises ScopeError if there is none."""
    found = sorted(RUNS.glob("*/config.yaml"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ScopeError("There is no run under ./runs: name one with --run RUN_DIR.")
    return found[-1].parent
