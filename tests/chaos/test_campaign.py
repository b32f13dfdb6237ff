"""Processes of every kind are killed or frozen and links are cut: the run recovers and loses or repeats no group."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.ledger import violations
from tests.chaos.nemesis import KINDS, Nemesis
from tests.chaos.subject import Subject
from tests.support.runs.run_harness import left_running

SEED = 20251
FAULTS = len(KINDS)
RECOVERY_SECONDS, GRACE_SECONDS, END_SECONDS = 400.0, 60.0, 400.0

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module", autouse=True)
def end(live: Subject) -> Iterator[None]:
    """Kill the run after the tests here, so that it takes no CPU time from later tests."""
    yield
    live.kill()


def test_a_run_survives_the_death_of_any_process_and_loses_and_repeats_nothing(live: Subject) -> None:
    live.await_step(1, END_SECONDS)
    run, begun = live.run, live.steps_done()
    # The target set by an earlier test, or the run's initial one.
    target = run.scope("entropy", "get")["spec"]["target"] or run.records()[-1].entropy_target
    strikes = list(Nemesis(live, SEED, recovery_seconds=RECOVERY_SECONDS).campaign(FAULTS))
    for strike in strikes:
        print(f"{strike.kind:20} at step {strike.at_step:5}: back after {strike.recovery_seconds:6.1f} s")
    assert {strike.kind for strike in strikes} == set(KINDS)
    assert live.interrupt(GRACE_SECONDS) == 0, run.log
    assert live.leftovers() == []
    done = live.steps_done()
    assert run.json("report.json")["steps"] == done
    assert (run.directory / "checkpoints" / f"step-{done:08d}" / "manifest.json").exists()

    evidence = live.evidence()
    assert violations(evidence) == []
    assert max(event.lineage for event in evidence.applied) >= 3
    for told in (
        "-generator-0 ended and is restarted",
        "the learner ended and is restarted (1 of 3) from step",
        "the process of rank",
        "the embedded Redis had ended and is restarted",
    ):
        assert told in run.log
    records = run.records()
    assert [record.step for record in records] == list(range(len(records)))
    assert {record.entropy_target for record in records if record.step > begun} == {target}
    lineages = [next(r for r in records if r.lineage == number) for number in {r.lineage for r in records}]
    assert all(first.step % 5 == 0 for first in lineages), "a lineage did not begin at a checkpoint"


@pytest.mark.chaos
def test_a_run_that_stopped_goes_on_where_it_stopped(live: Subject) -> None:
    run, target, done = live.run, live.run.records()[-1].entropy_target, live.steps_done()
    assert live.driver.poll() == 0, "the previous test must have stopped the run"

    resumed = run.start(f"steps={done + 3}", resume=True)
    assert resumed.wait(END_SECONDS) == 0, run.log
    assert not left_running(run)
    records = run.records()
    assert [r.step for r in records] == list(range(done + 3)), "a step was lost"
    last = records[done - 1].lineage
    assert [r.lineage for r in records[done:]] == [last + 1] * 3
    assert records[-1].entropy_target == target, "the live entropy target did not survive the restart"
    report = run.json("report.json")
    assert report["queue"]["consumed"] == (done + 3) * 2 * 8
    assert report["evaluation"]["end"]["step"] == done + 3
    assert max(age for r in records for age in r.staleness) <= 1
