"""Runs on a cluster: `--continue` accepts the same command line on every attempt."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli import main
from services.driver.learner_job import worker_resources
from services.driver.open_run import open_run
from services.driver.unbegun import mark_begun
from services.run.directory import FORMAT_FILE, RunDirectory
from tests.support.repository import QUICKSTART
from trainer.config import LearnerConfig
from trainer.errors import ScopeError


def opened(runs: Path, *overrides: str) -> RunDirectory:
    settings = [f"runs_dir={runs}", "control_plane.enabled=false", "ray.dashboard=false", *overrides]
    return open_run(QUICKSTART, settings, "main")


def test_run_that_does_not_exist_is_begun(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    assert not directory.resumed
    assert directory.path == tmp_path / "main"


def test_run_that_exists_is_continued_with_its_own_configuration(tmp_path: Path) -> None:
    first = opened(tmp_path, "steps=7")
    mark_begun(first.path)
    (first.path / ".lock").unlink()  # the process that held the lock has exited
    again = opened(tmp_path)
    assert again.resumed
    assert again.config.steps == 7


def test_run_without_a_step_is_begun_anew_with_the_configuration_of_the_retry(tmp_path: Path) -> None:
    first = opened(tmp_path, "steps=7")
    (first.path / ".lock").unlink()
    again = opened(tmp_path, "steps=8")
    assert not again.resumed
    assert again.config.steps == 8


@pytest.mark.parametrize("marker", [None, '{"run_directory": 3}'])
def test_run_directory_of_another_format_is_refused_in_one_sentence_and_left_as_it_is(
    tmp_path: Path, marker: str | None, capsys
) -> None:
    first = opened(tmp_path)
    (first.path / ".lock").unlink()
    (first.path / FORMAT_FILE).unlink()
    if marker is not None:
        (first.path / FORMAT_FILE).write_text(marker)
    before = sorted(path.name for path in first.path.iterdir())
    assert main(["train", "--resume", str(first.path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"format {1 if marker is None else 3} and this version reads format 2" in said
    assert sorted(path.name for path in first.path.iterdir()) == before


def test_directory_without_a_configuration_is_moved_aside(tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "leftover").touch()
    directory = opened(tmp_path)
    assert not directory.resumed
    assert not (directory.path / "leftover").exists()
    assert len(list(tmp_path.glob("main.*/leftover"))) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [str(QUICKSTART), "--continue"],
        [str(QUICKSTART), "--continue", "--run-id", "main", "--replace"],
        ["--continue", "--resume", "runs/main"],
    ],
)
def test_continue_needs_a_run_id_and_excludes_its_opposites(arguments: list[str], capsys) -> None:
    assert main(["train", *arguments]) == 2
    assert "--continue" in capsys.readouterr().err


def test_resource_of_ones_own_needs_a_cluster_that_has_it(tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match=r"generators.ray_resource='scope_generator' needs ray.address"):
        opened(tmp_path, "generators.ray_resource=scope_generator")


def test_learner_asks_for_its_own_resource_and_for_no_gpu_that_it_does_not_use() -> None:
    assert worker_resources(LearnerConfig(cpus_per_worker=2)) == {"CPU": 2}
    cluster = LearnerConfig(cpus_per_worker=8, gpus_per_worker=1, ray_resource="scope_learner")
    assert worker_resources(cluster) == {"CPU": 8, "GPU": 1, "scope_learner": 1}
