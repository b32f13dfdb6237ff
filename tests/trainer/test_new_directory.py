"""A new directory appears whole or not at all, and replaces an earlier one only where it may."""

from pathlib import Path

import pytest

from trainer.errors import ScopeError
from trainer.files import new_directory


def build(out: Path, text: str, *, replace: bool = False) -> None:
    with new_directory(out, replace=replace) as writing:
        writing.mkdir()
        (writing / "file").write_text(text)


@pytest.mark.parametrize("replace", [False, True])
def test_it_appears_with_its_parents_and_leaves_nothing_beside_it(tmp_path: Path, replace: bool) -> None:
    build(tmp_path / "runs" / "model", "new", replace=replace)
    assert (tmp_path / "runs" / "model" / "file").read_text() == "new"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["model"]


def test_an_existing_directory_is_refused_unless_it_may_be_replaced(tmp_path: Path) -> None:
    build(tmp_path / "model", "old")
    (tmp_path / "model" / "left-over").write_text("")
    with pytest.raises(ScopeError, match="exists and is not empty"):
        build(tmp_path / "model", "new")
    assert (tmp_path / "model" / "file").read_text() == "old"
    build(tmp_path / "model", "new", replace=True)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["file"]
    assert (tmp_path / "model" / "file").read_text() == "new"


def test_a_failure_leaves_the_earlier_directory(tmp_path: Path) -> None:
    build(tmp_path / "model", "old")

    def fail() -> None:
        with new_directory(tmp_path / "model", replace=True) as writing:
            writing.mkdir()
            raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "file").read_text() == "old"
