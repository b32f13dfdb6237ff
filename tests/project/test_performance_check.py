"""Recorded performance ratios, and the check that reports regressions."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.performance.check import RATIOS, REPOSITORY, RESULTS, main


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the recorded results, committed."""
    (tmp_path / RESULTS).mkdir(parents=True)
    for name in {ratio.file for ratio in RATIOS}:
        shutil.copy(REPOSITORY / RESULTS / name, tmp_path / RESULTS / name)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "recorded"]):
        subprocess.run([*git, *command], check=True)
    return tmp_path


def change(repository: Path, file: str, keys: tuple[str, ...], factor: float) -> None:
    path = repository / RESULTS / file
    document = inner = json.loads(path.read_text())
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] *= factor
    path.write_text(json.dumps(document))


def test_results_as_recorded_have_not_fallen(repository, capsys):
    assert main([], repository) == 0
    assert f"0 of {len(RATIOS)} fell by more than 15%" in capsys.readouterr().out


@pytest.mark.parametrize("ratio", RATIOS, ids=lambda ratio: ratio.name)
def test_a_ratio_that_is_a_fifth_worse_is_flagged_and_one_that_is_a_tenth_worse_is_not(
    repository, capsys, ratio
):
    change(repository, ratio.file, ratio.keys, 1 - 0.1 * ratio.better)
    assert main([], repository) == 0
    change(repository, ratio.file, ratio.keys, (1 - 0.2 * ratio.better) / (1 - 0.1 * ratio.better))
    assert main([], repository) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.endswith("fell")]
    assert line.startswith(ratio.name)
