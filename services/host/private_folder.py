"""A temporary folder that only its owner can enter, removed however the process that made it ends.

A second process, the watcher, waits for the end of the first: the kernel then closes the pipe between them, also after
SIGKILL. The watcher kills what still uses the folder, saves the logs in it, and removes it. If the watcher was killed
too, the next process that makes a folder removes the one that was left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from services.host.orphans import kill_orphans
from trainer.errors import ScopeError
from trainer.files import give_usual_permissions

PREFIX = "scope-"
LOCK = ".private-folder"
"""the file that the folder's process keeps locked; no other folder has one"""
LONGEST_PARENT = 22
"""Longest path of the parent folder, bytes. A socket's path has at most 107, of which Ray uses 85 below the parent."""
WATCHER_SECONDS = 10.0


class PrivateFolder:
    """A folder of mode 0700 with a random name, as a context manager.

    It lies in the system's temporary folder, or in /tmp where that would make the paths of sockets too long. logs:
    a folder in it, or a link to one, which takes the place of `keep_logs_in` at the end. Raises ScopeError when the
    folder cannot be made.
    """

    def __init__(self, *, logs: str | None = None, keep_logs_in: Path | None = None) -> None:
        self._logs, self._keep_logs_in = logs, keep_logs_in
        parent = Path(tempfile.gettempdir())
        parent = parent if len(os.fsencode(parent)) <= LONGEST_PARENT else Path("/tmp")
        remove_left(parent)
        try:
            # Under another name until it is locked, so that nobody takes it for one that was left.
            self.path = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
        except OSError as error:
            raise ScopeError(
                f"No temporary folder can be made in {parent}: {error.strerror}. Free space there or make it writable, "
                "or name another place in the environment variable TMPDIR."
            ) from error
        try:
            self._lock = (self.path / LOCK).open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self.path = self.path.rename(self.path.with_name(self.path.name[1:]))
            self._watcher = subprocess.Popen(
                [sys.executable, "-m", "services.host.private_folder", *self._arguments()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def __enter__(self) -> PrivateFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Kill every process that uses the folder, save its logs and remove it. Doing so again changes nothing."""
        clear(*self._arguments())
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()
        try:
            self._watcher.wait(WATCHER_SECONDS)
        except subprocess.TimeoutExpired:
            self._watcher.kill()
            self._watcher.wait()
        self._lock.close()

    def _arguments(self) -> list[str]:
        kept = (
            [] if self._logs is None or self._keep_logs_in is None else [self._logs, str(self._keep_logs_in)]
        )
        return [str(self.path), *kept]


def clear(folder: str, logs: str | None = None, keep_logs_in: str | None = None) -> None:
    """Kill every other process that uses `folder`, save its logs, and remove it.

    logs: path below `folder`. keep_logs_in: the folder to save them as, if its parent's parent exists. Logs that cannot
    be saved are given up: the disk may be full.
    """
    path = Path(folder)
    if not path.exists():
        return
    kill_orphans(path)
    if logs is not None and keep_logs_in is not None and (path / logs).is_dir():
        destination = Path(keep_logs_in)
        with contextlib.suppress(OSError, shutil.Error):
            # A run directory that was deleted is not made again.
            if destination.parent.parent.is_dir():
                shutil.rmtree(destination, ignore_errors=True)
                shutil.copytree((path / logs).resolve(), destination, ignore_dangling_symlinks=True)
                give_usual_permissions(destination)
    shutil.rmtree(path, ignore_errors=True)


def remove_left(parent: Path) -> None:
    """Remove the folders of this user in `parent` whose process and watcher have ended."""
    for path in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), _locked(path):
            clear(str(path))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a folder that its process no longer holds. Raises OSError for every other folder or file."""
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        raise PermissionError(str(path))
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def main() -> None:
    """Wait until the process that holds the other end of stdin has ended, then clear the folder."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    clear(*sys.argv[1:4])


if __name__ == "__main__":
    main()
