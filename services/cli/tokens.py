"""`scope token`: create, list and revoke tokens of the control plane."""

from __future__ import annotations

import argparse
import re
from datetime import datetime
from typing import get_args

from services.access.tokens import Scope
from services.cli.connect import add_run, client_of
from services.cli.output import say, say_json
from services.cli.parser import add_commands, add_examples
from trainer.errors import ScopeError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def add_token(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and options of `scope token`."""
    actions = add_commands(parser, "create|list|revoke|whoami")
    add_examples(
        parser,
        "scope token create --scope operator --name me --expires 30d",
        "scope token list quickstart",
        "scope token revoke me",
    )
    create = actions.add_parser("create", help="create a token and print it; it cannot be shown again")
    create.add_argument("--name", required=True, help="who or what will use it")
    create.add_argument("--scope", required=True, choices=get_args(Scope), help="what it may do")
    create.add_argument("--expires", metavar="30d", help="number and unit s, m, h, d or w; default: never")
    create.add_argument("--replace", action="store_true", help="revoke the valid token of that name")
    listing = actions.add_parser("list", help="list the tokens, without their text")
    revoke = actions.add_parser("revoke", help="revoke a token with immediate effect")
    revoke.add_argument("name", help="name of the token")
    for action, command in ((create, _create), (listing, _list), (revoke, _revoke)):
        add_run(action, positional=action is not revoke)
        action.add_argument("--every-run", action="store_true", help="tokens that are valid for every run")
        action.set_defaults(command=command)
    add_examples(
        create,
        "scope token create --scope operator --name me --expires 30d",
        "scope token create --scope operator --name me --replace",
        "scope token create --scope viewer --name prometheus --every-run",
    )
    add_examples(listing, "scope token list", "scope token list --every-run --json")
    add_examples(revoke, "scope token revoke me", "scope token revoke me --run quickstart")
    whoami = actions.add_parser("whoami", help="show the scopes of your own token, and when it expires")
    add_run(whoami)
    add_examples(whoami, "scope token whoami", "scope token whoami quickstart --json")
    # With --url it needs no --run-id.
    whoami.set_defaults(command=_whoami, every_run=True)


def _create(options: argparse.Namespace) -> int:
    from services.control_plane.client import ControlPlaneError

    seconds = None if options.expires is None else _duration(options.expires)
    with client_of(options) as (client, run_id):
        try:
            made = client.create_token(
                run_of(options, run_id),
                options.name,
                options.scope,
                expires_in_seconds=seconds,
                replace=options.replace,
            )
        except ControlPlaneError as error:
            if error.problem is None or not error.problem.type.endswith(":name-taken"):
                raise
            raise ScopeError(
                f"There is already a token named {options.name!r}: replace it with --replace, or choose another --name."
            ) from error
    if options.json:
        say_json(made)
    else:
        say(made.token)
    return 0


def _list(options: argparse.Namespace) -> int:
    with client_of(options) as (client, run_id):
        found = client.tokens(run_of(options, run_id))
    if options.json:
        say_json([token.model_dump(mode="json") for token in found])
        return 0
    if not found:
        say("There is no token for every run." if options.every_run else f"Run {run_id} has no tokens.")
    for token in found:
        ends = "does not expire" if token.expires_at is None else f"until {time_of(token.expires_at)}"
        state = "expired" if token.expired else ends
        say(
            f"{token.name:24} {token.scope:9} created {time_of(token.created_at)} by {token.created_by}, {state}"
        )
    return 0


def _whoami(options: argparse.Namespace) -> int:
    with client_of(options) as (client, _):
        own = client.own_token()
    if options.json:
        say_json(own)
        return 0
    for grant in own.grants:
        where = "every run" if grant.run_id is None else f"run {grant.run_id}"
        ends = "does not expire" if grant.expires_at is None else f"until {time_of(grant.expires_at)}"
        say(f"{grant.name}: {grant.scope} on {where}, {ends}")
    return 0


def _revoke(options: argparse.Namespace) -> int:
    with client_of(options) as (client, run_id):
        client.revoke_token(run_of(options, run_id), options.name)
    if options.json:
        say_json({"revoked": options.name}, indent=None)
    else:
        say(f"token {options.name} is revoked")
    return 0


def run_of(options: argparse.Namespace, run_id: str) -> str | None:
    return None if options.every_run else run_id


def _duration(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhdw])", text)
    if found is None:
        raise ScopeError(
            f"--expires {text!r} is not allowed: a whole number and a unit s, m, h, d or w, such as 12h or 30d."
        )
    return int(found[1]) * _SECONDS[found[2]]


def time_of(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
