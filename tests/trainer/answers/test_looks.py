r"""The looks of an answer do not count: fonts, colours, spacing, delimiters.

Each case is labelled by hand: (reference answer, answer)."""

from __future__ import annotations

import pytest

from trainer.tasks.answers.judge import judge

RIGHT = [
    ("73", "__73__"),
    ("73", "`73`"),
    ("73", "$73$"),
    ("73", "$$73$$"),
    ("73", r"\(73\)"),
    ("73", r"\[73\]"),
    ("73", r"\displaystyle 73"),
    ("73", r"\mathbf{73}"),
    ("73", r"\boldsymbol{73}"),
    ("73", r"\text{73}"),
    ("73", r"\Large 73"),
    ("73", "{73}"),
    ("73", "{{73}}"),
    ("73", r"\textbf{73}"),
    ("73", r"\underline{73}"),
    ("73", r"\colorbox{yellow}{73}"),
    ("73", r"\textcolor{blue}{\mathbf{73}}"),
    ("73", r"73\quad"),
    ("73", r"\;73\;"),
    ("73", r"73\,."),
    ("73", r"73 \tag{1}"),
    ("73", r"\left(73\right)"),
    ("73", r"\bf 73"),
    ("73", r"{\bf 73}"),
    (r"\frac{7}{3}", r"\dfrac{7}{3}"),
    (r"\frac{7}{3}", r"\tfrac73"),
    (r"\frac{7}{3}", r"\cfrac{7}{3}"),
    (r"\frac{7}{3}", r"\frac 7 3"),
    (r"\frac{7}{3}", "{7}/{3}"),
    (r"\frac{7}{3}", r"\left.\frac{7}{3}\right."),
    ("e^{x}", r"\mathrm{e}^{x}"),
    ("2i", r"2\mathrm{i}"),
    ("3-2i", "-2i+3"),
]


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_a_right_answer_is_rewarded(gold: str, answer: str) -> None:
    assert judge(gold, f"\\boxed{{{answer}}}") == "correct"
