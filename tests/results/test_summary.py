"""The closing summary of a run, from records and evaluations with known numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from services.records.sinks import JsonLines
from services.records.step_record import StepRecord
from services.results.entropy_held import entropy_held
from services.results.evaluations import Evaluations
from services.results.report import write_report
from services.results.summary import summary
from services.run.directory import RunDirectory
from tests.support.step_records import record
from trainer.config import RunConfig

STEPS = 20
EASIER = ([8] * 50 + [0] * 50, [32] * 30 + [0] * 70)
"""correct answers of 32 before and after: fewer problems are solved, and these every time"""


@pytest.fixture
def directory(tmp_path: Path, run_id: str) -> RunDirectory:
    return RunDirectory(tmp_path, run_id, RunConfig(steps=STEPS), resumed=False)


def report(
    directory: RunDirectory, redis: Redis, records: Sequence[StepRecord], *correct: list[int]
) -> dict[str, Any]:
    """The report of a run with these records and evaluations, the first before step 0 and the last at the end."""
    sink = JsonLines(directory.path / "steps.jsonl")
    for one in records:
        sink.write(one)
    sink.close()
    evaluations = Evaluations(directory.path / "evaluations.json")
    for step, counts in zip((0, STEPS), correct, strict=False):
        evaluations.add(step, counts, directory.config.evaluation)
    return write_report(directory, evaluations, redis, steps_done=STEPS, wall_seconds=451.4)


def text(found: dict[str, Any], path: str = "runs/first") -> str:
    """The summary as one line, for sentences that wrap."""
    return " ".join(" ".join(summary(found, Path(path))).split())


def fallen(steps: int = STEPS) -> list[StepRecord]:
    return [record(s, entropy=0.6 - 0.01 * s, generated_tokens=2000) for s in range(steps)]


def test_each_target_is_judged_over_the_steps_in_which_it_was_in_force() -> None:
    first = [record(s, entropy=0.44, entropy_target=0.4, entropy_target_generation=1) for s in range(4)]
    far = [record(4, entropy=0.6, entropy_target=0.4, entropy_target_generation=1, saturated=True)]
    moved = [
        record(s, entropy=0.30, entropy_target=target, entropy_target_generation=2)
        for s, target in ((5, 0.35), (6, 0.30), (7, 0.30))
    ]
    unmeasured = [record(8, entropy=float("nan")), record(9, entropy_target=None)]
    one, two = entropy_held([*first, *far, *moved, *unmeasured])
    assert (one["generation"], one["first_step"], one["last_step"]) == (1, 0, 4)
    assert (one["target_from"], one["target_to"]) == (0.4, 0.4)
    assert one["mean_error"] == pytest.approx((4 * 0.04 + 0.2) / 5)
    assert one["rms_error"] == pytest.approx(((4 * 0.04**2 + 0.2**2) / 5) ** 0.5)
    assert one["saturated_share"] == pytest.approx(0.2)
    assert (two["first_step"], two["last_step"], two["target_from"], two["target_to"]) == (5, 7, 0.35, 0.30)
    assert two["mean_error"] == pytest.approx(-0.05 / 3)
    assert two["near_share"] == pytest.approx(2 / 3)


def test_a_target_moved_within_a_run_shows_its_steps_and_how_it_was_held(
    directory: RunDirectory, redis: Redis
) -> None:
    moved = [
        record(
            s,
            entropy=0.42 if s < 12 else 0.33,
            entropy_target=0.42 if s < 12 else 0.36,
            entropy_target_generation=1 + (s >= 12),
        )
        for s in range(STEPS)
    ]
    told = text(report(directory, redis, moved))
    assert "target 0.420, steps 1 to 12: off by +0.000 on average, 0.000 RMS; within ±10% in 100% of" in told
    assert "target 0.360, steps 13 to 20: off by -0.030 on average, 0.030 RMS; within ±10% in 100% of" in told


def test_pass_at_k_before_and_after_and_why_the_largest_k_fell(directory: RunDirectory, redis: Redis) -> None:
    found = report(directory, redis, fallen(), *EASIER)
    lines = summary(found, Path("runs/first"))
    assert lines[0] == f"run {directory.run_id} finished after 20 of 20 learner steps"
    (first,) = [line for line in lines if "pass@1 " in line and "->" in line]
    assert first.split()[1] == "0.125"
    assert first.split()[5] == "0.300"
    assert first.endswith("+0.175")
    assert found["evaluation"]["solved"] == {"gained": 0, "lost": 20}
    assert (
        "pass@16 fell while pass@1 rose: the policy became more certain (entropy 0.600 to 0.410), so right answers "
        "come more often, to fewer problems; 20 problems had a right answer among 32 samples only before the run, "
        "0 only after it." in text(found)
    )


@pytest.mark.parametrize(
    ("correct", "reason"),
    [
        (
            (EASIER[1], EASIER[0]),
            "pass@16 rose: the policy solves problems that it did not solve before; 0 problems",
        ),
        (
            ([8] * 50 + [0] * 50, [8] * 20 + [0] * 80),
            "pass@16 fell, and pass@1 did not rise: the policy solves fewer",
        ),
        (
            ([8] * 50 + [0] * 50,) * 2,
            "pass@16 did not change measurably: its interval contains 0; 0 problems",
        ),
        (
            ([0] * 99 + [1], [0] * 99 + [0]),
            "1 problem had a right answer among 32 samples only before the run",
        ),
    ],
)
def test_other_movements_are_not_explained_by_certainty(
    directory: RunDirectory, redis: Redis, correct: tuple[list[int], list[int]], reason: str
) -> None:
    told = text(report(directory, redis, fallen(), *correct))
    assert reason in told
    assert "certain" not in told


def test_a_policy_that_did_not_become_more_certain_is_not_said_to(
    directory: RunDirectory, redis: Redis
) -> None:
    level = [record(s, entropy=0.4) for s in range(STEPS)]
    assert "pass@16 fell while pass@1 rose: right answers come" in text(
        report(directory, redis, level, *EASIER)
    )


def test_tokens_time_and_the_next_commands(directory: RunDirectory, redis: Redis) -> None:
    found = report(directory, redis, fallen(), *EASIER)
    told = text(found)
    assert "tokens 40,000 sampled, 20,000 trained on; 500 trained on per second" in told
    assert "time 0:07:31 in all; the learner: learning 50%, waiting for rollouts 25%" in told
    assert [line.split()[1] for line in summary(found, Path("runs/first"))[-3:]] == [
        "view",
        "rollouts",
        "export",
    ]


def test_a_run_that_was_stopped_says_how_to_continue(directory: RunDirectory, redis: Redis) -> None:
    found = report(directory, redis, fallen(7), EASIER[0])
    lines = summary(found, Path("runs/the first"))
    assert lines[0].endswith("stopped after 7 of 20 learner steps")
    assert not any("->" in line for line in lines)
    assert lines[-3].startswith("  scope train --resume 'runs/the first'  ")
    assert [line.split()[1] for line in lines[-3:]] == ["train", "view", "eval"]


def test_a_run_without_control_steps_or_evaluations_has_a_summary(
    directory: RunDirectory, redis: Redis
) -> None:
    assert "entropy" not in text(report(directory, redis, []))
    told = text(report(directory, redis, [record(s, entropy_target=None) for s in range(STEPS)]))
    assert "entropy 0.700 at the start, 0.400 at the end" in told
    assert "target" not in told


def test_the_summary_fits_80_columns_and_zero_has_no_sign(directory: RunDirectory, redis: Redis) -> None:
    many = [record(s, entropy=0.39999, entropy_target_generation=s, saturated=True) for s in range(STEPS)]
    found = report(directory, redis, many, *EASIER)
    lines = summary(found, Path("runs/first"))
    assert max(map(len, lines)) <= 80
    assert "-0.000" not in "".join(lines)
    assert "16 earlier targets are in report.json" in text(found)
