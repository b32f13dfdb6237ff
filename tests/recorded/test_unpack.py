"""Archives of runs, also of strangers: what is read from them, what never is, and the bounds."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest

from services.recorded import unpack as module
from services.recorded.find import recorded_runs
from services.recorded.unpack import WANTED, is_archive, unpack
from tests.support.runs.recorded import STEPS
from trainer.errors import ScopeError

TAR = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}


def archived(directory: Path, out: Path) -> Path:
    """An archive of the directory and its parent's name."""
    if out.name.endswith(".zip"):
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as files:
            for path in sorted(directory.rglob("*")):
                files.write(path, path.relative_to(directory.parent))
        return out
    if out.name.endswith(".zst"):
        plain = archived(directory, out.with_suffix(""))
        with pyarrow.CompressedOutputStream(str(out), "zstd") as stream:
            stream.write(plain.read_bytes())
        plain.unlink()
        return out
    mode = next(mode for ending, mode in TAR.items() if out.name.endswith(ending))
    with tarfile.open(out, mode) as tar:  # pyright: ignore[reportCallIssue, reportArgumentType]
        tar.add(directory, directory.name)
    return out


@pytest.mark.parametrize("ending", [".zip", ".tar.zst", *TAR])
def test_a_run_is_read_from_every_kind_of_archive(directory: Path, tmp_path: Path, ending: str) -> None:
    (directory / "model").mkdir()
    (directory / "model" / "model.safetensors").write_bytes(b"w" * 100_000)
    archive = archived(directory, tmp_path / f"any.name{ending}")
    with recorded_runs([archive]) as runs:
        assert [(run.run_id, run.step, run.ending) for run in runs] == [("quickstart", STEPS, "finished")]
        place = runs[0].path
        assert sorted(path.name for path in place.iterdir()) == sorted(WANTED.keys() - {"rollouts.old.jsonl"})
    assert not place.exists()


def test_a_run_at_the_root_of_an_archive_has_the_name_of_the_archive(directory: Path, tmp_path: Path) -> None:
    archive = tmp_path / "from host b.tar.gz"
    subprocess.run(["tar", "-C", str(directory), "-czf", str(archive), "."], check=True)
    with recorded_runs([archive]) as runs:
        assert [run.run_id for run in runs] == ["from-host-b"]


def test_an_archive_may_hold_a_folder_of_runs(directory: Path, tmp_path: Path) -> None:
    shutil.copytree(directory, directory.with_name("second"))
    with recorded_runs([archived(directory.parent, tmp_path / "runs.zip")]) as runs:
        assert [run.run_id for run in runs] == ["quickstart", "second"]


def entry(name: str, content: bytes = b"x", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in changes.items():
        setattr(info, field, value)
    return info, content


@pytest.mark.parametrize(
    "name", ["../../config.yaml", "/etc/config.yaml", "a/../../../config.yaml", "..", "a/..//config.yaml"]
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_no_path_leads_out_of_the_folder(tmp_path: Path, name: str, kind: str) -> None:
    archive, folder = tmp_path / f"a.{kind}", tmp_path / "here" / "out"
    folder.mkdir(parents=True)
    if kind == "tar":
        with tarfile.open(archive, "w") as tar:
            info, content = entry(name)
            tar.addfile(info, io.BytesIO(content))
    else:
        with zipfile.ZipFile(archive, "w") as files:
            files.writestr(name, b"x")
    before = {path for path in tmp_path.rglob("*") if folder not in path.parents}
    unpack(archive, folder)
    assert {path for path in tmp_path.rglob("*") if folder not in path.parents} == before


@pytest.mark.parametrize(
    "changes",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": "other"},
        {"type": tarfile.FIFOTYPE},
        {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5},
    ],
)
def test_only_regular_files_are_written(tmp_path: Path, changes: dict[str, object]) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(entry("r/config.yaml", b"", **changes)[0])
        info, content = entry("r/steps.jsonl", mode=0o4777)
        tar.addfile(info, io.BytesIO(content))
    unpack(tmp_path / "a.tar", folder)
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*.*")] == ["r/steps.jsonl"]
    assert not (folder / "r" / "steps.jsonl").stat().st_mode & 0o4111


def zeros(size: int) -> Callable[[Path], None]:
    """Writes an archive in which one file that no run needs has `size` zeros."""

    def write(path: Path) -> None:
        with tarfile.open(path, "w:gz") as tar:
            tar.addfile(entry("r/model.safetensors", b"\0" * size)[0], io.BytesIO(b"\0" * size))

    return write


def long_name(path: Path) -> None:
    """Writes an archive with a header that announces a file name of 1 GiB."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024)


def steps_of(size: int) -> Callable[[Path], None]:
    """Writes an archive whose step records unpack to `size` bytes."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as files:
            files.writestr("r/steps.jsonl", b"\0" * size)

    return write


def many_folders(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as files:
        for number in range(30):
            files.writestr(f"r{number}/config.yaml", b"x")


@pytest.mark.parametrize(
    ("write", "ending", "says"),
    [
        (zeros(3_000_000), ".tar.gz", "over 100 times its own size"),
        (long_name, ".tar", "header of"),
        (steps_of(300_000), ".zip", "its steps.jsonl has more than"),
        (many_folders, ".zip", "run directories"),
    ],
)
def test_an_archive_that_would_exhaust_the_reader_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], ending: str, says: str
) -> None:
    monkeypatch.setitem(module.WANTED, "steps.jsonl", 200_000)
    monkeypatch.setattr(module, "FREE_BYTES", 1_000_000)
    monkeypatch.setattr(module, "MOST_FOLDERS", 20)
    archive, folder = tmp_path / f"bomb{ending}", tmp_path / "out"
    folder.mkdir()
    write(archive)
    with pytest.raises(ScopeError, match=says):
        unpack(archive, folder)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 1_000_000


def test_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_MEMBERS", 20)
    many_folders(tmp_path / "a.zip")
    with pytest.raises(ScopeError, match="more than 20 files"):
        unpack(tmp_path / "a.zip", tmp_path)


@pytest.mark.parametrize("ending", [".zip", ".tar.zst", *TAR])
def test_a_damaged_archive_is_named(directory: Path, tmp_path: Path, ending: str) -> None:
    whole = archived(directory, tmp_path / f"a{ending}")
    content = whole.read_bytes()
    for damaged in (content[: len(content) // 2], content[:300], b"", b"\xff" * 600):
        whole.write_bytes(damaged)
        with pytest.raises(ScopeError), recorded_runs([whole]):
            pass


def test_other_files_are_no_archives(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert not is_archive(tmp_path / "notes.txt")
    with (
        pytest.raises(ScopeError, match="not an archive that can be read"),
        recorded_runs([tmp_path / "notes.txt"]),
    ):
        pass
