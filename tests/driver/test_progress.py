"""What the driver prints, for people and for log collectors."""

from __future__ import annotations

import io
import json
import time

import msgspec

from services.driver.progress import JsonProgress, Progress
from services.run.state import RunStatus
from tests.support.step_records import record


def status(step: int, *alarms: str) -> RunStatus:
    document = msgspec.to_builtins(record(step), str_keys=True) | {"alarms": list(alarms)}
    return RunStatus(phase="running", step=step + 1, of=9, record=document, heartbeat=time.time())


def test_json_lines_name_run_role_and_step() -> None:
    out = io.StringIO()
    progress = JsonProgress("first", out)
    progress.say("starting 2 generators")
    progress.show(status(3, "1 base generator(s) down"))
    progress.show(status(3))
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["role"], line["event"], line.get("step")) for line in lines] == [
        ("driver", "message", None),
        ("learner", "step", 3),
        ("learner", "alarm", 3),
    ]
    assert {line["run"] for line in lines} == {"first"}
    assert all(abs(line["at"] - time.time()) < 60 for line in lines)
    assert lines[1]["entropy"] == record(3).entropy
    assert lines[2]["text"] == "1 base generator(s) down"


def test_text_shows_a_step_once_under_its_heading() -> None:
    out = io.StringIO()
    progress = Progress(out)
    progress.show(status(3))
    progress.show(status(3))
    heading, line = out.getvalue().splitlines()
    assert "entropy" in heading
    assert "4/9" in line
