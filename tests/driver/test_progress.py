"""What the driver prints in plain lines, for people and files, and in JSON, for log collectors."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from services.driver import progress as progress_module
from services.driver.alarm_news import CLEAR_STEPS
from services.driver.progress import JsonProgress, Progress
from services.driver.step_line import heading, step_line
from services.driver.time_left import TimeLeft, clock
from tests.support.step_records import record

HEATS = {"alarms": ["entropy control heats"], "alarm_kinds": ["heating_at_limit"], "saturated": True}


def document(step: int, **changes: Any) -> Mapping[str, Any]:
    """A step record as it is read from Redis."""
    return msgspec.json.decode(
        msgspec.json.encode(msgspec.to_builtins(record(step, **changes), str_keys=True))
    )


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def lines(out: io.StringIO) -> list[str]:
    """The lines printed, without their times."""
    return [line[9:] for line in out.getvalue().splitlines()]


def test_every_step_since_the_last_look_has_its_line_under_one_heading(out: io.StringIO) -> None:
    progress = Progress(out)
    progress.steps([document(3), document(4), document(5)], 9)
    progress.steps([], 9)
    progress.steps([document(6)], 9)
    first, *rest = lines(out)
    assert first.split() == [
        "step",
        "entropy",
        "target",
        "T",
        "alpha",
        "reward",
        "pos",
        "lag",
        "s/step",
        "wait",
    ]
    assert [line.split()[0] for line in rest] == ["4/9", "5/9", "6/9", "7/9"]
    assert rest[0].split() == ["4/9", "0.640", "0.400", "1.10", "0.50", "0.030", "0", "0.8", "2.00", "0.50"]


@pytest.mark.parametrize("of", [9, 160, 100_000])
def test_a_line_with_its_time_fits_80_columns_below_its_heading(of: int) -> None:
    line = step_line(document(of - 1, entropy=2.123, reward=0.5, step_seconds=123.45), of)
    assert len(line) == len(heading(of)) <= 80 - len("[  0:00] ")


@pytest.mark.parametrize(("width", "last"), [(70, "wait"), (41, "reward"), (10, "step")])
def test_a_narrow_terminal_shows_the_columns_that_fit(width: int, last: str) -> None:
    assert heading(160, width).split()[-1] == last
    assert len(step_line(document(1), 160, width)) == len(heading(160, width)) <= width


def test_zero_has_no_sign_and_an_unmeasured_value_is_a_dash() -> None:
    line = step_line(document(1, entropy=-0.0001, reward=-0.0004, entropy_target=None), 9)
    assert "-0.0" not in line
    assert line.split()[1:3] == ["0.000", "-"]
    assert step_line(document(1, entropy=float("nan")), 9).split()[1] == "-"


def test_an_alarm_is_told_when_it_begins_and_when_it_ends_and_not_in_between(out: io.StringIO) -> None:
    progress = Progress(out)
    down = {"alarms": ["1 base generator(s) down"], "alarm_kinds": ["generators_down"]}
    # The alarm comes and goes within fewer steps than those that end it.
    steps = [document(s, **(down if s in (2, 3, 5) else {})) for s in range(5 + CLEAR_STEPS + 3)]
    progress.steps(steps, 99)
    told = [line for line in lines(out) if "generator" in line]
    assert told == ["alarm: 1 base generator(s) down", "every generator is up again, since step 7"]
    printed = lines(out)
    assert printed.index(told[0]) == 1 + 3, "after the third step"
    assert printed.index(told[1]) == 1 + 1 + 5 + CLEAR_STEPS + 1


def test_a_limit_is_told_in_words_with_what_to_do(out: io.StringIO) -> None:
    progress = Progress(out)
    progress.steps([document(s, entropy=0.31, entropy_target=0.42, **HEATS) for s in range(20)], 99)
    told = [line for line in lines(out) if "limit" in line]
    assert told == [
        "alarm: entropy 0.310 is below the target 0.420 although the actuators heat at their limit: lower the target, "
        "or raise surprisal_exponent_max or alpha_max"
    ]
    assert "!" not in out.getvalue()


def test_a_limit_that_does_not_explain_the_entropy_is_not_said_to(out: io.StringIO) -> None:
    Progress(out).steps([document(0, entropy=0.5, entropy_target=0.42, **HEATS)], 9)
    assert "alarm: the actuators heat at their limit: lower the target" in out.getvalue()


def test_a_learner_that_goes_back_does_not_end_an_alarm(out: io.StringIO) -> None:
    progress = Progress(out)
    steps = [50, 51, 20, 21]
    progress.steps([document(s, **HEATS) for s in steps], 99)
    assert [line.split()[0] for line in lines(out) if "/99" in line] == ["51/99", "52/99", "21/99", "22/99"]
    assert len(lines(out)) == 1 + len(steps) + 1


def test_a_wait_is_said_with_its_phase_and_ever_more_rarely(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now)
    progress = Progress(out)
    progress.enter("starting_engines", "1 of 2 ready")
    for _ in range(1000):
        now += 1.0
        progress.wait()
    said = lines(out)
    assert said[0] == "starting the engines: 1 of 2 ready (0:21)"
    assert len(said) < 9
    progress.enter("running")
    progress.steps([document(3)], 9)
    now += 21.0
    progress.wait()
    assert lines(out)[-1] == "learning: step 5 of 9 (0:21)"


def test_json_lines_name_run_role_event_and_step(out: io.StringIO) -> None:
    progress = JsonProgress("first", out)
    progress.enter("starting_ray")
    progress.enter("starting_ray", "slowly")
    progress.say("starting 2 generators")
    down = {"alarms": ["1 base generator(s) down"], "alarm_kinds": ["generators_down"]}
    progress.steps([document(3, **down), document(4, **down)], 9)
    progress.close_with(["run first finished", "next:"])
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["role"], line["event"], line.get("step")) for line in found] == [
        ("driver", "phase", None),
        ("driver", "message", None),
        ("learner", "step", 3),
        ("learner", "alarm", 3),
        ("learner", "step", 4),
        ("driver", "summary", None),
    ]
    assert {line["run"] for line in found} == {"first"}
    assert all(abs(line["at"] - time.time()) < 60 for line in found)
    assert found[2].keys() >= {"of", *progress_module.JSON_FIELDS}
    assert found[2]["entropy"] == record(3).entropy
    assert found[3]["text"] == "alarm: 1 base generator(s) down"
    assert found[5]["text"] == "run first finished\nnext:"


def test_the_time_left_follows_recent_steps_and_holds_the_last_evaluation() -> None:
    left = TimeLeft()
    assert left.seconds(0, 100) is None
    left.evaluated(30.0)
    at = 0.0
    for step in range(60):
        # Fast steps at first; one pause of an hour.
        at += 3600.0 if step == 50 else 1.0 if step < 30 else 4.0
        left.step(document(step, at=at))
    assert left.seconds(60, 100) == pytest.approx(40 * 4.0 + 30.0)


def test_steps_made_again_do_not_count_as_the_time_of_one_step() -> None:
    left = TimeLeft()
    for lineage, step, at in ((1, 0, 0.0), (1, 1, 2.0), (2, 1, 500.0), (2, 2, 502.0)):
        left.step(document(step, lineage=lineage, at=at))
    assert left.seconds(3, 13) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0:00"), (59.9, "0:59"), (252, "4:12"), (3852, "1:04:12"), (176652, "2 d 1:04:12")],
)
def test_a_duration_is_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
