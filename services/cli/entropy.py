"""`scope entropy`: read, change and watch the entropy target of a run."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from services.cli.connect import add_run, client_of
from services.cli.recorded import reader_of

if TYPE_CHECKING:
    from services.control_plane.client import Event


def add_entropy(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and options of `scope entropy`."""
    entropy = parser.add_subparsers(required=True, metavar="get|set|reset|history|watch")
    get = entropy.add_parser(
        "get", help="show the entropy target and the learner step from which it is in force"
    )
    add_run(get)
    get.set_defaults(command=_get)
    change = entropy.add_parser("set", help="change the entropy target of a run")
    change.add_argument("target", type=float, help="nats per token")
    change.add_argument(
        "--over-steps",
        type=int,
        default=0,
        metavar="N",
        help="learner steps of the linear ramp to the target (default: 0)",
    )
    _add_change(change)
    change.set_defaults(command=_set)
    reset = entropy.add_parser("reset", help="return to the configured entropy target and schedule")
    _add_change(reset)
    reset.set_defaults(command=_reset)
    log = entropy.add_parser(
        "history", help="list every change and the learner step from which it was in force"
    )
    log.add_argument(
        "--limit",
        type=int,
        default=20,
        metavar="N",
        help="number of events to show, newest first (default: 20)",
    )
    add_run(log)
    log.set_defaults(command=_history)
    watch = entropy.add_parser("watch", help="show the entropy and its target at every new step")
    add_run(watch)
    watch.set_defaults(command=_watch)


def _add_change(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--known",
        type=int,
        metavar="GENERATION",
        help="refuse the change if the generation is newer than this",
    )
    parser.add_argument(
        "--wait", action="store_true", help="wait until a learner step has applied the change"
    )
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="SECONDS", help="longest wait (default: 60)"
    )
    add_run(parser)


def _get(options: argparse.Namespace) -> int:
    with reader_of(options) as (client, run_id):
        _print_target(client.entropy_target(run_id).model_dump(mode="json"), options.json)
    return 0


def _set(options: argparse.Namespace) -> int:
    with client_of(options) as (client, run_id):
        answer = client.set_entropy_target(
            run_id,
            options.target,
            options.over_steps,
            known=options.known,
            wait=options.wait,
            timeout=options.timeout,
        )
    _print_target(answer.model_dump(mode="json"), options.json)
    return 0


def _reset(options: argparse.Namespace) -> int:
    with client_of(options) as (client, run_id):
        answer = client.reset_entropy_target(
            run_id, known=options.known, wait=options.wait, timeout=options.timeout
        )
    _print_target(answer.model_dump(mode="json"), options.json)
    return 0


def _history(options: argparse.Namespace) -> int:
    with reader_of(options) as (client, run_id):
        found = client.entropy_history(run_id, options.limit).model_dump(mode="json")
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for event in found["events"]:
        print(_event_text(event))
    return 0


def _watch(options: argparse.Namespace) -> int:
    from services.control_plane.client import Event

    with reader_of(options) as (client, run_id):
        run = client.run(run_id)
        if run.metadata.recorded_at is None:
            events = client.events(run_id)
        else:
            # A recorded run sends no events: its newest step and its end stand for them.
            step = [] if run.status.record is None else [Event("", "step", run.status.record)]
            events = iter([*step, Event("", "phase", {"phase": run.status.phase})])
        for event in events:
            print(
                json.dumps({"event": event.kind, **event.data}) if options.json else _text(run_id, event),
                flush=True,
            )
            if event.kind == "phase" and event.data["phase"] in ("finished", "failed"):
                break
    return 0


def _text(run_id: str, event: Event) -> str:
    match event.kind:
        case "entropy-target":
            return _event_text(event.data)
        case "phase":
            return f"run {run_id}: {event.data['phase']}"
        case "evaluation":
            found = ", ".join(f"pass@{k} {value:.3f}" for k, value in event.data["pass_at_k"].items())
            return f"after {event.data['step']} steps: held-out {found}"
        case _:
            return _step_text(event.data)


def _step_text(record: dict[str, Any]) -> str:
    entropy, target = (
        "   -  " if record.get(name) is None else f"{record[name]:.4f}"
        for name in ("entropy", "entropy_target")
    )
    limit = "  at the limit" if record.get("saturated") else ""
    return (
        f"step {record['step']:>6}  entropy {entropy}  entropy target {target}  T {record['next_temperature']:.2f}  "
        f"alpha {record['next_alpha']:.2f}{limit}"
    )


def _print_target(target: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(target, indent=2))
        return
    print(target_text(target))


def target_text(target: dict[str, Any]) -> str:
    """The resource in one line."""
    spec, status = target["spec"], target["status"]
    value, origin = spec["target"], ""
    if value is None:
        value = status["target"] if status["state"] == "applied" else None
        kind, first = spec["configured"]["schedule"]["kind"], spec["configured"]["target"]
        at = f" at step {status['step']}" if value is not None and kind != "hold" else ""
        auto = ", auto" if first == "auto" else ""
        if auto and status["state"] == "applied" and value is None:
            auto = ", auto: not measured yet"
        origin = f"{at} as configured ({kind}{auto})"
    shown = "target" if value is None else f"target {value:g} nats/token"
    held = {
        "applied": f"in force from learner step {status['applied_from_step']}",
        "pending": "not applied yet, in force from the next learner step",
        "superseded": "superseded by a newer one before a learner step applied it",
    }[status["state"]]
    return f"{shown}{origin}, generation {target['metadata']['generation']}: {held}"


def _event_text(event: dict[str, Any]) -> str:
    head = f"{event['at'][:19]}Z  generation {event['generation']:>3}  "
    match event["event"]:
        case "changed":
            to = "as configured" if event["target"] is None else f"{event['target']:g} nats/token"
            over = f" over {event['over_steps']} steps" if event["over_steps"] else ""
            return f"{head}changed to {to}{over} by {event['by']}"
        case "superseded":
            return (
                f"{head}superseded by generation {event['by']} before it took effect (step {event['step']})"
            )
        case _:
            return f"{head}in force from learner step {event['step']}"
