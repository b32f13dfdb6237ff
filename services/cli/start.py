"""Commands that run something here: train, compare, serve."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from trainer.errors import ScopeError


def add_train(parser: argparse.ArgumentParser) -> None:
    """`scope train`."""
    parser.add_argument("config", nargs="?", type=Path, help="YAML file")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="A.B=C", help="override a field"
    )
    parser.add_argument("--run-id", help="name of the run directory; default: the file's name and the time")
    parser.add_argument(
        "--replace", action="store_true", help="move an existing run directory of that name aside"
    )
    parser.add_argument("--resume", type=Path, metavar="RUN_DIR", help="continue a stopped run")
    parser.add_argument(
        "--continue",
        dest="go_on",
        action="store_true",
        help="continue the run of that --run-id where it exists, else start it: what a job that is retried needs",
    )
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="of what goes to the terminal"
    )
    parser.set_defaults(command=_train)


def add_compare(parser: argparse.ArgumentParser) -> None:
    """`scope compare`."""
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


def add_serve(parser: argparse.ArgumentParser) -> None:
    """`scope serve`."""
    parser.add_argument("--redis-url", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="A=B",
        help="override a field of control_plane, such as reads_per_minute=6000",
    )
    parser.set_defaults(command=_serve)


def _train(options: argparse.Namespace) -> int:
    from services.driver.run_directory import new_run, open_run, reopen_run

    if (options.config is None) == (options.resume is None):
        raise ScopeError("scope train needs either a configuration file or --resume RUN_DIR, and not both.")
    if options.resume is not None:
        if options.run_id or options.replace or options.go_on:
            raise ScopeError("--run-id, --replace and --continue belong to a new run, not to --resume.")
        directory = reopen_run(options.resume, options.overrides)
    elif options.go_on:
        if not options.run_id or options.replace:
            raise ScopeError("--continue needs --run-id, and excludes --replace.")
        directory = open_run(options.config, options.overrides, options.run_id)
    else:
        directory = new_run(options.config, options.overrides, options.run_id, replace=options.replace)
    from services.driver.progress import JsonProgress, Progress
    from services.driver.run import train

    progress = JsonProgress(directory.run_id) if options.log_format == "json" else Progress()
    progress.say(f"run {directory.run_id} in {directory.path}")
    for note in directory.notes:
        progress.say(note)
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
    from services.access.tokens import TOKEN_VARIABLE
    from services.control_plane.standalone import run_standalone
    from services.redis_client import RedisAccess, check
    from trainer.config.load import default_config, validate_config

    try:
        validate_config({"redis": {"url": options.redis_url}})
    except ScopeError as error:
        raise ScopeError(f"--redis-url: {error}") from error
    settings = [f"host={options.host}", f"port={options.port}", *options.overrides]
    config = default_config([f"control_plane.{setting}" for setting in settings]).control_plane
    access = RedisAccess(options.redis_url)
    check(access)
    run_standalone(access, config, token=os.environ.get(TOKEN_VARIABLE))
    return 0
