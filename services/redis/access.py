"""Connections to the Redis of a run: address, password, retries, and the check before a run.

The password is in no URL, `repr` or configuration. It is read when a client is created, from a private file (embedded
server) or from the environment variable SCOPE_REDIS_PASSWORD.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from redis import Redis
from redis import asyncio as redis_asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import EqualJitterBackoff, NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from trainer.errors import ScopeError

PASSWORD_VARIABLE = "SCOPE_REDIS_PASSWORD"
OLDEST_VERSION = (7, 0)

RETRIES = 8
RETRY_BASE_SECONDS, RETRY_CAP_SECONDS = 0.05, 2.0
"""Waits between attempts double from twice the base up to the cap; jitter shortens each by at most half. Together they
last 4.5 to 9 seconds, enough for a server to restart."""
REPLY_TIMEOUT_SECONDS = 15.0
HEALTH_CHECK_SECONDS = 30


@dataclass(frozen=True)
class RedisAccess:
    """Address of Redis and location of its password; small, picklable, safe to log."""

    url: str
    """redis:// or rediss:// (TLS; options such as `?ssl_ca_certs=…` apply), without a password"""
    password_file: str | None = None
    """private file that holds the password; unset: SCOPE_REDIS_PASSWORD, if set"""
    connect_timeout_seconds: float = 5.0

    def sync(self) -> Redis:
        """A blocking client that retries lost connections and timeouts.

        Raises `ScopeError` for a bad URL. A wrong password is retried like a lost connection: `check` first.
        """
        return self._client(Redis, Retry(self._backoff, RETRIES))

    def asyncio(self) -> redis_asyncio.Redis:
        """Like `sync`, for asyncio; use it on one event loop only."""
        return self._client(redis_asyncio.Redis, AsyncRetry(self._backoff, RETRIES))

    def without_retries(self) -> Redis:
        """A blocking client without retries, which waits for `connect_timeout_seconds` at most."""
        return self._client(Redis, Retry(NoBackoff(), 0), reply_timeout=self.connect_timeout_seconds)

    @property
    def _backoff(self) -> EqualJitterBackoff:
        return EqualJitterBackoff(cap=RETRY_CAP_SECONDS, base=RETRY_BASE_SECONDS)

    def _client(self, kind: type, retry: object, *, reply_timeout: float = REPLY_TIMEOUT_SECONDS) -> Any:
        try:
            return kind.from_url(
                self.url,
                password=self._password(),
                socket_connect_timeout=self.connect_timeout_seconds,
                socket_timeout=reply_timeout,
                socket_keepalive=True,
                health_check_interval=HEALTH_CHECK_SECONDS,
                retry=retry,
            )
        except (ValueError, TypeError) as error:
            raise ScopeError(
                f"redis.url = {self.url!r} is not usable: {error}. "
                "Write redis://HOST:PORT/NUMBER, or rediss:// for TLS."
            ) from error

    def _password(self) -> str | None:
        if self.password_file is None:
            return os.environ.get(PASSWORD_VARIABLE)
        try:
            return Path(self.password_file).read_text().strip()
        except OSError as error:
            raise ScopeError(
                f"The password of redis.url = {self.url!r} cannot be read from {self.password_file}: "
                f"{error.strerror}. It belongs to the user who started the run."
            ) from error


def check(access: RedisAccess) -> list[str]:
    """Check that Redis can hold a run; returns warnings, one sentence each.

    Raises `ScopeError`: no answer within `connect_timeout_seconds`, wrong password, older than 7.0, or a
    memory limit with an eviction policy (which would drop acknowledged groups).
    """
    try:
        with access.without_retries() as client:
            client.ping()
            info = {**_info(client, "server"), **_info(client, "memory"), **_info(client, "persistence")}
    except AuthenticationError as error:
        raise ScopeError(
            f"redis.url = {access.url!r} refused the login: {error}. "
            f"Set the environment variable {PASSWORD_VARIABLE} to its password."
        ) from error
    except (RedisError, OSError) as error:
        raise ScopeError(
            f"redis.url = {access.url!r} cannot be used: {error} (tried for "
            f"{access.connect_timeout_seconds:g} seconds). Start that server or correct the address; leave "
            "redis.url unset for an embedded server."
        ) from error
    return _judge(access.url, info)


def _info(client: Redis, section: str) -> dict[str, Any]:
    return cast("dict[str, Any]", client.info(section))


def _judge(url: str, info: dict[str, Any]) -> list[str]:
    version = str(info.get("redis_version", "unknown"))
    if _numbers(version) < OLDEST_VERSION:
        raise ScopeError(
            f"redis.url = {url!r} is Redis {version}; this software needs 7.0 or newer (or Valkey). "
            "Upgrade it, or leave redis.url unset for an embedded server."
        )
    warnings = []
    policy = info.get("maxmemory_policy")
    if policy != "noeviction":
        if info.get("maxmemory"):
            raise ScopeError(
                f"redis.url = {url!r} has maxmemory-policy {policy}, which drops groups when memory is full; "
                "only noeviction is allowed: CONFIG SET maxmemory-policy noeviction."
            )
        warnings.append(f"Redis has maxmemory-policy {policy}; set noeviction before you set a memory limit.")
    if not info.get("aof_enabled"):
        warnings.append(
            "Redis has no append-only file (appendonly no): groups in the queue are lost if it restarts."
        )
    return warnings


def _numbers(version: str) -> tuple[int, int]:
    found = re.match(r"([0-9]{1,9})\.([0-9]{1,9})", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)
