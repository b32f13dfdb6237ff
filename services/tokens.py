"""Bearer tokens of the control plane, and the files that hold a run's own secrets.

A token holds for one run, or for every run of a Redis (a control plane that outlives runs). Redis stores the
SHA-256 of a token with its name and scope, never the token. A run's own secrets live outside
the run directory, which people copy and publish: in `$XDG_STATE_HOME/scope-rl/<key>/` (by default in
`~/.local/state`), readable by their owner only, where the key is a hash of the run directory's path.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple, cast

from redis import Redis

from services.keys import SERVICE_TOKENS, RunKeys
from services.replies import as_fields
from services.run_state import run_ids
from trainer.errors import ScopeError

Scope = Literal["viewer", "operator", "admin"]

_RANKS: dict[Scope, int] = {"viewer": 0, "operator": 1, "admin": 2}
_PREFIX = "scope_"

MIN_TOKEN_LENGTH = 16
TOKEN_VARIABLE = "SCOPE_TOKEN"
"""Environment variable that may hold a token: for `scope serve` that of every run, for a client its own."""


class Principal(NamedTuple):
    """Who a token belongs to and what it may do: viewers read, operators change, admins grant."""

    name: str
    scope: Scope

    def may(self, needed: Scope) -> bool:
        """Whether this scope includes `needed`."""
        return _RANKS[self.scope] >= _RANKS[needed]


def new_token() -> str:
    """A fresh token, 256 random bits; the prefix lets secret scanners find it."""
    return _PREFIX + secrets.token_urlsafe(32)


def register_token(redis: Redis, run_id: str | None, token: str, name: str, scope: Scope) -> None:
    """Let `token` act on a run (None: on every run) as `name`. A name has one token: its older one ends.

    Raises `ScopeError` for a token that could be guessed.
    """
    if len(token) < MIN_TOKEN_LENGTH:
        raise ScopeError(
            f"The token for {name!r} has {len(token)} characters; it must have at least {MIN_TOKEN_LENGTH}, "
            "chosen at random, for instance by `openssl rand -hex 24`."
        )
    key = _key(run_id)
    older = [digest for digest, principal in _stored(redis, key).items() if principal.name == name]
    with redis.pipeline(transaction=True) as pipeline:
        if older:
            pipeline.hdel(key, *older)
        pipeline.hset(key, _digest(token), json.dumps({"name": name, "scope": scope}))
        pipeline.execute()


def create_token(redis: Redis, run_id: str | None, name: str, scope: Scope) -> str:
    """Make and register a token; the caller shows it once, it cannot be read back."""
    token = new_token()
    register_token(redis, run_id, token, name, scope)
    return token


def authenticate(redis: Redis, run_id: str | None, token: str) -> Principal | None:
    """Whose token this is on that run (None: on every run), or None. Compares in constant time."""
    presented = _digest(token)
    found = None
    for key in dict.fromkeys((_key(run_id), SERVICE_TOKENS)):
        for digest, principal in _stored(redis, key).items():
            if hmac.compare_digest(digest, presented):
                found = found or principal
    return found


def any_token(redis: Redis) -> bool:
    """Whether anybody at all may use the control plane."""
    return bool(redis.exists(SERVICE_TOKENS, *(_key(run_id) for run_id in run_ids(redis))))


class RunSecrets:
    """The private directory of one run on this machine; holds its admin token and the embedded Redis's files."""

    def __init__(self, run_dir: str | Path) -> None:
        location = str(Path(run_dir).resolve())
        state = Path(os.environ.get("XDG_STATE_HOME", ""))
        home = state if state.is_absolute() else Path.home() / ".local" / "state"
        self.run_dir = Path(location)
        self.directory = home / "scope-rl" / hashlib.sha256(location.encode()).hexdigest()[:16]

    @property
    def token_file(self) -> Path:
        """Holds the run's own admin token."""
        return self.directory / "token"

    def ensure(self) -> None:
        """Make the files that are missing, mode 0600 in a directory of mode 0700; existing ones stay.

        Raises `ScopeError` when the state directory cannot be written.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.directory.chmod(0o700)
            _write_once(self.directory / "run-directory", str(self.run_dir))
            _write_once(self.token_file, new_token())
        except OSError as error:
            raise ScopeError(
                f"The run's secrets cannot be kept in {str(self.directory)!r}: {error.strerror}. Make it "
                "writable, or name another place in XDG_STATE_HOME (an absolute path)."
            ) from None

    def token(self) -> str:
        """The run's own admin token. Raises `ScopeError` when this user on this machine has none."""
        try:
            return self.token_file.read_text().strip()
        except OSError as error:
            raise ScopeError(
                f"There is no token for the run {str(self.run_dir)!r}: {str(self.token_file)!r} cannot be "
                f"read ({error.strerror}). It is kept by the user and on the machine that started the run."
            ) from None


def _write_once(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all, readable by its owner only; an existing one stays."""
    if path.exists():
        path.chmod(0o600)
        return
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.") as draft:
        draft.write(f"{text}\n")
        draft.flush()
        os.fsync(draft.fileno())
        try:
            os.link(draft.name, path)
        except FileExistsError:
            # Another process of the same run was faster; its secret is as good.
            return


def _key(run_id: str | None) -> str:
    return SERVICE_TOKENS if run_id is None else RunKeys(run_id).tokens


def _stored(redis: Redis, key: str) -> dict[str, Principal]:
    stored = cast("dict[bytes, bytes]", redis.hgetall(key))
    return {digest: Principal(**json.loads(document)) for digest, document in as_fields(stored).items()}


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
