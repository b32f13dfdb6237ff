"""Files that are replaced whole or not at all."""

import os
from pathlib import Path

import pytest

from trainer.files import write_atomically


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_with_its_permissions_and_nothing_is_left_beside_it(
    tmp_path: Path, durable: bool
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    (tmp_path / ".secret.new").write_bytes(b"left by a writer that died")
    write_atomically(path, b"new", durable=durable, mode=0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_dies_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "document.json"
    path.write_bytes(b"old")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new", durable=True)
    assert path.read_bytes() == b"old"
