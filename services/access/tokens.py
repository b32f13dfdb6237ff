"""Bearer tokens of the control plane: create, list, revoke, authenticate.

A token is valid on one run, or on every run of a Redis, for a control plane that outlives runs. Redis stores the
SHA-256 of a token with its name, scope and expiry, never the token. The script that creates or revokes a token also
writes the entry of the audit, so that of several requests at once for one name exactly one finds it free.

A token is looked up by its SHA-256. The time of a look-up reveals at most a part of a stored digest, and a random token
cannot be derived from its digest, so that no comparison needs constant time.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from pydantic import BaseModel, ConfigDict

from services.access.audit import audit_key
from services.redis.keys import SERVICE_TOKENS, RunKeys
from services.redis.query import TIME, Read, as_fields, as_text, combine, command, fetch, server_time
from services.redis.scripts import script_text
from services.run.state import run_ids
from trainer.errors import ScopeError

if TYPE_CHECKING:
    from redis import Redis

Scope = Literal["viewer", "operator", "admin"]

_RANKS: dict[Scope, int] = {"viewer": 0, "operator": 1, "admin": 2}
_PREFIX = "scope_"

MIN_TOKEN_LENGTH = 16
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"
TOKEN_VARIABLE = "SCOPE_TOKEN"
"""Environment variable with a token: for `scope serve` the one valid on every run, for a client its own."""


class Principal(NamedTuple):
    """The owner of a token and its scope: viewers read, operators change, admins manage tokens."""

    name: str
    scope: Scope

    def may(self, needed: Scope) -> bool:
        """Whether this scope includes `needed`."""
        return _RANKS[self.scope] >= _RANKS[needed]


class TokenRecord(BaseModel):
    """What Redis stores of a token. Times are seconds since the epoch by Redis's clock."""

    model_config = ConfigDict(frozen=True)

    name: str
    scope: Scope
    created_at: float
    created_by: str
    expires_at: float | None = None
    """None: it does not expire"""


class NameTaken(ScopeError):
    """A valid token has that name."""


class Grant(NamedTuple):
    """A run that a token is valid on, and its record there."""

    run_id: str | None
    """None: every run"""
    record: TokenRecord


def new_token() -> str:
    """A new token of 256 random bits; the prefix lets secret scanners find it."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """The SHA-256 of a token, hexadecimal: the field of its record."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def register_token(
    redis: Redis,
    run_id: str | None,
    token: str,
    name: str,
    scope: Scope,
    *,
    seconds: float | None = None,
    replace: bool = True,
    by: str = "local",
    origin: str = "local",
) -> TokenRecord:
    """Make `token` valid on a run (None: on every run) as `name`. A name has one token; this revokes an older one.

    seconds: until it expires; None: never. replace: whether a valid token of that name may be revoked. Raises
    `NameTaken` where it may not, and `ScopeError` for a token shorter than `MIN_TOKEN_LENGTH` and for a name that does
    not match `NAME_PATTERN`.
    """
    if len(token) < MIN_TOKEN_LENGTH:
        raise ScopeError(
            f"The token for {name!r} has {len(token)} characters; it must have at least {MIN_TOKEN_LENGTH}, "
            "chosen at random, for instance by `openssl rand -hex 24`."
        )
    if not re.fullmatch(NAME_PATTERN, name):
        raise ScopeError(
            f"The token name {name!r} is not allowed: it must be 1 to 64 letters, digits, '.', '_', '@' or '-', "
            "beginning with a letter or a digit."
        )
    now = server_time(redis)
    record = TokenRecord(
        name=name,
        scope=scope,
        created_at=now,
        created_by=by,
        expires_at=None if seconds is None else now + seconds,
    )
    register = redis.register_script(script_text("services.access", "register_token"))
    reply = register(
        keys=[_key(run_id), audit_key(run_id)],
        args=[name, scope, digest_of(token), record.model_dump_json(), int(replace), by, origin],
    )
    outcome, *kept = cast("list[bytes]", reply)
    match as_text(outcome):
        case "taken":
            raise NameTaken(
                f"There is already a token named {name!r}. Revoke it first, or send replace = true."
            )
        case "kept":
            return _record(kept[0])
        case _:
            return record


