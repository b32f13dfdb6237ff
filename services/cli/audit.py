"""`scope audit`: who changed what."""

from __future__ import annotations

import argparse

from services.cli.connect import add_run, client_of
from services.cli.recorded import reader_of
from services.cli.tokens import run_of, time_of


def add_audit(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scope audit`."""
    add_run(parser)
    parser.add_argument(
        "--limit",
        type=int,
        default=20,
        help="number of entries to show, newest first, at most 1000 (default: 20)",
    )
    parser.add_argument("--every-run", action="store_true", help="changes that concern all runs")
    parser.set_defaults(command=_audit)


def _audit(options: argparse.Namespace) -> int:
    reading = client_of if options.every_run else reader_of
    with reading(options) as (client, run_id):
        page = client.audit(run_of(options, run_id), options.limit)
    if options.json:
        print(page.model_dump_json(indent=2))
        return 0
    for entry in page.entries:
        change = f"{entry.before or '-'} -> {entry.after or '-'}" if entry.before or entry.after else ""
        generation = f", generation {entry.generation}" if entry.generation else ""
        step = "" if entry.effective_step is None else f", in force from step {entry.effective_step}"
        print(f"{time_of(entry.at)} {entry.by}@{entry.origin} {entry.action} {change}{generation}{step}")
    return 0
