"""The command line, `scope`. Heavy imports happen inside the commands that need them."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import ScopeError

if TYPE_CHECKING:
    from services.client import ControlPlaneClient

EXIT_USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 failed, 2 a fault that the message explains."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments, argparse.Namespace(arguments=arguments))
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ScopeError as error:
        print(f"scope: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("scope: given up", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scope", description="SCOPE-RL: post-training with entropy held at a set-point"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="run a configuration, or resume a run")
    train.add_argument("config", nargs="?", type=Path, help="YAML file")
    train.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="A.B=C", help="override a field"
    )
    train.add_argument("--run-id", help="name of the run directory; default: the file's name and the time")
    train.add_argument(
        "--replace", action="store_true", help="move an existing run directory of that name aside"
    )
    train.add_argument("--resume", type=Path, metavar="RUN_DIR", help="continue a stopped run")
    train.set_defaults(command=_train)

    _add_compare(commands.add_parser("compare", help="run a configuration under several entropy controls"))

    serve = commands.add_parser("serve", help="serve the control plane over an existing Redis")
    serve.add_argument("--redis-url", required=True)
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8080)
    serve.set_defaults(command=_serve)

    status = commands.add_parser("status", help="how a run goes")
    _add_run(status)
    status.set_defaults(command=_status)

    stop = commands.add_parser("stop", help="stop a run in order: checkpoint, then end")
    _add_run(stop)
    stop.set_defaults(command=_stop)

    entropy = commands.add_parser("entropy", help="read or move the entropy set-point").add_subparsers(
        required=True, metavar="get|set|reset|history"
    )
    get = entropy.add_parser("get", help="the set-point and the step it holds from")
    _add_run(get)
    get.set_defaults(command=_entropy_get)
    change = entropy.add_parser("set", help="change the set-point of a running run")
    change.add_argument("target", type=float, help="nats per token")
    change.add_argument(
        "--over-steps", type=int, default=0, metavar="N", help="learner steps over which it moves there"
    )
    _add_known(change)
    _add_wait(change)
    _add_run(change)
    change.set_defaults(command=_entropy_set)
    reset = entropy.add_parser("reset", help="return to the configured set-point and its schedule")
    _add_known(reset)
    _add_wait(reset)
    _add_run(reset)
    reset.set_defaults(command=_entropy_reset)
    log = entropy.add_parser("history", help="every change, and from which step it held")
    log.add_argument("--limit", type=int, default=20, metavar="N", help="the newest N events")
    _add_run(log)
    log.set_defaults(command=_entropy_history)
    return parser


def _add_known(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--known", type=int, metavar="GENERATION", help="refuse if the set-point has a newer generation"
    )


def _add_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", action="store_true", help="until a learner step has applied it")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS")


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="YAML file")
    parser.add_argument(
        "--controls",
        action="append",
        required=True,
        metavar="NAME,NAME:A.B=C,LABEL@NAME:A.B=C",
        help="entropy controls, the baseline first; overrides of one control after a colon",
    )
    parser.add_argument("--seeds", type=int, required=True, metavar="N", help="runs of each control")
    parser.add_argument("--first-seed", type=int, metavar="SEED", help="default: that of the configuration")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="A.B=C",
        help="override for every control",
    )
    parser.add_argument("--out", type=Path, help="default: compare-<name of the file> in runs_dir")
    parser.add_argument(
        "--in-process", action="store_true", help="one process a run instead of the full system"
    )
    parser.add_argument("--parallel", type=int, default=1, metavar="P", help="runs at once")
    parser.add_argument("--samples", type=int, help="of each held-out problem at the start and the end")
    parser.add_argument(
        "--evaluate-every", type=int, metavar="STEPS", help="with --in-process: also on the way; 0: not"
    )
    parser.set_defaults(command=_compare)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, metavar="RUN_DIR", help="default: the newest run under runs/")
    parser.add_argument("--url", help="control plane elsewhere; then --run-id and SCOPE_TOKEN are needed")
    parser.add_argument("--run-id", help="with --url: which run")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def _train(options: argparse.Namespace) -> int:
    from services.driver.run_directory import new_run, reopen_run

    if (options.config is None) == (options.resume is None):
        raise ScopeError("scope train needs either a configuration file or --resume RUN_DIR, and not both.")
    if options.resume is not None:
        if options.run_id or options.replace:
            raise ScopeError("--run-id and --replace belong to a new run, not to --resume.")
        directory = reopen_run(options.resume, options.overrides)
    else:
        directory = new_run(options.config, options.overrides, options.run_id, replace=options.replace)
    from services.driver.progress import Progress
    from services.driver.run import train

    progress = Progress()
    progress.say(f"run {directory.run_id} in {directory.path}")
    return train(directory, progress)


def _compare(options: argparse.Namespace) -> int:
    from services.compare.plan import make_plan

    plan = make_plan(
        options.config,
        options.controls,
        seeds=options.seeds,
        first_seed=options.first_seed,
        settings=options.overrides,
        out=options.out,
        in_process=options.in_process,
        parallel=options.parallel,
        samples=options.samples,
        evaluate_every=options.evaluate_every,
    )
    from services.compare.run import compare
    from services.driver.progress import Progress

    return compare(plan, Progress(), arguments=options.arguments)


def _serve(options: argparse.Namespace) -> int:
    from services.control_plane.standalone import run_standalone
    from services.redis_client import RedisAccess, check
    from services.tokens import TOKEN_VARIABLE
    from trainer.config_load import validate_config

    try:
        validate_config({"redis": {"url": options.redis_url}})
    except ScopeError as error:
        raise ScopeError(f"--redis-url: {error}") from error
    access = RedisAccess(options.redis_url)
    check(access)
    run_standalone(access, options.host, options.port, token=os.environ.get(TOKEN_VARIABLE))
    return 0


def _status(options: argparse.Namespace) -> int:
    with _client(options) as (client, run_id):
        run = client.run(run_id).model_dump(mode="json")
    print(json.dumps(run, indent=2) if options.json else _status_text(run))
    return 0


def _stop(options: argparse.Namespace) -> int:
    with _client(options) as (client, run_id):
        client.stop(run_id)
    print(f"run {run_id} stops after its current step")
    return 0


def _entropy_get(options: argparse.Namespace) -> int:
    with _client(options) as (client, run_id):
        _print_target(client.entropy_target(run_id).model_dump(mode="json"), options.json)
    return 0


def _entropy_set(options: argparse.Namespace) -> int:
    with _client(options) as (client, run_id):
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


def _entropy_reset(options: argparse.Namespace) -> int:
    with _client(options) as (client, run_id):
        answer = client.reset_entropy_target(
            run_id, known=options.known, wait=options.wait, timeout=options.timeout
        )
    _print_target(answer.model_dump(mode="json"), options.json)
    return 0


def _entropy_history(options: argparse.Namespace) -> int:
    with _client(options) as (client, run_id):
        found = client.entropy_history(run_id, options.limit).model_dump(mode="json")
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for event in found["events"]:
        print(_event_text(event))
    return 0


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


@contextmanager
def _client(options: argparse.Namespace) -> Iterator[tuple[ControlPlaneClient, str]]:
    """A client for the run that the options name, and its run id."""
    from services.client import ControlPlaneClient, ControlPlaneError

    url, run_id, token = _endpoint(options)
    try:
        with ControlPlaneClient(url, token) as client:
            yield client, run_id
    except ControlPlaneError as error:
        raise ScopeError(str(error)) from error


def _endpoint(options: argparse.Namespace) -> tuple[str, str, str]:
    from services.tokens import TOKEN_VARIABLE, RunSecrets

    token = os.environ.get(TOKEN_VARIABLE)
    if token and not re.fullmatch(r"[!-~]+", token):
        raise ScopeError(
            f"{TOKEN_VARIABLE} holds a character that no token has; allowed are printable ASCII ones."
        )
    if options.url:
        if not options.run_id or not token:
            raise ScopeError(
                f"--url needs --run-id and a bearer token in the environment variable {TOKEN_VARIABLE}."
            )
        return options.url, options.run_id, token
    run = options.run or _newest_run()
    try:
        endpoint = json.loads((run / "endpoint.json").read_text())
    except (OSError, ValueError) as error:
        raise ScopeError(
            f"--run {run} has no endpoint.json: it is not a run directory, or its control plane never started."
        ) from error
    return endpoint["url"], endpoint["run_id"], token or RunSecrets(run).token()


def _newest_run() -> Path:
    found = sorted(Path("runs").glob("*/endpoint.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ScopeError("There is no run under ./runs; name one with --run RUN_DIR.")
    return found[-1].parent


def _print_target(target: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(target, indent=2))
        return
    print(_target_text(target))


def _target_text(target: dict[str, Any]) -> str:
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
        "applied": f"holds from learner step {status['applied_from_step']}",
        "pending": "not applied yet, the next learner step takes it up",
        "superseded": "replaced by a newer one before a learner step took it up",
    }[status["state"]]
    return f"{shown}{origin}, generation {target['metadata']['generation']}: {held}"


def _status_text(run: dict[str, Any]) -> str:
    status = run["status"]
    lines = [f"run {run['metadata']['id']}: {status['phase']}, step {status['step']} of {status['of']}"]
    record = status.get("record")
    if record:
        set_point = "none" if record["set_point"] is None else f"{record['set_point']:.3f}"
        lines.append(
            f"entropy {record['entropy'] or float('nan'):.3f} nats/token, set-point {set_point}, temperature "
            f"{record['next_temperature']:.2f}, alpha {record['next_alpha']:.2f}, reward {record['reward']:.3f}, "
            f"{record['step_seconds']:.2f} s/step"
        )
    if status.get("error"):
        lines.append(f"error: {status['error']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
