"""What a run directory says of its run: how it ended, its steps, and what cannot be read."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from services.recorded.recorded_run import read_run
from services.recorded.saved_state import FILE
from tests.support.runs.recorded import STEPS, TARGET, change_status, keep_steps
from trainer.errors import ScopeError


def test_a_finished_run(directory: Path) -> None:
    run = read_run(directory, "shown")
    assert (run.run_id, run.phase, run.ending, run.step, run.of) == (
        "shown",
        "finished",
        "finished",
        STEPS,
        STEPS,
    )
    assert run.spec.started_at == 1000.0
    assert run.spec.versions == {"ray": "2.60.0"}
    assert run.spec.recorded_at is not None
    assert run.evaluations[0].keys() == {1, 4}
    assert [one.step for one in run.rollouts] == list(range(STEPS))
    assert run.sentence().startswith(f"it finished at step {STEPS} of {STEPS}, ")


def test_a_run_that_was_stopped_early(directory: Path) -> None:
    keep_steps(directory, 4)
    run = read_run(directory, "r")
    assert (run.phase, run.ending, run.step) == ("finished", "stopped", 4)
    assert run.sentence().startswith(f"it was stopped at step 4 of {STEPS}, ")


def test_a_failed_run_keeps_its_reason(directory: Path) -> None:
    keep_steps(directory, 2)
    change_status(directory, phase="failed", error="The disk is full.")
    run = read_run(directory, "r")
    assert (run.phase, run.ending, run.step, run.error) == ("failed", "failed", 2, "The disk is full.")


def test_a_killed_run_is_said_to_have_ended_without_a_word(directory: Path) -> None:
    keep_steps(directory, 5)
    # The state of the last seconds is missing: the records know better.
    change_status(directory, phase="running", step=3)
    run = read_run(directory, "r")
    assert (run.phase, run.ending, run.step) == ("failed", "silent", 5)
    assert run.error is not None
    assert "ended without a word" in run.error
    assert "--resume" in run.error


def test_a_run_whose_driver_holds_the_lock_is_live(directory: Path) -> None:
    keep_steps(directory, 5)
    change_status(directory, phase="running")
    with (directory / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = read_run(directory, "r")
    assert (run.phase, run.ending) == ("running", "live")
    assert read_run(directory, "r").ending == "silent"


def test_steps_that_were_rolled_back_before_the_end_are_left_out(directory: Path) -> None:
    change_status(directory, step=4)
    assert [record.step for record in read_run(directory, "r").records] == [0, 1, 2, 3]


def test_a_directory_without_a_saved_state_tells_what_its_records_tell(directory: Path) -> None:
    (directory / FILE).unlink()
    run = read_run(directory, "r")
    assert (run.phase, run.ending, run.step) == ("finished", "finished", STEPS)
    assert run.spec.versions == {"ray": "2.60.0"}
    assert run.state.hashes["entropy_target"]["target"] == repr(TARGET)
    applied = [
        fields for _, fields in run.state.streams["entropy_target_history"] if fields["event"] == "applied"
    ]
    assert [(fields["generation"], fields["step"]) for fields in applied] == [("1", "0"), ("2", "3")]
    (directory / "report.json").unlink()
    assert read_run(directory, "r").ending == "silent"


def test_a_run_that_ended_before_its_first_step(directory: Path) -> None:
    for name in ("steps.jsonl", "evaluations.json", "rollouts.jsonl", "report.json", FILE):
        (directory / name).unlink()
    run = read_run(directory, "r")
    assert (run.phase, run.step, run.records) == ("failed", 0, [])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("steps.jsonl", b"{}\n"),
        ("steps.jsonl", b"\xff\xfe\n"),
        ("evaluations.json", b"[{]"),
        ("rollouts.jsonl", b"{}\n"),
        ("report.json", b"{"),
        ("report.json", b"[1]"),
        ("report.json", b"[" * 100_000),
        (FILE, b"null"),
        ("format.json", b'{"run_directory": 1}'),
        ("format.json", b"{}"),
        ("format.json", b"x"),
        ("config.yaml", b"steps: many"),
        ("config.yaml", b"a: &a [1]\nb: *a"),
        ("config.yaml", b"\xff"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(directory: Path, name: str, content: bytes) -> None:
    (directory / name).write_bytes(content)
    if name == "report.json":
        (directory / FILE).unlink()
    with pytest.raises(ScopeError, match=str(directory)) as refusal:
        read_run(directory, "r")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("heartbeat", ["inf", "1e300", "soon"])
def test_a_time_that_no_clock_shows_is_refused(directory: Path, heartbeat: str) -> None:
    change_status(directory, heartbeat=heartbeat)
    with pytest.raises(ScopeError, match="cannot be read"):
        read_run(directory, "r")


def test_a_line_that_a_killed_learner_left_incomplete_is_left_out(directory: Path) -> None:
    with (directory / "steps.jsonl").open("ab") as file:
        file.write(json.dumps({"step": STEPS}).encode()[:5])
    assert read_run(directory, "r").step == STEPS
