"""Bearer tokens of the control plane, and the files that hold a run's own secrets.

Redis stores the SHA-256 of a token with its name and scope, never the token. A run's own secrets live outside
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

from services.keys import RunKeys
from services.replies import as_fields
from trainer.errors import ScopeError

Scope = Literal["viewer", "operator", "admin"]

_RANKS: dict[Scope, int] = {"viewer": 0, "operator": 1, "admin": 2}
_PREFIX = "scope_"


class Principal(NamedTuple):
    """Who a token belongs to and what it may do: a viewer reads, an operator also changes, an admin grants."""

    name: str
    scope: Scope

    def may(self, needed: Scope) -> bool:
        """Whether this scope includes `needed`."""
        return _RANKS[self.scope] >= _RANKS[needed]


def new_token() -> str:
    """A fresh token, 256 random bits; the prefix lets secret scanners find it."""
    return _PREFIX + secrets.token_urlsafe(32)


def register_token(redis: Redis, run_id: str, token: str, name: str, scope: Scope) -> None:
    """Let `token` act on a run as `name`. A name has one token: an older one of that name ends."""
    key = RunKeys(run_id).tokens
    older = [digest for digest, principal in _stored(redis, run_id).items() if principal.name == name]
    with redis.pipeline(transaction=True) as pipeline:
        if older:
            pipeline.hdel(key, *older)
        pipeline.hset(key, _digest(token), json.dumps({"name": name, "scope": scope}))
        pipeline.execute()


def create_token(redis: Redis, run_id: str, name: str, scope: Scope) -> str:
    """Make and register a token; the caller shows it once, it cannot be read back."""
    token = new_token()
    register_token(redis, run_id, token, name, scope)
    return token


def authenticate(redis: Redis, run_id: str, token: str) -> Principal | None:
    """Whose token this is on that run, or None. Compares in constant time."""
    presented = _digest(token)
    found = None
    for digest, principal in _stored(redis, run_id).items():
        if hmac.compare_digest(digest, presented):
            found = principal
    return found


def has_token(redis: Redis, run_id: str) -> bool:
    """Whether anybody at all may use the control plane on that run."""
    return bool(redis.exists(RunKeys(run_id).tokens))


class RunSecrets:
    """The secret files of one run on this machine: its admin token and the password of its embedded Redis."""

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

    @property
    def redis_password_file(self) -> Path:
        """Holds the password of the embedded Redis."""
        return self.directory / "redis-password"

    def ensure(self) -> None:
        """Make the files that are missing, mode 0600 in a directory of mode 0700; existing ones stay.

        Raises `ScopeError` when the state directory cannot be written.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.directory.chmod(0o700)
            _write_once(self.directory / "run-directory", str(self.run_dir))
            _write_once(self.token_file, new_token())
            _write_once(self.redis_password_file, secrets.token_urlsafe(32))
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


def _stored(redis: Redis, run_id: str) -> dict[str, Principal]:
    stored = cast("dict[bytes, bytes]", redis.hgetall(RunKeys(run_id).tokens))
    return {digest: Principal(**json.loads(document)) for digest, document in as_fields(stored).items()}


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
