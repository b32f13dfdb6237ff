"""A directory is created atomically and replaces an earlier one only if that is allowed."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from trainer.errors import ScopeError
from trainer.files import new_model_directory, replaced_directory

new_directory = partial(new_model_directory, replace=False)

Maker = Callable[[Path], AbstractContextManager[Path]]


def build(make: Maker, out: Path, text: str) -> None:
    with make(out) as writing:
        writing.mkdir()
        (writing / "file").write_text(text)


@pytest.mark.parametrize("make", [new_directory, replaced_directory])
def test_it_appears_and_leaves_nothing_beside_it(tmp_path: Path, make: Maker) -> None:
    build(make, tmp_path / "model", "new")
    assert (tmp_path / "model" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_existing_directory_is_refused_unless_it_may_be_replaced(tmp_path: Path) -> None:
    build(new_directory, tmp_path / "model", "old")
    (tmp_path / "model" / "left-over").write_text("")
    with pytest.raises(ScopeError, match="is not empty and holds no model"):
        build(new_directory, tmp_path / "model", "new")
    assert (tmp_path / "model" / "file").read_text() == "old"
    build(replaced_directory, tmp_path / "model", "new")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["file"]
    assert (tmp_path / "model" / "file").read_text() == "new"


def test_a_model_is_replaced_only_on_request_and_anything_else_never(tmp_path: Path) -> None:
    replacing = partial(new_model_directory, replace=True)
    build(replacing, tmp_path / "model", "old")
    with pytest.raises(ScopeError, match="is not empty and holds no model"):
        build(replacing, tmp_path / "model", "new")
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(ScopeError, match="--replace"):
        build(new_directory, tmp_path / "model", "new")
    assert (tmp_path / "model" / "file").read_text() == "old"
    build(replacing, tmp_path / "model", "new")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["file"]
    assert (tmp_path / "model" / "file").read_text() == "new"


def test_a_failure_leaves_the_earlier_directory(tmp_path: Path) -> None:
    build(replaced_directory, tmp_path / "model", "old")

    def fail() -> None:
        with replaced_directory(tmp_path / "model") as writing:
            writing.mkdir()
            raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "file").read_text() == "old"
