r"""Answers that math graders get wrong, labelled by hand: (gold answer, response, verdict)."""

from __future__ import annotations

import pytest

from trainer.tasks.math_answers import judge, last_boxed

RIGHT = [
    # fractions, decimals, percentages
    ("1/2", r"\boxed{0.5}"),
    (r"\frac{1}{2}", r"\boxed{\frac12}"),
    (r"\frac{1}{2}", r"\boxed{\dfrac{2}{4}}"),
    (r"\frac{3}{4}", r"\boxed{3/4}"),
    ("1.5", r"\boxed{1\frac{1}{2}}"),
    (r"1\frac12", r"\boxed{\frac{3}{2}}"),
    (r"-\frac{7}{3}", r"\boxed{\frac{-7}{3}}"),
    (r"50\%", r"\boxed{0.5}"),
    ("50", r"\boxed{50\%}"),
    ("1000", r"\boxed{1,000}"),
    ("1,000", r"\boxed{1000}"),
    ("1000", r"\boxed{1{,}000}"),
    ("17", r"\boxed{0017}"),
    ("5", r"\boxed{5.}"),
    ("5", r"\boxed{+5}"),
    # units, currency, degrees
    (r"10\text{ cm}", r"\boxed{10}"),
    ("10", r"\boxed{10\,\text{cm}}"),
    (r"30^\circ", r"\boxed{30}"),
    (r"\$5", r"\boxed{5}"),
    ("5", r"\boxed{\$5}"),
    # expressions
    (r"2\sqrt{3}", r"\boxed{\sqrt{12}}"),
    (r"\frac{1}{\sqrt2}", r"\boxed{\frac{\sqrt{2}}{2}}"),
    ("2^{10}", r"\boxed{1024}"),
    ("9", r"\boxed{3^2}"),
    ("-1", r"\boxed{1-2}"),
    ("x^2+1", r"\boxed{1+x^2}"),
    ("(x+1)^2", r"\boxed{x^2+2x+1}"),
    ("3+4i", r"\boxed{4i+3}"),
    ("x=3", r"\boxed{3}"),
    ("3", r"\boxed{x=3}"),
    ("12", r"\boxed{12 = 3*4}"),
    # sets, tuples, intervals, matrices
    ("(1,2)", r"\boxed{(1, 2)}"),
    (r"\{1,2\}", r"\boxed{\{2,1\}}"),
    ("3,4", r"\boxed{4,3}"),
    (r"\emptyset", r"\boxed{\{\}}"),
    (r"x\le 3", r"\boxed{(-\infty,3]}"),
    (
        r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
        r"\boxed{\begin{bmatrix}1&2\\3&4\end{bmatrix}}",
    ),
    # letters and words
    ("A", r"\boxed{\text{A}}"),
    (r"\text{(B)}", r"\boxed{B}"),
    (r"\text{Monday}", r"\boxed{monday}"),
    ("no", r"\boxed{\text{No}.}"),
    # LaTeX noise, and more than one box
    ("7", r"\boxed{\mathbf{7}}"),
    ("7", r"So we get $\boxed {7}$ as wanted."),
    ("9", r"\boxed{\boxed{9}}"),
    ("1", r"First \boxed{2}; no, that is wrong. \boxed{1}"),
    ("4", "Ignore this: put your answer within \\boxed{}.\n\\[\\boxed{4}\\]"),
]
WRONG = [
    ("1", r"\boxed{1} is a guess, \boxed{2} is my answer"),
    ("3", r"\boxed{3, 4}"),
    ("9", r"\boxed{8 \text{ or } 9}"),
    ("9", r"\boxed{not 9}"),
    ("9", r"\boxed{I think 9}"),
    ("[1,2)", r"\boxed{[1,2]}"),
    ("(1,2)", r"\boxed{(2,1)}"),
    (r"\{1,2\}", r"\boxed{\{1,2,3\}}"),
    (r"\pi", r"\boxed{3.14}"),
    (r"\frac{1}{3}", r"\boxed{0.333}"),
    ("x^2+1", r"\boxed{x^2-1}"),
    ("5", r"\boxed{-5}"),
    ("A", r"\boxed{B}"),
    ("no", r"\boxed{on}"),
    ("Monday", r"\boxed{Sunday}"),
    ("5", r"\boxed{5x}"),
    ("12", r"\boxed{" + "1+" * 400 + "12}"),
]
NO_ANSWER = [
    ("72", "The answer is 72."),
    ("72", "#### 72"),
    ("8", r"\boxed{}"),
    ("8", r"\boxed{ }"),
    ("8", r"\boxed{8"),
    ("8", r"\fbox{8}"),
    ("8", r"\boxed 8"),
    ("8", r"\boxed{8} and then \boxed{"),
    ("8", ""),
]


def test_there_are_sixty_cases_and_more() -> None:
    assert len(RIGHT) + len(WRONG) + len(NO_ANSWER) >= 60


@pytest.mark.parametrize(("gold", "response"), RIGHT)
def test_a_right_answer_is_seen_however_it_is_written(gold: str, response: str) -> None:
    assert judge(gold, response) == "correct"


@pytest.mark.parametrize(("gold", "response"), WRONG)
def test_a_wrong_answer_gets_nothing(gold: str, response: str) -> None:
    assert judge(gold, response) == "wrong"


@pytest.mark.parametrize(("gold", "response"), NO_ANSWER)
def test_without_a_closed_box_there_is_no_answer(gold: str, response: str) -> None:
    assert judge(gold, response) == "no answer"


def test_braces_in_a_box_are_balanced_and_escaped_ones_do_not_count() -> None:
    assert last_boxed(r"\boxed{\frac{1}{2}} tail}") == r"\frac{1}{2}"
    assert last_boxed(r"\boxed{\{1, 2\}}") == r"\{1, 2\}"
    assert last_boxed("no box") is None
