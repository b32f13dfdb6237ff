r"""Expressions with variables: equal as real functions.

Each case is labelled by hand: (reference answer, answer)."""

from __future__ import annotations

import pytest

from trainer.tasks.answers.judge import judge

RIGHT = [
    ("x^2-1", "(x-1)(x+1)"),
    (r"\frac{x^2-1}{x-1}", r"\frac{(x-1)(x+1)}{x-1}"),
    ("a(b+c)", "ab+ac"),
    (r"\frac{1}{\sqrt{x}}", r"\frac{\sqrt{x}}{x}"),
    ("e^{2x}", "(e^x)^2"),
    (r"\sin^2x", r"1-\cos^2x"),
    (r"\tan x", r"\frac{\sin x}{\cos x}"),
    (r"\log_2 x", r"\frac{\ln x}{\ln 2}"),
    ("2^{n+1}", r"2\cdot2^n"),
    ("n(n+1)/2", r"\frac{n^2+n}{2}"),
    (r"\frac{n(n+1)}{2}", r"\binom{n+1}{2}"),
    ("x_1+x_2", "x_2+x_1"),
    (r"\alpha\beta", r"\beta\alpha"),
    ("3x^2y", "3yx^2"),
    (r"\sqrt{x^2+1}", "(x^2+1)^{1/2}"),
    ("|x-1|", "|1-x|"),
    ("-x+1", "1-x"),
    (r"\frac{x}{2}", "0.5x"),
    (r"\frac{x}{2}", r"\frac12x"),
]
WRONG = [
    ("x^2", "2x"),
    ("x^2-1", "(x-1)^2"),
    (r"\sqrt{x}", "x^2"),
    ("ab", "a+b"),
    ("e^x", "e^{-x}"),
    (r"\sin x", r"\sin 2x"),
    (r"\ln x", r"\log_2 x"),
    ("n!", "n^2"),
    ("2^n", "n^2"),
    ("x_1", "x_2"),
    (r"\alpha", r"\beta"),
    ("x", "X+1"),
    (r"\frac1x", r"\frac1{x^2}"),
    ("-x", "x"),
    ("|x|", "-x"),
    ("x", "x+10^{-40}"),
    ("x^2", "x|x|"),
    (r"\sqrt{x^2}", "x"),
    (r"\frac{x^2}{x}", "|x|"),
    ("1", "x/x+1"),
    ("2", "1+1+1"),
    ("9", r"3 \times 4"),
    ("12", r"3 \cdot 4 = 13"),
]


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_a_right_answer_is_rewarded(gold: str, answer: str) -> None:
    assert judge(gold, f"\\boxed{{{answer}}}") == "correct"


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_a_wrong_answer_is_not(gold: str, answer: str) -> None:
    assert judge(gold, f"\\boxed{{{answer}}}") == "wrong"
