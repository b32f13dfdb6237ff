"""A place that cannot be written or read is told in one sentence, whatever the command."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.run.directory import write_format
from tests.support.command_line import Outcome, Scope
from tests.support.repository import QUICKSTART
from tests.support.small_disk import small_disk_at

LONG = "x" * 300
ODD = (
    "/dev/null/x",
    "/proc/nowhere/x",
    "/dev/full",
    LONG,
    "file",
    "file/x",
    "loop",
    "loop/x",
    "full",
    "",
    "  ",
)
EVAL = "eval runs/main --max-problems 1 --n 1 --k 1 --out"
WRITING = (
    "export main --out",
    "import model.gguf --out",
    f"compare {QUICKSTART} --controls grpo --seeds 1 --in-process --out",
    EVAL,
)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a run that has a model, a damaged GGUF file, and places that cannot be used."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    run = tmp_path / "runs" / "main"
    (run / "model").mkdir(parents=True)
    (run / "model" / "config.json").write_text("{}")
    (run / "model" / "weights").write_bytes(b"w" * (2 << 20))
    (run / "config.yaml").write_text("steps: 3\n")
    write_format(run)
    (tmp_path / "model.gguf").write_bytes(b"GGUF\3\0\0\0")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    return tmp_path


def sentence(outcome: Outcome) -> str:
    """The one sentence of a command that was refused."""
    assert outcome.status == 2, outcome
    assert outcome.err.count("\n") == 1, outcome.err
    assert "Traceback" not in outcome.err
    return outcome.err


@pytest.mark.parametrize("place", ODD)
@pytest.mark.parametrize("command", WRITING, ids=lambda command: command.split()[0])
def test_a_place_that_cannot_be_written_is_named(
    scope: Scope, places: Path, command: str, place: str
) -> None:
    if command.startswith("compare") and place == "full":
        return  # Its directory may hold other files.
    said = sentence(scope(*command.split(), place))
    assert "--out" in said
    assert place in said
    assert (places / "file").read_text() == "mine"


@pytest.fixture
def small_disk(places: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    with small_disk_at(places / "disk", 1) as folder:
        yield folder


def test_an_export_to_a_full_disk_is_told_and_leaves_nothing(scope: Scope, small_disk: Path) -> None:
    said = sentence(scope("export", "main", "--out", str(small_disk / "out")))
    assert f"--out {small_disk / 'out'} cannot be written: No space left on device" in said
    assert list(small_disk.iterdir()) == []


def test_an_export_to_a_read_only_disk_is_told(scope: Scope, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    said = sentence(scope("export", "main", "--out", str(small_disk / "out")))
    assert "cannot be written: Read-only file system" in said


@pytest.mark.parametrize("runs_dir", ["/dev/null/x", "/proc/nowhere", LONG, "file", "loop", "$HOME/runs", ""])
def test_a_run_is_not_started_where_it_cannot_be_written(scope: Scope, places: Path, runs_dir: str) -> None:
    off = ("--set", "control_plane.enabled=false", "--set", "ray.dashboard=false")
    said = sentence(
        scope("train", str(QUICKSTART), "--run-id", "main", "--set", f"runs_dir={runs_dir}", *off)
    )
    assert "runs_dir" in said or "The run directory" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("doctor", "/dev/zero"),
        ("train", "/dev/zero"),
        ("train", "."),
        ("train", "file/x"),
        ("train", LONG),
        ("train", ""),
        ("train", "--resume", LONG),
        ("train", "--resume", "loop"),
        ("compare", LONG, "--controls", "grpo", "--seeds", "1"),
        ("submit", str(QUICKSTART), "--overlay", LONG),
        ("submit", str(QUICKSTART), "--overlay", "cpu-kind", "--manifests", "loop"),
        ("import", "model.gguf", "--out", "new"),
        ("import", "/dev/full", "--out", "new"),
        ("import", LONG, "--out", "new"),
        ("import", "loop", "--out", "new"),
        ("eval", LONG),
        ("eval", "loop"),
        ("eval", f"owner/{LONG}"),
        ("eval", "runs/main/checkpoints/step-00000160.bak"),
        ("export", LONG, "--out", "new"),
        ("view", LONG),
        ("status", LONG),
        ("rollouts", LONG),
        ("rollouts", "main", "--contains", "x" * 201),
        ("rollouts", "main", "--contains", "é" * 5000),
        ("rollouts", "main", "--limit", "0"),
        ("audit", "loop"),
    ],
    ids=lambda arguments: " ".join(word[:24] for word in arguments),
)
def test_a_place_that_cannot_be_read_is_told_in_one_sentence(
    scope: Scope, places: Path, arguments: tuple[str, ...]
) -> None:
    checkpoint = places / "runs" / "main" / "checkpoints" / "step-00000160.bak"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text("{}")
    outcome = scope(*arguments)
    assert outcome.status in (1, 2), outcome
    assert "Traceback" not in outcome.out + outcome.err
    assert (outcome.out + outcome.err).count("\n") == 1
    assert not (places / "new").exists()


def test_a_text_of_two_hundred_characters_is_searched_for(scope: Scope, places: Path) -> None:
    for text in ("x" * 200, "ß" * 200, "🎯" * 200):
        assert scope("rollouts", "main", "--contains", text).status == 0


def test_an_argument_begins_at_the_home_directory(
    scope: Scope, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(places))
    assert f"--out {places / 'full'} is not empty" in scope("export", "main", "--out=~/full").err
    assert f"{str(places / 'absent.yaml')!r} does not exist" in scope("train", "~/absent.yaml").err
