"""The checker finds every kind of violation, each planted in the evidence of a run without violations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.records.ledger import Applied, Began, Offered
from tests.chaos.ledger import Evidence, violations

GROUPS = [f"{role}:{ordinal}:0" for ordinal in range(6) for role in ("base", "adaptive")]


def evidence() -> Evidence:
    """Three steps of lineage 1, a rollback to step 1, and three steps of lineage 2; one group is dead-lettered."""
    offered = [
        Offered(group, outcome)
        for group in [*GROUPS, "base:6:0", "base:7:0"]
        for outcome in ("offered", "added")
    ]
    # The generator died before it got the reply to the first attempt, and another one made the group again.
    offered += [
        Offered("base:8:0", "offered"),
        Offered("base:8:0", "offered"),
        Offered("base:8:0", "duplicate"),
    ]
    return Evidence(
        offered=offered,
        history=[
            Began(1, 0),
            Applied(1, 0, GROUPS[0:4]),
            Applied(1, 1, GROUPS[4:8]),
            Applied(1, 2, GROUPS[8:12]),
            Began(2, 1),
            Applied(2, 1, GROUPS[4:8]),
            Applied(2, 2, GROUPS[8:12]),
        ],
        dead_lettered=frozenset({"base:6:0"}),
        pending=frozenset({"base:7:0", "base:8:0"}),
    )


def test_a_run_that_kept_its_promises_has_no_violation() -> None:
    assert violations(evidence()) == []


def test_an_accepted_group_that_is_nowhere_is_lost() -> None:
    for group in ("base:6:0", "base:7:0", "base:8:0"):
        kept = evidence()
        planted = replace(kept, dead_lettered=kept.dead_lettered - {group}, pending=kept.pending - {group})
        assert violations(planted) == [
            f"{group} was lost: accepted, and neither applied nor dead-lettered nor pending"
        ]


def test_a_group_that_only_a_dead_lineage_applied_is_lost() -> None:
    planted = evidence()
    planted = replace(planted, history=[*planted.history[:-1], Applied(2, 2, GROUPS[9:12])])
    assert violations(planted) == [
        f"{GROUPS[8]} was lost: accepted, and neither applied nor dead-lettered nor pending"
    ]


def test_a_group_that_was_offered_and_never_accepted_is_not_lost() -> None:
    planted = evidence()
    assert violations(replace(planted, offered=[*planted.offered, Offered("base:99:0", "offered")])) == []


@pytest.mark.parametrize("again", ["base:0:0", "base:0:1"])
def test_a_group_in_two_steps_of_the_surviving_lineage_is_seen_under_any_attempt(again: str) -> None:
    planted = evidence()
    planted = replace(
        planted,
        offered=[*planted.offered, Offered(again, "offered")],
        history=[*planted.history[:-1], Applied(2, 2, [*GROUPS[8:12], again])],
    )
    assert violations(planted) == ["base:0 was applied twice in the surviving lineage"]


def test_a_group_that_nobody_produced_is_seen_even_in_a_dead_lineage() -> None:
    planted = evidence()
    planted = replace(
        planted, history=[*planted.history[:3], Applied(1, 2, ["base:77:0"]), *planted.history[4:]]
    )
    assert violations(planted) == ["base:77:0 was applied, but never produced"]


def test_a_write_of_a_replaced_learner_is_seen() -> None:
    planted = evidence()
    planted = replace(planted, history=[*planted.history, Applied(1, 3, [])])
    assert violations(planted) == ["(1, 3) was applied after (2, 2)"]


def test_a_step_done_twice_in_one_lineage_is_seen() -> None:
    planted = evidence()
    planted = replace(planted, history=[*planted.history, planted.history[-1]])
    assert violations(planted) == ["(2, 2) was applied after (2, 2)"]


def test_a_step_that_was_left_out_is_seen() -> None:
    planted = evidence()
    planted = replace(planted, history=[*planted.history, Applied(2, 4, [])])
    assert violations(planted) == ["step 3 is missing from the surviving lineage"]


def test_a_lineage_that_ended_before_its_first_step_has_taken_back_what_it_was_to_do_again() -> None:
    planted = evidence()
    planted = replace(planted, history=[*planted.history, Began(3, 2)])
    lost = GROUPS[8:12]
    assert violations(planted) == [
        f"{group} was lost: accepted, and neither applied nor dead-lettered nor pending"
        for group in sorted(lost)
    ]
    assert violations(replace(planted, pending=planted.pending | set(lost))) == []
