r"""Words and letters of choices.

Each case is labelled by hand: (reference answer, answer)."""

from __future__ import annotations

import pytest

from trainer.tasks.answers.judge import judge

RIGHT = [
    ("Saturday", r"\text{Saturday}"),
    ("Saturday", "saturday."),
    ("yes", r"\text{Yes}"),
    ("B", r"\text{(B)}"),
    ("B", "(B)"),
    ("B", "B."),
    ("B", "B)"),
    ("B", "{B}"),
    ("B", r"\mathbf{B}"),
    ("B", "Option B"),
    ("B", r"\text{Option B}"),
    ("B", r"\textbf{B}"),
    ("B", "choice B"),
    ("B", "b"),
    ("B", "B: 12"),
    ("B", r"\mathrm{(B)}\ 15"),
    ("odd", r"\textit{odd}"),
    ("no solution", r"\text{No solution}"),
]
WRONG = [
    ("B", "C"),
    ("B", "D"),
    ("B", "A, B"),
    ("B", "B or C"),
    ("B", r"\text{A and B}"),
    ("B", "(B) or (C)"),
    ("yes", "no"),
    ("odd", "even"),
    ("Saturday", "Sunday"),
    ("no solution", "solution"),
    ("7", r"\text{seven}"),
    ("A", r"\text{none}"),
]


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_a_right_answer_is_rewarded(gold: str, answer: str) -> None:
    assert judge(gold, f"\\boxed{{{answer}}}") == "correct"


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_a_wrong_answer_is_not(gold: str, answer: str) -> None:
    assert judge(gold, f"\\boxed{{{answer}}}") == "wrong"
