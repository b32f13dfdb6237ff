"""Answers labelled by hand."""

from __future__ import annotations

import pytest

from tests.support.answer_cases import expressions, looks, numbers, reported, structures, units, words
from trainer.tasks.answers.judge import judge

KINDS = (expressions, looks, numbers, reported, structures, units, words)
RIGHT = [case for kind in KINDS for case in kind.RIGHT]
WRONG = [case for kind in KINDS for case in kind.WRONG]


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_a_right_answer_is_rewarded(gold: str, answer: str) -> None:
    assert judge(gold, f"\\boxed{{{answer}}}") == "correct"


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_a_wrong_answer_is_not(gold: str, answer: str) -> None:
    assert judge(gold, f"\\boxed{{{answer}}}") == "wrong"
