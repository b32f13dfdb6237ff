"""The run's Redis: the configured server, checked, or an embedded one that the driver keeps alive."""

from __future__ import annotations

from types import TracebackType

from services.driver.run_directory import RunDirectory
from services.redis_client import RedisAccess, check
from services.redis_server import EmbeddedRedis
from services.run_secrets import RunSecrets
from trainer.errors import ScopeError

MAX_RESTARTS = 3


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

        To be called about once a second: clients ride out some seconds. Raises ScopeError after three restarts.
        """
        if self._embedded is None or self._embedded.pid is not None:
            return None
        if self._restarts >= MAX_RESTARTS:
            raise ScopeError(
                f"The embedded Redis ended again after {MAX_RESTARTS} restarts; see {self._embedded.log}."
            )
        self._restarts += 1
        self._embedded.start()
        return f"the embedded Redis had ended and is restarted ({self._restarts} of {MAX_RESTARTS})"
