"""Finds recorded runs: in a run directory, a folder of runs, a comparison's directory, or an archive of any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from services.recorded.recorded_run import RecordedRun, read_run
from services.recorded.unpack import is_archive, unpack
from services.run.directory import CONFIG_FILE, FORMAT_FILE
from services.run.ids import is_run_id
from trainer.errors import ScopeError

LONGEST_ID = 128


@contextmanager
def recorded_runs(
    paths: Sequence[Path], say: Callable[[str], None] = lambda _: None
) -> Iterator[list[RecordedRun]]:
    """The runs in the given places, each under an id of its own; archives are unpacked until the context ends.

    say: takes a sentence about a run of a folder that is left out, and about one that is shown under another id.
    Raises ScopeError when a place has no run, or when a run that is named itself cannot be read.
    """
    with ExitStack() as stack:
        runs: list[RecordedRun] = []
        for path in paths:
            try:
                place = stack.enter_context(opened(path))
                directories = run_directories(place)
            except OSError as error:
                raise ScopeError(f"{path} cannot be read: {error.strerror}.") from error
            if not directories:
                raise ScopeError(
                    f"{path} has no run to show: it is neither a run directory, nor a folder or an archive of run "
                    "directories, which have a config.yaml and a format.json."
                )
            alone = len(directories) == 1
            for directory in directories:
                name = _id_of(path if directory == place else directory)
                run_id = distinct(name, {run.run_id for run in runs})
                try:
                    runs.append(read_run(directory, run_id))
                except ScopeError as error:
                    if alone:
                        raise
                    say(f"{directory} is left out: {error}")
                    continue
                if run_id != name:
                    say(f"{directory} is shown as {run_id}, because there is another run {name}")
        if not runs:
            raise ScopeError("None of the runs can be read.")
        yield runs


def run_directories(place: Path) -> list[Path]:
    """The run directories at a place: itself, else those in it, or in its `runs/` as in a comparison's directory."""
    if (place / CONFIG_FILE).is_file():
        return [place]
    for folder in (place, place / "runs"):
        found = [path.parent for path in sorted(folder.glob(f"*/{CONFIG_FILE}"))]
        # The units of a comparison have a configuration too, but no format.
        runs = [path for path in found if (path / FORMAT_FILE).is_file()]
        if runs:
            return runs
    return []


def distinct(name: str, taken: set[str]) -> str:
    """`name`, or with the first free number behind it: `name-2`, `name-3`, …"""
    number, free = 2, name
    while free in taken:
        ending = f"-{number}"
        free = name[: LONGEST_ID - len(ending)] + ending
        number += 1
    return free


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """A directory as it is, or the runs of an archive in a temporary directory. Raises ScopeError."""
    if not path.is_file():
        yield path
        return
    if not is_archive(path):
        raise ScopeError(
            f"{path} is not an archive that can be read: .zip, .tar, .tar.gz, .tar.bz2, .tar.xz or .tar.zst."
        )
    with TemporaryDirectory(prefix="scope-archive-") as folder:
        unpack(path, Path(folder))
        yield Path(folder)


def _id_of(path: Path) -> str:
    """A run id from the name of a run directory or an archive."""
    name = path.resolve().name
    if path.is_file():
        name = name.split(".tar")[0].removesuffix(".zip").removesuffix(".tgz")
    kept = "".join(c if is_run_id(f"x{c}") else "-" for c in name).lstrip("._-")[:LONGEST_ID]
    return kept or "run"
