"""Every kind of process of a run is killed or frozen, and links are cut: it recovers, loses and repeats nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.ledger import violations
from tests.chaos.nemesis import KINDS, Nemesis
from tests.chaos.subject import Subject, chaos_run

SEED = 20251
FAULTS = len(KINDS)
START_SECONDS, RECOVERY_SECONDS, GRACE_SECONDS = 900.0, 600.0, 60.0

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(2400)]


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[Subject]:
    subject = Subject(chaos_run(tmp_path / "runs", "chaos"))
    yield subject
    subject.kill()


def test_a_run_survives_the_death_of_any_process_and_loses_and_repeats_nothing(subject: Subject) -> None:
    subject.await_step(5, START_SECONDS)
    strikes = list(Nemesis(subject, SEED, recovery_seconds=RECOVERY_SECONDS).campaign(FAULTS))
    for strike in strikes:
        print(f"{strike.kind:20} at step {strike.at_step:5}: back after {strike.recovery_seconds:6.1f} s")
    assert {strike.kind for strike in strikes} == set(KINDS)
    assert subject.preempt(GRACE_SECONDS) == 0, subject.run.log
    assert subject.leftovers() == []
    evidence = subject.evidence()
    assert violations(evidence) == []
    assert max(event.lineage for event in evidence.applied) >= 3
    steps = [record.step for record in subject.run.records()]
    assert steps == sorted(set(steps))
