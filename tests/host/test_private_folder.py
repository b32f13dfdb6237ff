"""A private folder is closed to other users and goes with its process, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.host.private_folder import LONGEST_PARENT, PrivateFolder, remove_left
from tests.support.repository import ROOT
from tests.support.runs.terminal import short_temporary_folder
from trainer.errors import ScopeError

OWNER = """
import subprocess, sys, time
from pathlib import Path
from services.host.private_folder import PrivateFolder

folder = PrivateFolder(logs="logs", keep_logs_in=Path(sys.argv[1]))
(folder.path / "logs").mkdir()
log = (folder.path / "logs" / "out").open("w")
log.write("the last words")
log.flush()
child = subprocess.Popen(["sh", "-c", "sleep 600 > /dev/null & wait"], stdout=log)
print(folder.path, child.pid, folder._watcher.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The system's temporary folder of this test."""
    with short_temporary_folder() as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.fixture
def owner(
    temporary: Path, tmp_path: Path
) -> Iterator[Callable[[], tuple[subprocess.Popen[str], Path, int, int]]]:
    """Starts a process that makes a private folder: the process, the folder, a child that uses it, the watcher."""
    owners: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], Path, int, int]:
        owners.append(
            subprocess.Popen(
                [sys.executable, "-c", OWNER, str(tmp_path / "run" / "logs" / "kept")],
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
            )
        )
        assert owners[-1].stdout is not None
        folder, child, watcher = owners[-1].stdout.readline().split()
        return owners[-1], Path(folder), int(child), int(watcher)

    yield start
    for process in owners:
        process.kill()
        process.wait()


def gone(path: Path) -> bool:
    deadline = time.monotonic() + 20
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not path.exists()


def test_a_folder_is_closed_to_others_has_a_random_name_and_is_removed_at_the_end(temporary: Path) -> None:
    with PrivateFolder() as first, PrivateFolder() as second:
        assert first.path.stat().st_mode & 0o777 == 0o700
        assert first.path.stat().st_uid == os.getuid()
        assert first.path.name != second.path.name
        assert first.path.parent == second.path.parent == temporary
        first.remove()
        assert not first.path.exists()
    assert list(temporary.iterdir()) == []


def test_a_temporary_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    with pytest.raises(ScopeError, match=r"No temporary folder can be made in /proc: .* TMPDIR"):
        PrivateFolder()


def test_the_paths_of_sockets_in_it_are_short_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert len(os.fsencode(tmp_path)) > LONGEST_PARENT
    with PrivateFolder() as folder:
        longest = (
            folder.path / "ray" / "session_2026-11-30_18-19-24_123456_4194304" / "sockets" / "plasma_store"
        )
        assert len(os.fsencode(longest)) <= 107


def test_after_sigkill_the_watcher_kills_its_users_saves_its_logs_and_removes_it(
    owner: Callable[[], tuple[subprocess.Popen[str], Path, int, int]], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    process, folder, child, watcher = owner()
    process.kill()
    assert gone(folder)
    kept = tmp_path / "run" / "logs" / "kept"
    assert (kept / "out").read_text() == "the last words"
    assert kept.stat().st_mode == (tmp_path / "run").stat().st_mode
    assert gone(Path(f"/proc/{child}"))
    assert gone(Path(f"/proc/{watcher}"))


def test_a_folder_whose_watcher_was_killed_too_is_removed_by_the_next_process(
    owner: Callable[[], tuple[subprocess.Popen[str], Path, int, int]], temporary: Path, tmp_path: Path
) -> None:
    process, folder, child, watcher = owner()
    remove_left(temporary)
    assert folder.exists(), "its process lives"
    os.kill(watcher, signal.SIGKILL)
    process.kill()
    process.wait()
    other = temporary / "scope-run"
    other.mkdir()
    (other / ".lock").touch()
    with PrivateFolder():
        assert not folder.exists()
    assert gone(Path(f"/proc/{child}"))
    assert [path.name for path in temporary.iterdir()] == ["scope-run"], "a folder of another kind stays"
    assert not (tmp_path / "run").exists(), "logs of a run that was removed are not saved"
