"""What the searcher and the scheduler know when a search continues, and the results that it writes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.tuning.plan import Search
from services.tuning.plot import PLOT, plot_search
from services.tuning.record import TrialRecord, read_records, require_same_search, write_record
from services.tuning.report import best_line, results, table
from services.tuning.searcher import METRIC, STEP, make_scheduler, make_searcher
from tests.support.tuned import write_unit
from trainer.errors import ScopeError

TARGET = "entropy_control.target"
CORRECT = {0.2: [0, 1, 1, 1, 2], 0.4: [0, 2, 3, 4, 4], 0.8: [0, 1]}
"""target → correct responses of 4 at steps 0, 2, …; the last trial was stopped at step 2"""


def record(number: int, target: float, state: Any, **changes: Any) -> TrialRecord:
    reports = [(2 * i, n / 4) for i, n in enumerate(CORRECT.get(target, [])) if i]
    return TrialRecord(number=number, values={TARGET: target}, state=state, reports=reports, **changes)


@pytest.fixture
def records(search: Search) -> list[TrialRecord]:
    """Two finished trials, a stopped, a failed and an interrupted one, on disk."""
    made = [
        record(1, 0.2, "finished"),
        record(2, 0.4, "finished"),
        record(3, 0.8, "stopped"),
        record(4, 0.6, "failed", reason="the disk is full"),
        record(5, 0.7, "running"),
    ]
    for each in made:
        write_record(search, each)
        if each.reports:
            plan = search.trial(each.values)
            write_unit(plan, plan.units[0], CORRECT[each.values[TARGET]])
    return made


def test_a_new_search_begins_with_the_value_of_the_configuration(search: Search) -> None:
    assert make_searcher(search, []).suggest("a") == {TARGET: search.config.entropy_control.target}


def test_a_continued_search_runs_what_was_interrupted_and_then_what_earlier_trials_suggest(
    search: Search, records: list[TrialRecord]
) -> None:
    assert read_records(search) == records
    searcher = make_searcher(search, records)
    assert [searcher.suggest(name) for name in "ab"] == [{TARGET: 0.6}, {TARGET: 0.7}]
    proposed = searcher.suggest("c")
    assert proposed is not None
    assert proposed[TARGET] not in {0.2, 0.4, 0.6, 0.7, 0.8}
    assert proposed != make_searcher(search, []).suggest("c")


def test_a_trial_is_stopped_for_being_below_those_of_an_earlier_session(
    search: Search, records: list[TrialRecord]
) -> None:
    def decision(earlier: list[TrialRecord], value: float) -> str:
        scheduler = make_scheduler(search, earlier)
        trial: Any = SimpleNamespace(trial_id="new")
        unused: Any = None
        scheduler.on_trial_add(unused, trial)
        return scheduler.on_trial_result(unused, trial, {STEP: 2, METRIC: value})

    assert decision([], 0.1) == decision(records, 0.6) == "CONTINUE"
    assert decision(records, 0.1) == "STOP"
    assert decision(records, math.nextafter(0.25, 1)) == "CONTINUE"
    never = replace(search, evaluate_every=0)
    assert type(make_scheduler(never, records)).__name__ == "FIFOScheduler"


def test_results_rank_finished_trials_by_the_metric_and_name_the_best_values(
    search: Search, records: list[TrialRecord]
) -> None:
    document = json.loads(json.dumps(results(search, records, "scope tune x.yaml")))
    assert [trial["number"] for trial in document["trials"]] == [2, 1, 3, 4, 5]
    assert best_line(document) == "best: --set entropy_control.target=0.4"
    first, _, stopped, failed, _ = document["trials"]
    assert first["pass"]["pass@1"] == {"mean": 1.0, "low95": 1.0, "high95": 1.0}
    assert (stopped["step"], stopped["pass"]["pass@1"]["mean"]) == (2, 0.25)
    assert (failed["pass"], failed["reason"]) == ({}, "the disk is full")
    lines = table(document).text().splitlines()
    assert lines[2].split() == ["2", "0.4", "finished", "8/8", "1.000", "[1.000,", "1.000]"]
    assert best_line(results(search, records[2:], "")) == "no trial has finished yet"


def test_the_plot_needs_a_trial_with_a_value(
    search: Search, records: list[TrialRecord], tmp_path: Path
) -> None:
    assert plot_search(tmp_path, results(search, records, "")) == PLOT
    assert (tmp_path / PLOT).read_bytes().startswith(b"\x89PNG")
    assert plot_search(tmp_path, results(search, records[3:], "")) is None


def test_a_search_continues_with_other_ranges_but_not_with_other_settings(search: Search) -> None:
    search.out.mkdir()
    require_same_search(search)
    (target,) = search.dimensions
    require_same_search(replace(search, dimensions=(replace(target, low=0.3),), trials=40, parallel=2))
    with pytest.raises(ScopeError, match=r"--metric = 'pass@1' there, 'pass@4' now"):
        require_same_search(replace(search, k=4))
    longer = search.config.model_copy(update={"steps": 9})
    with pytest.raises(ScopeError, match="steps = 8 there, 9 now"):
        require_same_search(replace(search, config=longer))
