"""Answers from a grammar, whose equality is known by construction."""

from __future__ import annotations

import pytest

from tests.support.answer_forms import pairs
from trainer.tasks.answers.judge import same_answer

PAIRS = 2400
MOST_REFUSED = 0.005
"""share of the equal pairs"""


@pytest.fixture(scope="module")
def misjudged() -> dict[bool, list[tuple[str, str]]]:
    """The pairs that are judged wrongly, by whether they are equal."""
    found: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for gold, answer, same in pairs(20, PAIRS):
        if same_answer(gold, answer) is not same:
            found[same].append((gold, answer))
    return found


def test_no_unequal_pair_is_rewarded(misjudged: dict[bool, list[tuple[str, str]]]) -> None:
    assert misjudged[False] == []


def test_hardly_an_equal_pair_is_refused(misjudged: dict[bool, list[tuple[str, str]]]) -> None:
    assert len(misjudged[True]) <= MOST_REFUSED * PAIRS / 2, misjudged[True]
