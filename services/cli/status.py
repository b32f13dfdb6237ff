"""`scope status`: the progress of a run, once or live."""

from __future__ import annotations

import argparse
import time
from itertools import zip_longest
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from services.cli.connect import add_run
from services.cli.output import say_json, terminal
from services.cli.parser import add_examples
from services.cli.recorded import reader_of
from services.control_plane.schemas.runs import Run
from services.host.terminal import plain
from services.records.alarms import LIMITS, limit_text
from services.run.phases import ENDED, phase_text

EVERY_SECONDS = 2.0
STALE_SECONDS = 30.0
"""age of a heartbeat from which on it is shown in red"""
BAR = 40
"""characters of the progress bar"""
_COLOURS = {"running": "green", "finished": "blue", "failed": "red", "paused": "yellow", "stopping": "yellow"}


def add_status(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scope status`."""
    add_run(parser)
    parser.add_argument("--watch", action="store_true", help="update live until the run ends")
    add_examples(parser, "scope status", "scope status quickstart --watch", "scope status --json")
    parser.set_defaults(command=_status)


def _status(options: argparse.Namespace) -> int:
    console = terminal()
    run = _read(options, note=not options.watch)
    if options.json:
        say_json(run)
        return 0
    if not options.watch:
        console.print(picture(run))
        return 0
    with Live(picture(run), console=console, auto_refresh=False) as live:
        while run.status.phase not in ENDED:
            time.sleep(EVERY_SECONDS)
            run = _read(options, note=False)
            live.update(picture(run), refresh=True)
    return 1 if run.status.phase == "failed" else 0


def _read(options: argparse.Namespace, *, note: bool) -> Run:
    # Connected anew each time: the control plane may come up, restart, and end before the run is seen to have ended.
    with reader_of(options, note=note) as (client, run_id):
        return client.run(run_id)


def picture(run: Run) -> RenderableType:
    """The status for a terminal of any width: long lines break between words."""
    status, record = run.status, run.status.record
    progress = Table.grid(padding=(0, 2))
    bar = ProgressBar(max(status.of, 1), status.step, BAR, complete_style="green", finished_style="green")
    progress.add_row(Text(f"{status.step} of {status.of} steps"), bar)
    rows = [] if record is None else _numbers(run, record)
    if status.evaluations:
        newest = status.evaluations[-1]
        found = ", ".join(f"pass@{k} {value:z.3f}" for k, value in newest.pass_at_k.items())
        rows.append(("held-out", Text(f"{found} after {newest.step} steps")))
    rows += _warnings(run, record or {})
    generators = [(plain(name), _generator(run, beat)) for name, beat in status.generators.items()]
    return Group(_head(run), progress, *(_grid(part) for part in (rows, generators) if part))


def _grid(rows: list[tuple[str, Text]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for name, value in rows:
        grid.add_row(Text(name, style="dim"), value)
    return grid


def _head(run: Run) -> Text:
    status = run.status
    ended, heard = status.phase in ENDED, _age(status.seconds_since_heartbeat)
    silent = status.seconds_since_heartbeat > STALE_SECONDS
    lasted = (
        ""
        if ended or status.phase_since is None
        else f" (for {_age(_now(run) - status.phase_since.timestamp())})"
    )
    return Text.assemble(
        f"run {plain(run.metadata.id)}: ",
        (plain(phase_text(status.phase, status.phase_detail)), _COLOURS.get(status.phase, "")),
        lasted,
        ("" if ended or run.spec.control == "run" else f", {run.spec.control} requested", "yellow"),
        f", {heard} ago" if ended else (f", heartbeat {heard} ago", "red" if silent else "dim"),
    )


def _numbers(run: Run, record: dict[str, Any]) -> list[tuple[str, Text]]:
    target = "no target" if record["entropy_target"] is None else f"target {record['entropy_target']:z.3f}"
    stalest = max(map(int, record["staleness"]), default=0)
    left = (run.status.of - run.status.step) * record["step_seconds"]
    rows = {
        "entropy": f"{_number(record['entropy'])} nats/token, {target}",
        "actuators": f"temperature {record['next_temperature']:z.2f}, alpha {record['next_alpha']:z.2f}",
        "reward": f"{_number(record['reward'])}, {record['positives']} positives",
        "step": f"{record['step_seconds']:z.2f} s, {record['wait_seconds']:z.2f} s of it waiting for groups",
        "left": f"about {_age(left)}, at the pace of the last step" if run.status.phase == "running" else "",
        "staleness": f"at most {stalest} step{'' if stalest == 1 else 's'}",
        "queue": f"{record['queue_unread']} unread, {record['queue_pending']} pending groups",
        "learner": f"{record['learner_tokens_per_second']:,.0f} tokens/s",
    }
    return [(name, Text(text)) for name, text in rows.items() if text]


def _warnings(run: Run, record: dict[str, Any]) -> list[tuple[str, Text]]:
    """The alarms of the newest step, and the error that ended the run."""
    rows = []
    if (limit := limit_text(record)) is not None:
        rows.append(("limit", Text(limit, style="yellow")))
    for text, kind in zip_longest(record.get("alarms", []), record.get("alarm_kinds", [])):
        if kind not in LIMITS:
            rows.append(("alarm", Text(plain(text), style="yellow")))
    if run.status.error:
        rows.append(("error", Text(plain(run.status.error), style="red")))
    return rows


def _generator(run: Run, beat: dict[str, Any]) -> Text:
    age = max(0.0, _now(run) - beat["at"])
    restarts = f", {beat['restarts']} restarts" if beat["restarts"] else ""
    return Text.assemble(
        f"{plain(beat['state'])} at step {beat['step']}, {beat['in_flight']} in flight{restarts}, ",
        (f"{_age(age)} ago", "red" if age > STALE_SECONDS and run.status.phase not in ENDED else ""),
    )


def _now(run: Run) -> float:
    """The time of the answer by Redis's clock, seconds since the epoch."""
    return run.status.heartbeat_at.timestamp() + run.status.seconds_since_heartbeat


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:z.3f}"


def _age(seconds: float) -> str:
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
