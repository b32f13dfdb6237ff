"""Finding runs: in folders, comparisons, and under ids of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from services.recorded.find import distinct, recorded_runs
from trainer.errors import ScopeError


def ids(*places: Path, said: list[str] | None = None) -> list[str]:
    with recorded_runs(places, (said if said is not None else []).append) as runs:
        return [run.run_id for run in runs]


def test_a_folder_of_runs_has_each_run_under_the_name_of_its_directory(directory: Path) -> None:
    shutil.copytree(directory, directory.with_name("grpo"))
    (directory.parent / "notes").mkdir()
    assert ids(directory.parent) == ["grpo", "quickstart"]


def test_runs_of_two_machines_with_one_id_are_told_apart(directory: Path, tmp_path: Path) -> None:
    other = shutil.copytree(directory, tmp_path / "host-b" / "quickstart")
    said: list[str] = []
    assert ids(directory, other, said=said) == ["quickstart", "quickstart-2"]
    assert said == [f"{other} is shown as quickstart-2, because there is another run quickstart"]


def test_a_number_behind_a_long_id_keeps_it_an_id() -> None:
    long = "x" * 128
    assert distinct(long, {long}) == "x" * 126 + "-2"
    assert distinct("r", {"r", "r-2"}) == "r-3"


def test_a_comparison_has_the_runs_of_its_units(directory: Path, tmp_path: Path) -> None:
    comparison = tmp_path / "compare"
    shutil.copytree(directory, comparison / "runs" / "scope-s1")
    (comparison / "scope-s1").mkdir()
    (comparison / "scope-s1" / "config.yaml").write_text("steps: 6")
    (comparison / "comparison.json").write_text("{}")
    assert ids(comparison) == ["scope-s1"]


def test_a_run_of_a_folder_that_cannot_be_read_is_left_out_and_said(directory: Path) -> None:
    broken = Path(shutil.copytree(directory, directory.with_name("broken")))
    (broken / "steps.jsonl").write_bytes(b"{}\n")
    said: list[str] = []
    assert ids(directory.parent, said=said) == ["quickstart"]
    assert len(said) == 1
    assert said[0].startswith(f"{broken} is left out: ")
    with pytest.raises(ScopeError, match="cannot be read"):
        ids(broken)


def test_a_place_without_a_run_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ScopeError, match="has no run to show"):
            ids(place)


@pytest.mark.parametrize("name", ["with space", "-x", "ünïcode", "a\nb", ".hidden"])
def test_a_directory_of_any_name_gets_an_id(directory: Path, name: str) -> None:
    named = directory.rename(directory.with_name(name))
    (shown,) = ids(named)
    assert shown.replace("-", "").isalnum()
