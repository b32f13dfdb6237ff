"""`scope status` as a person sees it, on narrow and wide terminals."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from rich.console import Console

from services.cli.status import picture
from services.control_plane.schemas.runs import Run
from services.records.alarms import alarm
from tests.support.step_records import record

NOW = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
BEAT = {
    "role": "base",
    "state": "sampling",
    "step": 61,
    "in_flight": 12,
    "restarts": 0,
    "at": NOW.timestamp() - 1,
}
GENERATORS = {
    "base-generator-0": BEAT,
    "adaptive-generator-0": BEAT | {"restarts": 2, "at": NOW.timestamp() - 90},
}


def run(control: str = "run", newest: dict[str, Any] | None = None, **status: Any) -> Run:
    """A run that learns, with changes of its status and its newest record."""
    document = msgspec.to_builtins(record(61), str_keys=True) | (newest or {})
    of_run = {
        "phase": "running",
        "phase_since": datetime.fromtimestamp(NOW.timestamp() - 300, UTC),
        "phase_detail": None,
        "step": 62,
        "of": 160,
        "heartbeat_at": datetime.fromtimestamp(NOW.timestamp() - 2, UTC),
        "seconds_since_heartbeat": 2.0,
        "error": None,
        "record": document,
        "generators": GENERATORS,
        "evaluations": [{"step": 50, "pass_at_k": {1: 0.217, 4: 0.57, 16: 0.907}}],
        "checkpoints_pending": 0,
        "stale": False,
    }
    return Run.model_validate(
        {
            "metadata": {
                "id": "quickstart",
                "config_hash": "h",
                "started_at": NOW,
                "versions": {},
                "recorded_at": None,
            },
            "spec": {"config": {}, "control": control},
            "status": of_run | status,
        }
    )


def lines(run: Run, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(picture(run))
    return [line.rstrip() for line in capture.get().splitlines()]


def words(found: list[str]) -> str:
    return " ".join(" ".join(found).split())


LIMITED = {
    "alarms": ["cools", "1 base generator(s) down"],
    "alarm_kinds": ["cooling_at_limit", "generators_down"],
}


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize(
    "shown",
    [
        run(),
        run("pause", LIMITED | {"entropy": 0.51}),
        run(phase="failed", error="the learner ended: the disk of runs/quickstart is full, free some space"),
        run(phase="starting_engines", phase_detail="1 of 2 ready", record=None, evaluations=[], step=0),
    ],
)
def test_no_line_is_too_wide_and_every_word_is_whole(shown: Run, width: int) -> None:
    found = lines(shown, width)
    assert max(map(len, found)) <= width
    assert "…" not in words(found)
    wide = words(lines(shown, 1000)).split()
    assert set(words(found).split()) == set(wide), "a word was broken or lost"


def test_80_columns_need_one_line_for_each_value() -> None:
    found = lines(run(), 80)
    names = [line.split()[0] for line in found]
    expected = "run 62 entropy actuators reward step left staleness queue learner held-out"
    assert names == [*expected.split(), "base-generator-0", "adaptive-generator-0"]
    assert found[0] == "run quickstart: learning (for 5 min), heartbeat 2 s ago"
    told = words(found)
    assert "entropy 0.400 nats/token, target 0.400" in told
    assert "left about 3 min, at the pace of the last step" in told
    assert "held-out pass@1 0.217, pass@4 0.570, pass@16 0.907 after 50 steps" in told
    assert "adaptive-generator-0 sampling at step 61, 12 in flight, 2 restarts, 90 s ago" in told


def test_a_start_names_its_phase_and_how_long_it_lasts() -> None:
    start = run(phase="starting_engines", phase_detail="1 of 2 ready", record=None, step=0)
    assert (
        lines(start, 80)[0] == "run quickstart: starting the engines: 1 of 2 ready (for 5 min), heartbeat 2 s"
    )


def test_the_limit_is_said_in_words_in_the_direction_of_its_kind() -> None:
    told = words(lines(run(newest=LIMITED | {"entropy": 0.51, "entropy_target": 0.42}), 200))
    assert (
        "limit entropy 0.510 is above the target 0.420 although the actuators cool at their limit: raise the target, "
        "or lower t_min alarm 1 base generator(s) down" in told
    )
    assert "limit" not in words(lines(run(), 200))


def test_an_ended_run_has_no_heartbeat_no_request_and_no_time_left() -> None:
    ended = run("stop", phase="finished", step=160, seconds_since_heartbeat=7200.0)
    assert lines(ended, 80)[0] == "run quickstart: finished, 2 h ago"
    assert lines(ended, 80)[1].startswith("160 of 160 steps  \u2501")
    assert "left" not in words(lines(ended, 80))


def test_a_request_is_shown_and_zero_has_no_sign() -> None:
    told = words(lines(run("pause", {"reward": -0.0001, "entropy": -0.0002}), 200))
    assert "learning (for 5 min), pause requested, heartbeat 2 s ago" in told
    assert "-0.000" not in told
    assert "reward 0.000" in told


def test_alarms_of_records_without_kinds_are_shown() -> None:
    assert "alarm cools alarm 1 base" in words(lines(run(newest=LIMITED | {"alarm_kinds": []}), 200))


def test_an_alarm_says_what_to_do() -> None:
    kind, text = alarm("all_truncated", steps=3, limit=16)
    told = words(lines(run(newest={"alarms": [text], "alarm_kinds": [kind]}), 60))
    assert f"alarm {text}" in told
    assert "raise rollout.max_new_tokens, which is 16" in told
