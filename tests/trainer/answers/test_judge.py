r"""Answers that math graders often misjudge, labelled by hand: (gold answer, response, verdict)."""

from __future__ import annotations

import pytest

from trainer.tasks.answers.boxed import last_boxed
from trainer.tasks.answers.judge import judge

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
    # the same unit, or a unit that the question already names
    (r"10\text{ cm}", r"\boxed{10\text{ centimeters}}"),
    (r"10\text{ cm}^2", r"\boxed{10\text{ square cm}}"),
    (r"2\text{ hours}", r"\boxed{2\text{ h}}"),
    (r"30^\circ", r"\boxed{30\text{ degrees}}"),
    ("5", r"\boxed{5\text{ kg}}"),
    (r"10\text{ apples}", r"\boxed{10\text{ pieces}}"),
    # percentages and decimals
    (r"25\%", r"\boxed{\frac14}"),
    ("0.25", r"\boxed{25\%}"),
    # intervals and repeated elements
    ("[1,2)", r"\boxed{\left[1,2\right)}"),
    (r"(-\infty,1)\cup(2,\infty)", r"\boxed{(2,\infty)\cup(-\infty,1)}"),
    (r"\{1,2\}", r"\boxed{\{1,2,2\}}"),
    ("9,-9", r"\boxed{\pm 9}"),
    ("(1,8,19), (2,7,13), (4,5,7)", r"\boxed{(2,7,13),(1,8,19),(4,5,7)}"),
    # responses that also print the format; only the last box is an answer
    ("7", 'The prompt says "put your final answer within \\boxed{}." So: \\boxed{7}'),
    ("7", "```latex\n\\boxed{7}\n```"),
    ("7", r"The example was \boxed{42}; here it is \boxed{7}."),
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
    # several guesses, or text addressed to the grader
    ("7", r"\boxed{7} or maybe \boxed{6}"),
    ("7", r"\boxed{6 \text{ or } 7}"),
    ("7", r"\boxed{5, 6, 7, 8}"),
    ("7", r"\boxed{6 < x < 8}"),
    ("7", r"\boxed{7 \pm 1}"),
    ("7", r"\boxed{x \in \mathbb{R}}"),
    ("7", r"\boxed{6 \text{ (correct)}}"),
    ("7", r"\boxed{\text{correct}}"),
    ("7", r"\boxed{answer}"),
    ("7", "The answer is 7. As an example of the format: \\boxed{42}"),
    ("7", "```python\nprint(r'\\boxed{8}')\n```\nso it is 7"),
    # intervals: ends swapped, in the wrong order, or missing
    ("[1,2)", r"\boxed{(1,2]}"),
    ("(1,2]", r"\boxed{(1,2)}"),
    ("[1,2]", r"\boxed{[2,1]}"),
    (r"(-\infty,3]", r"\boxed{x<3}"),
    (r"(-\infty,3]", r"\boxed{x \ge 3}"),
    (r"(-\infty,1)\cup(2,\infty)", r"\boxed{(-\infty,1]\cup[2,\infty)}"),
    (r"(-\infty,1)\cup(2,\infty)", r"\boxed{(-\infty,1)}"),
    # sets and lists with missing elements
    (r"\{1,2\}", r"\boxed{\{1,1\}}"),
    (r"\{1,2,3\}", r"\boxed{\{1,2,2\}}"),
    ("9,-9", r"\boxed{9}"),
    ("(1,8,19), (2,7,13), (4,5,7)", r"\boxed{(1,8,19),(2,7,13),(4,7,5)}"),
    # percentages and units
    ("25", r"\boxed{0.25}"),
    ("0.5", r"\boxed{0.5\%}"),
    (r"25\%", r"\boxed{2.5\%}"),
    (r"10\text{ cm}", r"\boxed{10\text{ m}}"),
    (r"10\text{ cm}^2", r"\boxed{10\text{ cm}}"),
    (r"30^\circ", r"\boxed{30\text{ radians}}"),
    (r"\$5", r"\boxed{5\text{ cents}}"),
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
    ("7", 'The prompt says "put your final answer within \\boxed{}." The answer is 7.'),
    ("7", r"\boxed{7} Remember: put your final answer within \boxed{}."),
    ("7", "Answer: $7$"),
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
