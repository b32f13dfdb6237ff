r"""Lists, sets, points, intervals, equations, inequalities, matrices.

Each case is labelled by hand: (reference answer, answer)."""

from __future__ import annotations

import pytest

from trainer.tasks.answers.judge import judge

RIGHT = [
    ("(1,2)", r"\left(1,2\right)"),
    ("(1,2)", "( 1 , 2 )"),
    (r"(\frac12,-3)", "(0.5,-3)"),
    (r"\{1,2,3\}", r"\{3,1,2\}"),
    ("1,2,3", "3,2,1"),
    ("1,2,3", "1, 2, and 3"),
    ("1,2", "1 and 2"),
    ("1,2", r"1 \text{ and } 2"),
    ("2,-2", r"\pm2"),
    (r"1\pm\sqrt2", r"1-\sqrt2,1+\sqrt2"),
    (r"(-\infty,2]", r"x\le 2"),
    ("(0,1)", "0<x<1"),
    ("(0,1)", r"x\in(0,1)"),
    (r"[0,1]\cup[2,3]", r"[2,3]\cup[0,1]"),
    (r"x\ge1", r"[1,\infty)"),
    ("x>1", "1<x"),
    (r"x\ne0", r"(-\infty,0)\cup(0,\infty)"),
    (r"\{x\mid x>0\}", "x>0"),
    (r"\langle1,2,3\rangle", "(1,2,3)"),
    (r"\begin{pmatrix}1&0\\0&1\end{pmatrix}", r"\begin{bmatrix}1&0\\0&1\end{bmatrix}"),
    ("x=1,x=2", "1,2"),
    ("(a,b)=(1,2)", "(1,2)"),
    ("x=1,y=2", "(1,2)"),
    (r"\mathbb{R}", r"(-\infty,\infty)"),
    ("y=2x+3", "y=3+2x"),
    ("y=2x+3", "2x+3"),
    ("2x+3y=6", "4x+6y=12"),
    ("x+y<3", "3>x+y"),
]
WRONG = [
    ("(1,2)", "(2,1)"),
    ("(1,2)", "(1,2,3)"),
    ("(1,2)", "1,2,3"),
    (r"\{1,2\}", r"\{1,3\}"),
    ("1,2", "1"),
    ("1", "1,2"),
    (r"\pm2", "2"),
    ("2", r"\pm2"),
    ("(0,1)", "[0,1]"),
    ("(0,1)", "(0,1]"),
    ("x<2", "x>2"),
    (r"x\le2", "x<2"),
    (r"[0,1]\cup[2,3]", "[0,3]"),
    (r"x\ne0", r"\mathbb{R}"),
    (r"\emptyset", "0"),
    (r"\emptyset", r"\{0\}"),
    (r"\begin{pmatrix}1&0\\0&1\end{pmatrix}", r"\begin{pmatrix}0&1\\1&0\end{pmatrix}"),
    (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}2&1\end{pmatrix}"),
    ("x=1,y=2", "x=2,y=1"),
    ("(a,b)=(1,2)", "(2,1)"),
    ("y=2x+3", "y=2x-3"),
    ("2x+3y=6", "2x+3y=7"),
    ("x+y<3", "x+y>3"),
    ("(1,234)", "12,34"),
    ("y=x", "x=2y"),
]


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_a_right_answer_is_rewarded(gold: str, answer: str) -> None:
    assert judge(gold, f"\\boxed{{{answer}}}") == "correct"


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_a_wrong_answer_is_not(gold: str, answer: str) -> None:
    assert judge(gold, f"\\boxed{{{answer}}}") == "wrong"
