"""`scope serve`: a standalone control plane over an existing Redis."""

from __future__ import annotations

import argparse
import os

from services.cli.parser import add_examples
from trainer.errors import ScopeError


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scope serve`."""
    parser.add_argument(
        "--redis-url", required=True, help="Redis of the runs; password in SCOPE_REDIS_PASSWORD"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--port", type=int, help="port to listen on (default: 8080, or the next free one when that is taken)"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="A=B",
        help="override a field of control_plane, for example reads_per_minute=6000",
    )
    add_examples(
        parser,
        "scope serve --redis-url redis://redis.example:6379/0",
        "scope serve --redis-url rediss://redis.example:6379/0 --port 9090 --set reads_per_minute=6000",
    )
    parser.set_defaults(command=_serve)


def _serve(options: argparse.Namespace) -> int:
    from services.access.tokens import TOKEN_VARIABLE
    from services.control_plane.standalone import run_standalone
    from services.redis.access import RedisAccess, check
    from trainer.config.load import default_config, validate_config

    try:
        validate_config({"redis": {"url": options.redis_url}})
    except ScopeError as error:
        raise ScopeError(f"--redis-url: {error}") from error
    port = [] if options.port is None else [f"port={options.port}"]
    settings = [f"host={options.host}", *port, *options.overrides]
    config = default_config([f"control_plane.{setting}" for setting in settings]).control_plane
    access = RedisAccess(options.redis_url)
    check(access)
    run_standalone(access, config, token=os.environ.get(TOKEN_VARIABLE))
    return 0
