"""A trial: what it reports, when its units fail, and how it is stopped."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from services.compare.pool import Job
from services.compare.run import unit_directory
from services.host.children import ChildProcess
from services.tuning.plan import Search
from services.tuning.trial import TrialRun
from tests.support.tuned import write_unit
from trainer.errors import ScopeError

VALUES = {"entropy_control.target": 0.3}


def program(code: str) -> ChildProcess:
    return subprocess.Popen([sys.executable, "-c", code])


def test_the_first_seed_is_reported_as_it_trains_and_the_mean_of_all_at_the_end(search: Search) -> None:
    plan = replace(search, seeds=(1, 2)).trial(VALUES)
    correct = {1: [0, 1, 2, 3, 4], 2: [0, 0, 0, 0, 2]}
    begun: list[str] = []

    def start(job: Job) -> ChildProcess:
        begun.append(job.name)
        (unit,) = [unit for unit in plan.units if unit.name == job.name]
        write_unit(plan, unit, correct[unit.seed])
        return program("")

    expected = [(2, 0.25), (4, 0.5), (6, 0.75), (8, 0.75)]
    assert list(TrialRun(plan, 1, start).reports()) == expected
    assert begun == ["target-0.3-s1", "target-0.3-s2"]
    assert list(TrialRun(plan, 1, start).reports()) == expected
    assert len(begun) == 2, "finished units are not run again"


def test_a_unit_that_fails_is_named_with_its_last_words(search: Search) -> None:
    plan = search.trial(VALUES)

    def start(job: Job) -> ChildProcess:
        job.log.write_text("scope: the disk is full\n")
        return program("raise SystemExit(2)")

    with pytest.raises(ScopeError, match=r"target-0\.3-s1: exit status 2: scope: the disk is full"):
        list(TrialRun(plan, 1, start).reports())


def test_a_stopped_trial_ends_its_process(search: Search) -> None:
    plan = search.trial(VALUES)
    children: list[ChildProcess] = []

    def start(job: Job) -> ChildProcess:
        write_unit(plan, plan.units[0], [0, 1])
        children.append(program("import time; time.sleep(60)"))
        return children[0]

    run = TrialRun(plan, 1, start)
    assert next(run.reports()) == (2, 0.25)
    assert children[0].poll() is None
    run.stop()
    assert children[0].poll() is not None
    assert not (Path(unit_directory(plan, plan.units[0])) / "result.json").exists()
