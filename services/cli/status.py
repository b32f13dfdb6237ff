"""`scope status`: the progress of a run, once or live."""

from __future__ import annotations

import argparse
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from services.cli.connect import add_run
from services.cli.recorded import reader_of
from services.control_plane.schemas.runs import Run

EVERY_SECONDS = 2.0
STALE_SECONDS = 30.0
"""age of a heartbeat from which on it is shown in red"""
_COLOURS = {"running": "green", "finished": "blue", "failed": "red", "paused": "yellow", "stopping": "yellow"}
_ENDED = ("finished", "failed")


def add_status(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scope status`."""
    add_run(parser)
    parser.add_argument("--watch", action="store_true", help="update live until the run ends")
    parser.set_defaults(command=_status)


def _status(options: argparse.Namespace) -> int:
    console = Console()
    run = _read(options, note=not options.watch)
    if options.json:
        print(run.model_dump_json(indent=2))
        return 0
    if not options.watch:
        console.print(picture(run))
        return 0
    with Live(picture(run), console=console, auto_refresh=False) as live:
        while run.status.phase not in _ENDED:
            time.sleep(EVERY_SECONDS)
            run = _read(options, note=False)
            live.update(picture(run), refresh=True)
    return 0


def _read(options: argparse.Namespace, *, note: bool) -> Run:
    # Connected anew each time: the control plane may come up, restart, and end before the run is seen to have ended.
    with reader_of(options, note=note) as (client, run_id):
        return client.run(run_id)


def picture(run: Run) -> RenderableType:
    """The status for a terminal."""
    parts: list[RenderableType] = [_head(run)]
    if run.status.record:
        parts += [_numbers(run)]
    if run.status.generators:
        parts += [_generators(run)]
    for alarm in (run.status.record or {}).get("alarms", []):
        parts.append(Text(f"alarm: {alarm}", style="yellow"))
    if run.status.error:
        parts.append(Text(f"error: {run.status.error}", style="red"))
    return Group(*parts)


def _head(run: Run) -> RenderableType:
    status = run.status
    line = Text.assemble(
        f"run {run.metadata.id}: ",
        (status.phase, _COLOURS.get(status.phase, "")),
        f", step {status.step} of {status.of}",
        ("" if run.spec.control == "run" else f", {run.spec.control} requested", "yellow"),
        (f", heartbeat {_age(status.seconds_since_heartbeat)} ago", _freshness(run)),
    )
    grid = Table.grid(padding=(0, 2))
    grid.add_row(line, ProgressBar(total=max(status.of, 1), completed=status.step, width=24))
    return grid


def _numbers(run: Run) -> RenderableType:
    record = run.status.record or {}
    stalest = max(map(int, record["staleness"]), default=0)
    limit = "  at the limit: raise alpha_max or lower the target" if record["saturated"] else ""
    rows = [
        (
            "entropy",
            f"{_number(record['entropy'])} nats/token, entropy target {_number(record['entropy_target'])}",
        ),
        (
            "actuators",
            f"temperature {record['next_temperature']:.2f}, alpha {record['next_alpha']:.2f}{limit}",
        ),
        ("reward", f"{_number(record['reward'])}, positives {record['positives']}"),
        ("step", f"{record['step_seconds']:.2f} s, {record['wait_seconds']:.2f} s of it waiting for groups"),
        ("staleness", f"at most {stalest} steps"),
        ("queue", f"{record['queue_unread']} unread, {record['queue_pending']} pending groups"),
        ("learner", f"{record['learner_tokens_per_second']:,.0f} tokens/s"),
    ]
    if run.status.evaluations:
        newest = run.status.evaluations[-1]
        found = ", ".join(f"pass@{k} {value:.3f}" for k, value in newest.pass_at_k.items())
        rows.append(("held-out", f"{found} after {newest.step} steps"))
    grid = Table.grid(padding=(0, 2))
    for name, value in rows:
        grid.add_row(Text(name, style="dim"), value)
    return grid


def _generators(run: Run) -> RenderableType:
    table = Table(box=None, padding=(0, 2), header_style="dim", pad_edge=False)
    for column in ("generator", "state", "policy step", "in flight", "restarts", "heartbeat"):
        table.add_column(column, justify="left" if column in ("generator", "state") else "right")
    for name, beat in run.status.generators.items():
        age = max(0.0, run.status.heartbeat_at.timestamp() + run.status.seconds_since_heartbeat - beat["at"])
        table.add_row(
            name,
            beat["state"],
            str(beat["step"]),
            str(beat["in_flight"]),
            str(beat["restarts"]),
            Text(f"{_age(age)} ago", style="red" if age > STALE_SECONDS else ""),
        )
    return table


def _freshness(run: Run) -> str:
    silent = run.status.seconds_since_heartbeat > STALE_SECONDS and run.status.phase not in _ENDED
    return "red" if silent else "dim"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _age(seconds: float) -> str:
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