def create_token(
    redis: Redis,
    run_id: str | None,
    name: str,
    scope: Scope,
    *,
    seconds: float | None = None,
    by: str = "local",
    origin: str = "local",
) -> str:
    """Create and register a token. The caller shows it once: Redis does not store it."""
    token = new_token()
    register_token(redis, run_id, token, name, scope, seconds=seconds, by=by, origin=origin)
    return token


def tokens_of(redis: Redis, run_id: str | None) -> list[TokenRecord]:
    """The tokens of a run (None: of every run), sorted by name, including expired ones."""
    return sorted(_stored(redis, _key(run_id)).values(), key=lambda record: record.name)


def revoke_token(
    redis: Redis, run_id: str | None, name: str, *, by: str = "local", origin: str = "local"
) -> bool:
    """Revoke the token of that name; returns whether there was one."""
    revoke = redis.register_script(script_text("services.access", "revoke_token"))
    return bool(revoke(keys=[_key(run_id), audit_key(run_id)], args=[name, by, origin]))


def authenticate(redis: Redis, run_id: str | None, token: str) -> Principal | None:
    """The owner of a token that is valid on the run (None: on every run); None for any other token."""
    found = fetch(redis, valid_token_read(run_id, token))
    return None if found is None else Principal(found.name, found.scope)


def valid_token_read(run_id: str | None, token: str) -> Read[TokenRecord | None]:
    """The record of a token that is valid on the run (None: on every run), as a `Read`."""
    own = [_own_read(key, token) for key in token_keys(run_id)]
    return combine(*own, TIME).map(lambda found: _valid(found[:-1], found[-1]))


def grants(redis: Redis, token: str) -> list[Grant]:
    """The runs that a token is valid on: every run (None) first, then runs by id. Empty for an invalid token."""
    return _grants(redis, run_ids(redis), token)


def has_expired(redis: Redis, token: str) -> bool:
    """Whether a token that is valid nowhere has expired, rather than being unknown or revoked."""
    return bool(_known(redis, run_ids(redis), token)[0])


def _grants(redis: Redis, every: list[str], token: str) -> list[Grant]:
    known, now = _known(redis, every, token)
    return [grant for grant in known if not is_expired(grant.record, now)]


def _known(redis: Redis, every: list[str], token: str) -> tuple[list[Grant], float]:
    """What a token is or was valid for, and the time."""
    scopes = (None, *every)
    *found, now = fetch(redis, combine(*(_own_read(_key(scope), token) for scope in scopes), TIME))
    known = zip(scopes, found, strict=True)
    return [Grant(scope, record) for scope, record in known if record is not None], now


def _own_read(key: str, token: str) -> Read[TokenRecord | None]:
    return command(lambda stored: None if stored is None else _record(stored), "HGET", key, digest_of(token))


def _valid(records: tuple[TokenRecord | None, ...], now: float) -> TokenRecord | None:
    record = next((record for record in records if record is not None), None)
    return None if record is None or is_expired(record, now) else record


def token_keys(run_id: str | None) -> tuple[str, ...]:
    """Redis keys of the hashes with the tokens of a run, its own first; None: of every run."""
    return (SERVICE_TOKENS,) if run_id is None else (RunKeys(run_id).tokens, SERVICE_TOKENS)


def is_expired(record: TokenRecord, now: float) -> bool:
    """Whether the token has expired. now: seconds since the epoch."""
    return record.expires_at is not None and now >= record.expires_at


def visible_runs(redis: Redis, token: str) -> list[str] | None:
    """The runs that a token is valid on, sorted; None for an invalid token."""
    every = run_ids(redis)
    found = _grants(redis, every, token)
    if any(grant.run_id is None for grant in found):
        return every
    return [grant.run_id for grant in found if grant.run_id is not None] or None


def any_token(redis: Redis) -> bool:
    """Whether Redis holds a token for any run."""
    return bool(redis.exists(SERVICE_TOKENS, *(_key(run_id) for run_id in run_ids(redis))))


def _key(run_id: str | None) -> str:
    return SERVICE_TOKENS if run_id is None else RunKeys(run_id).tokens


def _stored(redis: Redis, key: str) -> dict[str, TokenRecord]:
    stored = cast("dict[bytes, bytes]", redis.hgetall(key))
    return {digest: _record(document) for digest, document in as_fields(stored).items()}


def _record(document: bytes | str) -> TokenRecord:
    return TokenRecord.model_validate_json(document)
