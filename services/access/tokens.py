"""Bearer tokens of the control plane: made, listed, revoked, recognised.

A token holds for one run, or for every run of a Redis (a control plane that outlives runs). Redis stores the SHA-256 of
a token with its name, scope and expiry, never the token. Who made or revoked one stands in the audit.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from pydantic import BaseModel, ConfigDict

from services.access.audit import Act, audit_key, note
from services.redis.keys import SERVICE_TOKENS, RunKeys
from services.redis.query import TIME, Read, as_fields, combine, command, fetch, server_time
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
"""Environment variable that may hold a token: for `scope serve` that of every run, for a client its own."""


class Principal(NamedTuple):
    """Who a token belongs to and what it may do: viewers read, operators change, admins grant."""

    name: str
    scope: Scope

    def may(self, needed: Scope) -> bool:
        """Whether this scope includes `needed`."""
        return _RANKS[self.scope] >= _RANKS[needed]


class TokenRecord(BaseModel):
    """What is known of a token. Times are seconds since the epoch by the server's clock."""

    model_config = ConfigDict(frozen=True)

    name: str
    scope: Scope
    created_at: float
    created_by: str
    expires_at: float | None = None
    """None: it does not expire"""


class Grant(NamedTuple):
    """One thing that a token is valid for."""

    run_id: str | None
    """None: every run"""
    record: TokenRecord


def new_token() -> str:
    """A fresh token, 256 random bits; the prefix lets secret scanners find it."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """What a token is stored as."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def register_token(
    redis: Redis,
    run_id: str | None,
    token: str,
    name: str,
    scope: Scope,
    *,
    seconds: float | None = None,
    by: str = "local",
    origin: str = "local",
) -> TokenRecord:
    """Let `token` act on a run (None: on every run) as `name`. A name has one token: its older one ends.

    seconds: until it expires; None: never. Raises `ScopeError` for a token that could be guessed and for a name that
    is none.
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
    key, now = _key(run_id), server_time(redis)
    record = TokenRecord(
        name=name,
        scope=scope,
        created_at=now,
        created_by=by,
        expires_at=None if seconds is None else now + seconds,
    )
    stored = _stored(redis, key)
    older = [digest for digest, other in stored.items() if other.name == name]
    if older == [digest_of(token)] and _same(stored[older[0]], record):
        return stored[older[0]]
    with redis.pipeline(transaction=True) as pipeline:
        if older:
            pipeline.hdel(key, *older)
        pipeline.hset(key, digest_of(token), record.model_dump_json())
        note(pipeline, audit_key(run_id), Act("create-token", by, origin, after=f"{name} {scope}", at=now))
        pipeline.execute()
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
    """Make and register a token; the caller shows it once, it cannot be read back."""
    token = new_token()
    register_token(redis, run_id, token, name, scope, seconds=seconds, by=by, origin=origin)
    return token


def tokens_of(redis: Redis, run_id: str | None) -> list[TokenRecord]:
    """The tokens of a run (None: of every run) by name, expired ones among them."""
    return sorted(_stored(redis, _key(run_id)).values(), key=lambda record: record.name)


def revoke_token(
    redis: Redis, run_id: str | None, name: str, *, by: str = "local", origin: str = "local"
) -> bool:
    """End the token of that name at once; whether there was one."""
    key = _key(run_id)
    stored = _stored(redis, key)
    found = [digest for digest, record in stored.items() if record.name == name]
    if not found:
        return False
    before = f"{name} {stored[found[0]].scope}"
    with redis.pipeline(transaction=True) as pipeline:
        pipeline.hdel(key, *found)
        note(
            pipeline,
            audit_key(run_id),
            Act("revoke-token", by, origin, before=before, at=server_time(redis)),
        )
        pipeline.execute()
    return True


def authenticate(redis: Redis, run_id: str | None, token: str) -> Principal | None:
    """Whose valid token this is on that run (None: on every run), or None. Compares in constant time."""
    found = fetch(redis, valid_token_read(run_id, token))
    return None if found is None else Principal(found.name, found.scope)


def valid_token_read(run_id: str | None, token: str) -> Read[TokenRecord | None]:
    """The read of what is known of a token that is valid on the run (None: on every run)."""
    own = [_own_read(key, token) for key in token_keys(run_id)]
    return combine(*own, TIME).map(lambda found: _valid(found[:-1], found[-1]))


def grants(redis: Redis, token: str) -> list[Grant]:
    """What a token is valid for: every run first, then runs by id; empty where it is valid nowhere."""
    return _grants(redis, run_ids(redis), token)


def _grants(redis: Redis, every: list[str], token: str) -> list[Grant]:
    scopes = (None, *every)
    *found, now = fetch(redis, combine(*(_own_read(_key(scope), token) for scope in scopes), TIME))
    valid = [_valid((record,), now) for record in found]
    return [Grant(scope, record) for scope, record in zip(scopes, valid, strict=True) if record is not None]


def _own_read(key: str, token: str) -> Read[TokenRecord | None]:
    presented = digest_of(token).encode()
    return command(lambda stored: _found(stored, presented), "HGETALL", key)


def _valid(records: tuple[TokenRecord | None, ...], now: float) -> TokenRecord | None:
    record = next((record for record in records if record is not None), None)
    return None if record is None or is_expired(record, now) else record


def token_keys(run_id: str | None) -> tuple[str, ...]:
    """The hashes that hold the tokens of a run, the run's own first; None: of every run."""
    return (SERVICE_TOKENS,) if run_id is None else (RunKeys(run_id).tokens, SERVICE_TOKENS)


def _found(stored: dict[bytes, bytes], presented: bytes) -> TokenRecord | None:
    found = None
    for digest, document in stored.items():
        if hmac.compare_digest(digest, presented):
            found = document
    return None if found is None else TokenRecord(**json.loads(found))


def is_expired(record: TokenRecord, now: float) -> bool:
    """Whether the token has ended by itself. now: seconds since the epoch."""
    return record.expires_at is not None and now >= record.expires_at


def visible_runs(redis: Redis, token: str) -> list[str] | None:
    """The runs, sorted, on which a token is valid; None where it is valid nowhere."""
    every = run_ids(redis)
    found = _grants(redis, every, token)
    if any(grant.run_id is None for grant in found):
        return every
    return [grant.run_id for grant in found if grant.run_id is not None] or None


def any_token(redis: Redis) -> bool:
    """Whether anybody at all may use the control plane."""
    return bool(redis.exists(SERVICE_TOKENS, *(_key(run_id) for run_id in run_ids(redis))))


def _same(one: TokenRecord, other: TokenRecord) -> bool:
    return (one.scope, one.expires_at, other.expires_at) == (other.scope, None, None)


def _key(run_id: str | None) -> str:
    return SERVICE_TOKENS if run_id is None else RunKeys(run_id).tokens


def _stored(redis: Redis, key: str) -> dict[str, TokenRecord]:
    return _records(cast("dict[bytes, bytes]", redis.hgetall(key)))


def _records(stored: dict[bytes, bytes]) -> dict[str, TokenRecord]:
    return {digest: TokenRecord(**json.loads(document)) for digest, document in as_fields(stored).items()}
