"""The identity of problems: different problems are never one, and layout makes no difference."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trainer.tasks.base import Message
from trainer.tasks.datasets.problem_identity import comparable, identity, identity_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("what is \t3 + 3 ?", "What is 3 + 3?"),
        ("What is $3+3$?", "What is 3 + 3?"),
        ("What is\n$$3+3$$\n?", "What is 3+3?"),
        (r"What is \(3\,+\ 3\)?", "What is 3 + 3?"),
        (r"What is \left(3+3\right)?", "What is (3+3)?"),
        (r"$\dfrac{1}{2}$", r"\frac{1}{2}"),
        ("½", r"\frac{1}{2}"),
        (r"Compute 1\,000 + 1", "Compute 1000 + 1"),
        ("Compute 1\N{NARROW NO-BREAK SPACE}000", r"Compute 1\,000"),
        ("Compute 10²", "Compute $10^{2}$"),
        ("Compute 10²", "Compute 10^2"),
        ("x_{1}", "x_1"),
        ("Solve x − 1 = 2", "Solve x - 1 = 2"),
        ("x = -3", "x=-3"),
        ("Solve 2 x = 3", "Solve 2x=3"),
        ("f(1,2)", "f(1, 2)"),
        (r"50\%", "50%"),
        ("２+３", "2+3"),
        ("𝑥+1", "x+1"),
        ("3 × 4", r"$3\times 4$"),
        ("Find\nthe value", "Find the value"),
        ("Find $x$.\n\nGiven 3", "Find x. Given 3"),
        ("1\r\n2", "1\n2"),
        ("1\t2", "1  2"),
        ("e\u0301tude", "étude"),
        ("Done. If x", "Done. if x"),
    ],
)
def test_layout_makes_no_difference(one: str, other: str) -> None:
    assert identity(one) == identity(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 3 + 3?", "What is 3 - 3?"),
        ("Compute 2 2/3 + 1.", "Compute 22/3 + 1."),
        ("Compute 2½.", "Compute 21/2."),
        ("Compute 10².", "Compute 102."),
        ("Compute x_1 2.", "Compute x_12."),
        (r"Compute $2\ 3$.", "Compute 23."),
        ("The digits 1 2 3", "The digits 12 3"),
        ("1\n2", "12"),
        ("Sort 1 000", "Sort 1000"),
        ("Sort 5 100 200", "Sort 5100200"),
        ("f(1,000)", "f(1000)"),
        ("Add 1,234 and 5", "Add 1, 234 and 5"),
        ("1. 5", "1.5"),
        ("2 .5", "2. 5"),
        ("Version 3.1.2", "Version 3.1 .2"),
        ("Sort 5 -3", "Sort 5 - 3"),
        ("1e5", "1 e5"),
        ("2①", "21"),
        ("2⒈", "21."),
        ("Find M and m", "Find m and m"),
        ("Find f'(X)", "Find f'(x)"),
        ("Compute Log x", "Compute log x"),
        ("A is 1", "a is 1"),
        ("Ab is 1", "ab is 1"),
        ("X12 is 1", "x12 is 1"),
        ("|𝐱|", "|x|"),
        ("n in ℕ", "n in N"),
        ("φ + ϕ", "φ + φ"),
        ("Spell in a row", "Spell ina row"),
        ("A 3 x 4 grid", "A 3x4 grid"),
        ("x2", "x^2"),
        ("x2", "x_2"),
        ("Is 3! = 6", "Is 3 != 6"),
        ("5!!", "5! !"),
        ("[1,2]", r"\[1,2\]"),
        (r"\{1,2\}", "(1,2)"),
        ("1 2\n3 4", "1 2 3\n4"),
        ("1 2\n3 4", "1 2 3 4"),
        ("#.\n.#", "#..\n#"),
        ("X O\nO X", "X O O\nX"),
        ("$1$ $2$\n$3$ $4$", "$1$\n$2$ $3$ $4$"),
        ("```\nif a:\n    b\nc\n```", "```\nif a:\n    b\n    c\n```"),
        ('Reverse "a  b"', 'Reverse "a b"'),
    ],
)
def test_different_problems_stay_different(one: str, other: str) -> None:
    assert identity(one) != identity(other)


def test_words_of_latex_stay_what_they_are() -> None:
    assert comparable(r"x \leftarrow y") == "x\0\\leftarrow\0y"


NUMBER = st.integers(0, 99).map(str) | st.decimals(0, 9, places=2).map(str)
TOKEN = (
    NUMBER
    | st.sampled_from("xyXYMmn")
    | st.sampled_from(["find", "the", "value", r"\pi", r"\sin"])
    | st.sampled_from("+-*/=()<^|?")
)
TEXT = st.lists(TOKEN, min_size=2, max_size=12)
SPACE = st.sampled_from([" ", "  ", "\t", "~", "\\ ", "\\;", "\\quad ", " $ ", " \\( "])


@given(tokens=TEXT, data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_text_is_the_same_with_other_white_space(tokens: list[str], data: st.DataObject) -> None:
    spaces = data.draw(st.lists(SPACE, min_size=len(tokens), max_size=len(tokens)))
    other = "".join(space + token for space, token in zip(spaces, tokens, strict=True))
    assert identity(other) == identity(" ".join(tokens))


@given(tokens=TEXT, number=NUMBER, data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_text_is_another_with_another_number_order_or_letter(
    tokens: list[str], number: str, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(tokens) - 2))
    change = data.draw(st.sampled_from(["number", "order", "case", "joined"]))
    here, there = tokens[place : place + 2]
    if change == "number":
        assume(here[0].isdigit() and here != number)
        changed = [*tokens[:place], number, there]
    elif change == "order":
        assume(here != there)
        changed = [*tokens[:place], there, here]
    elif change == "case":
        assume(len(here) == 1 and here.isalpha())
        changed = [*tokens[:place], here.swapcase(), there]
    else:
        assume(here[-1].isdigit() and there[0].isdigit())
        changed = [*tokens[:place], here + there]
    assert identity(" ".join([*changed, *tokens[place + 2 :]])) != identity(" ".join(tokens))


def test_a_conversation_is_the_same_only_with_the_same_turns() -> None:
    asked = Message("user", "And 3 + 3?")
    conversations = [
        [asked],
        [Message("system", "Be brief."), asked],
        [Message("user", "What is 2 + 2?"), Message("assistant", "4"), asked],
        [Message("user", "What is 2 + 2?"), Message("assistant", "5"), asked],
        [Message("user", "What is 2 + 2?"), Message("user", "4"), asked],
        [Message("user", "What is 2 + 2?"), Message("assistant", "4\n"), Message("user", "and 3 + 3?")],
    ]
    identities = [identity_of(messages) for messages in conversations]
    assert len(set(identities)) == 5
    assert identities[0] == identity("and $3+3$?")
    assert identities[2] == identities[5]
