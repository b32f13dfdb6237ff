"""`scope queue`: the state of a run's replay queue, and its dead letters."""

from __future__ import annotations

import argparse
import json
from typing import Any

from services.cli.connect import add_run, client_of
from services.cli.recorded import reader_of
from trainer.errors import ScopeError


def add_queue(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and options of `scope queue`."""
    queue = parser.add_subparsers(required=True, metavar="stats|dead-letters|requeue|purge")
    stats = queue.add_parser("stats", help="show how full the queue is, what is pending, and counters")
    add_run(stats)
    stats.set_defaults(command=_stats)
    letters = queue.add_parser(
        "dead-letters", help="list the groups that will not be trained on, newest first"
    )
    letters.add_argument(
        "--limit",
        type=int,
        default=20,
        metavar="N",
        help="number of dead letters to show, newest first (default: 20)",
    )
    letters.add_argument("--cursor", metavar="ID", help="only dead letters older than this one")
    add_run(letters)
    letters.set_defaults(command=_dead_letters)
    requeue = queue.add_parser("requeue", help="put dead letters back into the queue")
    requeue.add_argument("ids", nargs="+", metavar="ID", help="of `scope queue dead-letters`")
    add_run(requeue)
    requeue.set_defaults(command=_requeue)
    purge = queue.add_parser("purge", help="delete dead letters permanently")
    purge.add_argument("ids", nargs="+", metavar="ID", help="of `scope queue dead-letters`")
    purge.add_argument("--reason", required=True, metavar="TEXT", help="why; kept in the audit log")
    add_run(purge)
    purge.set_defaults(command=_purge)


def _stats(options: argparse.Namespace) -> int:
    with reader_of(options) as (client, run_id):
        state = client.queue(run_id).model_dump(mode="json")
    print(json.dumps(state, indent=2) if options.json else stats_text(state))
    return 0


def _dead_letters(options: argparse.Namespace) -> int:
    with client_of(options) as (client, run_id):
        page = client.dead_letters(run_id, options.limit, options.cursor).model_dump(mode="json")
    if options.json:
        print(json.dumps(page, indent=2))
        return 0
    for letter in page["dead_letters"]:
        print(
            f"{letter['id']}  {letter['at'][:19]}Z  {letter['group_id']} by {letter['producer_id']}, "
            f"{letter['size']:,} bytes, delivered {letter['deliveries']}x: {letter['reason']}"
        )
    if page["next"]:
        print(f"more: --cursor {page['next']}")
    return 0


def _requeue(options: argparse.Namespace) -> int:
    from services.control_plane.client import ControlPlaneError

    requeued: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    with client_of(options) as (client, run_id):
        for letter_id in dict.fromkeys(options.ids):
            try:
                requeued.append(client.requeue_dead_letter(run_id, letter_id).model_dump(mode="json"))
            except ControlPlaneError as error:
                refused.append({"id": letter_id, "error": str(error)})
                # A refusal concerns one letter only; any other error would occur for every one of them.
                if error.status not in (404, 409, 422):
                    break
    if options.json:
        print(json.dumps({"requeued": requeued, "refused": refused}, indent=2))
    else:
        for outcome in requeued:
            print(f"{outcome['id']}: {outcome['group_id']} requeued as {outcome['requeued_as']}")
    if refused:
        raise ScopeError("; ".join(refusal["error"] for refusal in refused))
    return 0


def _purge(options: argparse.Namespace) -> int:
    with client_of(options) as (client, run_id):
        report = client.purge_dead_letters(run_id, options.ids, options.reason).model_dump(mode="json")
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for outcome in report["purged"]:
            print(f"{outcome['id']}: {outcome['group_id']} deleted ({outcome['reason']})")
    if report["unknown"]:
        raise ScopeError(f"not among the dead letters: {', '.join(report['unknown'])}")
    return 0


def stats_text(state: dict[str, Any]) -> str:
    """The resource in a few lines."""
    counters, sizes = state["counters"], state["bytes"]
    oldest = state["oldest_unread_seconds"]
    age = "" if oldest is None else f", the oldest for {oldest:.1f} s"
    full = "; full: generators wait" if state["back_pressure"] else ""
    leases = ", ".join(
        f"{role} {count['held']} held and {count['expired']} expired"
        for role, count in state["leases"].items()
    )
    return "\n".join(
        [
            f"unread {state['unread']} of {state['capacity']} groups ({state['share_used']:.0%}){age}{full}",
            f"pending {state['pending']} groups, {sizes['unacknowledged']:,} of at most "
            f"{sizes['unacknowledged_cap']:,} bytes",
            f"in Redis {sizes['stream']:,} bytes, dead letters {sizes['dead_letters']:,} bytes",
            f"produced {counters['produced']}, acknowledged {counters['acknowledged']}, duplicates "
            f"{counters['duplicates']}, refused when full {counters['refused_full']}",
            f"dead letters {state['dead_letters']} now, {counters['dead_lettered']} ever, "
            f"{counters['requeued']} requeued, {counters['purged']} purged; groups lost {state['lost']}",
            f"leases: {leases}; taken over {counters['releases']}",
        ]
    )
