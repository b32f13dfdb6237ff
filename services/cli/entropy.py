"""`scope entropy`: read, change and watch the entropy target of a run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from services.cli.connect import add_run, client_of
from services.cli.output import complain, say, say_json
from services.cli.parser import add_commands, add_examples
from services.cli.recorded import reader_of
from trainer.errors import ScopeError

if TYPE_CHECKING:
    from services.control_plane.client import Event

LONGEST_WAIT = 60.0
"""seconds that one request to the control plane may wait"""


def add_entropy(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and options of `scope entropy`."""
    entropy = add_commands(parser, "get|set|reset|history|watch")
    add_examples(parser, "scope entropy get", "scope entropy set 0.35 --over-steps 20", "scope entropy watch")
    get = entropy.add_parser(
        "get", help="show the entropy target and the learner step from which it is in force"
    )
    add_run(get)
    add_examples(get, "scope entropy get", "scope entropy get quickstart --json")
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
    add_run(change, positional=False)
    add_examples(
        change,
        "scope entropy set 0.35",
        "scope entropy set 0.35 --over-steps 20 --wait",
        "scope entropy set 0.3 --run quickstart",
    )
    change.set_defaults(command=_set)
    reset = entropy.add_parser("reset", help="return to the configured entropy target and schedule")
    _add_change(reset)
    add_run(reset)
    add_examples(reset, "scope entropy reset", "scope entropy reset quickstart --wait --timeout 30")
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
    add_examples(log, "scope entropy history", "scope entropy history quickstart --limit 100")
    log.set_defaults(command=_history)
    watch = entropy.add_parser("watch", help="show the entropy and its target at every new step")
    add_run(watch)
    add_examples(watch, "scope entropy watch", "scope entropy watch quickstart --json")
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
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="longest wait, at most 60, after which the exit status is 1 (default: 60)",
    )


def _get(options: argparse.Namespace) -> int:
    with reader_of(options) as (client, run_id):
        target = client.entropy_target(run_id)
    _say_target(target.model_dump(mode="json"), options.json)
    return 0


def _set(options: argparse.Namespace) -> int:
    _check_timeout(options.timeout)
    with client_of(options) as (client, run_id):
        answer = client.set_entropy_target(
            run_id,
            options.target,
            options.over_steps,
            known=options.known,
            wait=options.wait,
            timeout=options.timeout,
        )
    return _changed(answer.model_dump(mode="json"), options)


def _reset(options: argparse.Namespace) -> int:
    _check_timeout(options.timeout)
    with client_of(options) as (client, run_id):
        answer = client.reset_entropy_target(
            run_id, known=options.known, wait=options.wait, timeout=options.timeout
        )
    return _changed(answer.model_dump(mode="json"), options)


def _check_timeout(seconds: float) -> None:
    if not 0 <= seconds <= LONGEST_WAIT:
        raise ScopeError(f"--timeout={seconds:g} is not allowed: from 0 to {LONGEST_WAIT:g} seconds.")


def _changed(target: dict[str, Any], options: argparse.Namespace) -> int:
    """Show the answer to a change; returns 1 if `--wait` was given and no learner step has applied the change."""
    _say_target(target, options.json)
    state = target["status"]["state"]
    if not options.wait or state == "applied":
        return 0
    if state == "pending":
        complain(f"no learner step has applied the change within {options.timeout:g} s; it remains requested")
    return 1


def _history(options: argparse.Namespace) -> int:
    with reader_of(options) as (client, run_id):
        found = client.entropy_history(run_id, options.limit).model_dump(mode="json")
    if options.json:
        say_json(found)
        return 0
    if not found["events"]:
        say(f"The entropy target of run {run_id} has never changed.")
    for event in found["events"]:
        say(_event_text(event))
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
            if options.json:
                say_json({"event": event.kind, **event.data}, indent=None)
            else:
                say(_text(run_id, event))
            if event.kind == "phase" and event.data["phase"] in ("finished", "failed"):
                return 0 if event.data["phase"] == "finished" else 1
    return 0


def _text(run_id: str, event: Event) -> str:
    match event.kind:
        case "entropy-target":
            return _event_text(event.data)
        case "phase":
            return f"run {run_id}: {event.data['phase']}"
        case "evaluation":
            found = ", ".join(f"pass@{k} {value:z.3f}" for k, value in event.data["pass_at_k"].items())
            return f"after {event.data['step']} steps: held-out {found}"
        case _:
            return _step_text(event.data)


def _step_text(record: dict[str, Any]) -> str:
    entropy, target = (
        "   -  " if record.get(name) is None else f"{record[name]:z.4f}"
        for name in ("entropy", "entropy_target")
    )
    limit = "  at the limit" if record.get("saturated") else ""
    return (
        f"step {record['step']:>6}  entropy {entropy}  entropy target {target}  T {record['next_temperature']:z.2f}  "
        f"alpha {record['next_alpha']:z.2f}{limit}"
    )


def _say_target(target: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say_json(target)
    else:
        say(target_text(target))


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
