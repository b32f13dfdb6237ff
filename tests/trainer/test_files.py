"""Files that are replaced whole or not at all."""

import os
from pathlib import Path

import pytest

from trainer.files import replaced_directory, write_atomically


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


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_a_directory_gets_the_permissions_of_the_umask_whatever_a_library_gave_it(
    tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        with replaced_directory(tmp_path / "model") as writing:
            (writing / "folder").mkdir(parents=True)
            (writing / "folder").chmod(0o777)
            for name, mode in (("model.safetensors", 0o600), ("config.json", 0o666), ("convert.py", 0o744)):
                (writing / name).touch()
                (writing / name).chmod(mode)
            (writing / "link").symlink_to(tmp_path)
            outside = tmp_path.stat().st_mode
    finally:
        os.umask(before)
    found = {
        path.name: path.stat().st_mode & 0o777
        for path in (tmp_path / "model").iterdir()
        if not path.is_symlink()
    }
    files, folders = 0o666 & ~umask, 0o777 & ~umask
    assert found == {
        "folder": folders,
        "model.safetensors": files,
        "config.json": files,
        "convert.py": folders,
    }
    assert (tmp_path / "model").stat().st_mode & 0o777 == folders
    assert tmp_path.stat().st_mode == outside
