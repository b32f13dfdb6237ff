"""A start that fails or is stopped before the first step does not block the next one."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.access.run_secrets import RunSecrets
from services.driver import open_run
from services.driver.open_run import new_run
from services.driver.unbegun import is_unbegun, mark_begun, withdraw
from services.run.directory import RunDirectory
from tests.support.repository import QUICKSTART
from tests.support.runs.shell import Shell
from trainer.errors import ScopeError


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """The directory of a start, unlocked as by the end of its process."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return start(tmp_path)


def start(tmp_path: Path, *, replace: bool = False) -> RunDirectory:
    settings = [f"runs_dir={tmp_path / 'runs'}", "control_plane.enabled=false", "ray.dashboard=false"]
    directory = new_run(QUICKSTART, settings, "main", replace=replace)
    (directory.path / ".lock").unlink()
    return directory


def test_a_directory_without_a_step_is_replaced(opened: RunDirectory, tmp_path: Path) -> None:
    (opened.path / "logs").mkdir()
    (opened.path / "steps.jsonl").touch()
    again = start(tmp_path)
    assert again.path == opened.path
    assert not (again.path / "logs").exists()
    assert [path.name for path in again.path.parent.iterdir()] == ["main"]


@pytest.mark.parametrize("sign", ["mark", "steps", "checkpoint"])
def test_a_directory_with_a_step_is_not_touched(opened: RunDirectory, tmp_path: Path, sign: str) -> None:
    if sign == "mark":
        mark_begun(opened.path)
    elif sign == "steps":
        (opened.path / "steps.jsonl").write_text("{}\n")
    else:
        (opened.path / "checkpoints" / "step-00000001").mkdir()
    assert not is_unbegun(opened.path)
    assert not withdraw(opened)
    with pytest.raises(ScopeError, match="exists already"):
        start(tmp_path)
    assert opened.path.exists()


def test_an_interrupted_start_removes_the_directory_and_the_secrets_of_its_run(opened: RunDirectory) -> None:
    secrets = RunSecrets(opened.path)
    secrets.ensure()
    assert withdraw(opened)
    assert withdraw(opened), "a second try finds it gone"
    assert not opened.path.exists()
    assert not secrets.directory.exists()


def test_a_failed_start_keeps_what_may_explain_it(opened: RunDirectory) -> None:
    assert not withdraw(opened, ScopeError(f"The embedded Redis ended; see {opened.path}/redis/redis.log."))
    (opened.path / "logs").mkdir()
    assert not withdraw(opened, ScopeError("base-generator-0 could not start"))
    (opened.path / "logs").rmdir()
    assert withdraw(opened, ScopeError("redis.url cannot be used"))


def test_a_directory_that_was_there_before_this_start_stays(opened: RunDirectory) -> None:
    assert not withdraw(RunDirectory(opened.path, opened.run_id, opened.config, resumed=True))
    assert opened.path.exists()


def test_a_start_that_fails_while_it_creates_the_directory_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(open_run, "write_format", fail)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path)
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["warm_start.cache_dir=/proc/nowhere"], "warm start cannot be written"),
        (["redis.server_binary=/bin/false"], "redis.server_binary"),
        (["model.path=/nowhere"], "model.path"),
        (["generators.gpus_per_generator=64"], "need 128 GPUs and this machine has"),
    ],
    ids=["warm start", "Redis", "model", "GPUs"],
)
def test_a_start_that_fails_leaves_no_directory(shell: Shell, settings: list[str], message: str) -> None:
    sets = [part for setting in settings for part in ("--set", setting)]
    off = ["--set", "control_plane.enabled=false", "--set", "ray.dashboard=false"]
    outcome = shell.scope("train", str(QUICKSTART), "--run-id", "main", *off, *sets)
    assert outcome.status == 2, outcome
    assert message in outcome.err
    assert not list((shell.home / "runs").glob("*"))
