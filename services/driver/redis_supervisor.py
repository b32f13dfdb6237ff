"""The run's Redis: the configured server, which is checked, or an embedded one, which the driver restarts."""

from __future__ import annotations

import time
from types import TracebackType

from redis.exceptions import RedisError

from services.access.run_secrets import RunSecrets
from services.redis.access import RedisAccess, check
from services.redis.embedded import EmbeddedRedis
from services.run.directory import RunDirectory
from trainer.errors import ScopeError

MAX_RESTARTS = 3
HEALTHY_SECONDS = 60.0
"""An embedded server that ran for this long before it ended has its count of restarts reset."""
PATIENCE_SECONDS = 20.0
"""The run ends when Redis has not answered for this long. Clients in the run's processes wait at most 9 seconds."""


class RedisSupervisor:
    """The run's Redis, as a context manager.

    Enter and leave it on the driver's main thread: the embedded server ends with that thread.
    """

    def __init__(self, directory: RunDirectory, secrets: RunSecrets) -> None:
        config = directory.config.redis
        self._embedded = (
            EmbeddedRedis(config, data_dir=directory.path / "redis", state_dir=secrets.directory)
            if config.url is None
            else None
        )
        self._external = RedisAccess(config.url or "", None, config.connect_timeout_seconds)
        self._restarts = 0
        self._started_at = self._answered_at = time.monotonic()
        self.warnings: list[str] = []

    def __enter__(self) -> RedisSupervisor:
        if self._embedded is None:
            self.warnings = check(self._external)
        else:
            try:
                self._embedded.start()
            except BaseException:
                self._embedded.kill()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._embedded is not None:
            self._embedded.stop()

    @property
    def access(self) -> RedisAccess:
        """Address and credentials for every process of the run."""
        return self._external if self._embedded is None else self._embedded.access

    def keep_alive(self) -> str | None:
        """Restart the embedded server with its data and port if it has ended; returns a message about it.

        Call it about once a second, because clients wait some seconds only. Raises ScopeError after three restarts in
        a row, and when the server does not start.
        """
        if self._embedded is None or self._embedded.pid is not None:
            return None
        if time.monotonic() - self._started_at > HEALTHY_SECONDS:
            self._restarts = 0
        if self._restarts >= MAX_RESTARTS:
            raise ScopeError(
                f"The embedded Redis ended again after {MAX_RESTARTS} restarts; see {self._embedded.log}."
            )
        self._restarts += 1
        self._embedded.start()
        self._started_at = self._answered_at = time.monotonic()
        return f"the embedded Redis had ended and is restarted ({self._restarts} of {MAX_RESTARTS})"

    def answered(self) -> None:
        """Record that Redis has just answered the driver."""
        self._answered_at = time.monotonic()

    def missed(self, error: RedisError) -> None:
        """Record that Redis did not answer. Raises `error` once that has lasted for `PATIENCE_SECONDS`."""
        if time.monotonic() - self._answered_at > PATIENCE_SECONDS:
            raise error
