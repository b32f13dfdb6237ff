"""The checker: compares what a run left behind with its guarantees. It is pure; the evidence is gathered elsewhere."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.records.ledger import Applied, Began, Offered, surviving


@dataclass(frozen=True)
class Evidence:
    """All evidence about the groups of a run that has ended."""

    offered: Sequence[Offered]
    """from the generators: each attempt to add a group, and then Redis's reply"""
    history: Sequence[Began | Applied]
    """from the learner, in the order of its files, including dead lineages"""
    dead_lettered: frozenset[str]
    """group ids"""
    pending: frozenset[str]
    """ids of groups in the stream that are unread or unacknowledged"""

    @property
    def applied(self) -> list[Applied]:
        """Every step that was applied, including those that were rolled back."""
        return [event for event in self.history if isinstance(event, Applied)]


def violations(evidence: Evidence) -> list[str]:
    """One sentence for each broken guarantee; empty if all hold."""
    kept = surviving(evidence.history)
    used = [group for event in kept for group in event.groups]
    accepted = {event.group for event in evidence.offered if event.outcome != "offered"}
    lost = accepted - set(used) - evidence.dead_lettered - evidence.pending
    places = Counter(group.rpartition(":")[0] for group in used)
    ever_applied = {group for event in evidence.applied for group in event.groups}
    strange = ever_applied - {event.group for event in evidence.offered}
    return [
        *_named("lost: accepted, and neither applied nor dead-lettered nor pending", lost),
        *_named("applied twice in the surviving lineage", (p for p, count in places.items() if count > 1)),
        *_named("applied, but never produced", strange),
        *_disorder(evidence.applied),
        *_gaps(kept),
    ]


def _named(what: str, groups: Iterable[str]) -> list[str]:
    return [f"{group} was {what}" for group in sorted(groups)]


def _disorder(applied: Sequence[Applied]) -> list[str]:
    return [
        f"({later.lineage}, {later.step}) was applied after ({earlier.lineage}, {earlier.step})"
        for earlier, later in itertools.pairwise(applied)
        if (later.lineage, later.step) <= (earlier.lineage, earlier.step)
    ]


def _gaps(kept: Sequence[Applied]) -> list[str]:
    steps = [event.step for event in kept]
    missing = sorted(set(range(len(steps))) - set(steps))
    return [f"step {step} is missing from the surviving lineage" for step in missing]
