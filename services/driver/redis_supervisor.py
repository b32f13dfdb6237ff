"""The run's Redis: the configured server, checked, or an embedded one that the driver keeps alive."""

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
"""An embedded server that ran for this long before it died begins the count of restarts anew."""
PATIENCE_SECONDS = 20.0
"""Longest time without an answer; the run then ends. Clients in the run's processes wait for 9 seconds at most."""


class QueueServer:
    """A context manager; entered and left on the driver's main thread, which the embedded server is bound to."""

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

    def __enter__(self) -> QueueServer:
        if self._embedded is None:
            self.warnings = check(self._external)
        else:
            self._embedded.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._embedded is not None:
            self._embedded.stop()

    @property
    def access(self) -> RedisAccess:
        """How every process of the run reaches it."""
        return self._external if self._embedded is None else self._embedded.access

    def keep_alive(self) -> str | None:
        """Start the embedded server again, on its file and port, when it has died; a sentence if it had.

        To be called about once a second: clients ride out some seconds. Raises ScopeError after three restarts in a
        row, and when it cannot be started.
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
        """It answered the driver just now."""
        self._answered_at = time.monotonic()

    def missed(self, error: RedisError) -> None:
        """It did not answer the driver. Raises the error once that has lasted for `PATIENCE_SECONDS`."""
        if time.monotonic() - self._answered_at > PATIENCE_SECONDS:
            raise error
