"""The language of `countdown_cot`: what may be said about a derivation, in words that may be chosen freely.

A chain of thought is a list of sentences that ends with the answer:

    okay , let us start . now , if we take 7 plus 12 , then i see that it gives 19 . check : 19 minus 7 is 12 ,
    good . next , if we use 19 - 8 , then you find that it makes 11 ! so the answer is ( 7 + 12 ) - 8

Of a sentence's words, those written in capitals in its pattern are slots, each filled by one of several
synonyms. The steps and the answer are necessary; every other sentence may be left out, and each may stand
anywhere after what it speaks of. Only the answer is scored (`countdown_cot.verify`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainer.tasks.countdown.derivation import Term, expression, steps

ANSWER = "answer"
"""What stands after its last occurrence is the final answer."""

SLOTS = {
    "OPENING": ("okay", "well", "right", "hmm"),
    "LOOK": ("see", "think", "look", "start"),
    "TRY": ("try", "maybe", "perhaps", "suppose"),
    "NO": ("no", "useless", "bad", "wrong"),
    "LEAD": ("here", "now", "then", "next"),
    "WE": ("we", "i", "you"),
    "TAKE": ("take", "use", "compute", "make"),
    "SEE": ("see", "find", "get", "know"),
    "GIVES": ("gives", "makes", "is", "equals"),
    "LEFT": ("left", "remaining", "available", "there"),
    "CHECK": ("check", "indeed", "verify", "because"),
    "FINE": ("fine", "good", "correct", "yes"),
    "SO": ("so", "hence", "thus", "therefore"),
    "MY": ("the", "my", "our"),
    "LINK": ("is", ":", "="),
    "STOP": (".", ";", "!"),
    "+": ("+", "plus"),
    "-": ("-", "minus"),
    "*": ("*", "times"),
}

_OPENING = "OPENING , let us LOOK STOP"
_ATTEMPT = "TRY {a} {op} {b} , GIVES {r} , NO STOP"
_STEP = "LEAD , if WE TAKE {a} {op} {b} , then WE SEE that it GIVES {r} STOP"
_REMARK = "LEFT are {values} STOP"
_CHECK = "CHECK : {a} {op} {b} GIVES {r} , FINE STOP"
_ANSWER = f"SO MY {ANSWER} LINK {{expression}}"

_OPTIONAL = {word for slot in ("OPENING", "TRY", "LEFT", "CHECK") for word in SLOTS[slot]}
"""First words of sentences that may be left out."""
_SIGNS = {"(", ")", *(word for operator in "+-*" for word in SLOTS[operator])}

WORDS = tuple(
    dict.fromkeys(
        [
            *"()",
            ",",
            "let",
            "us",
            "if",
            "that",
            "it",
            "are",
            "and",
            ANSWER,
            *(w for s in SLOTS.values() for w in s),
        ]
    )
)
"""Every word but the numbers."""

OPENING_SHARE, ATTEMPT_SHARE, REMARK_SHARE, CHECK_SHARE = 0.7, 0.3, 0.5, 0.5
"""How often a sentence is written that may be left out; attempts are drawn twice, checks once a step."""


def write(derivation: Term, dead_ends: Sequence[Term], rng: np.random.Generator) -> str:
    """A random chain of thought for a derivation; attempts are drawn from `dead_ends`, joins that lead nowhere."""
    derivation = _with_free_operand_order(derivation, rng)
    sequence = steps(derivation)
    # a sentence stands at a real position: step k at k, what may be left out anywhere after what it speaks of
    placed = [(float(k), _fill(_STEP, step, rng)) for k, step in enumerate(sequence, start=1)]
    if rng.random() < OPENING_SHARE:
        placed.append((0.0, _words(_OPENING, rng)))
    for _ in range(2 if dead_ends else 0):
        if rng.random() < ATTEMPT_SHARE:
            dead_end = _with_free_operand_order(dead_ends[int(rng.integers(len(dead_ends)))], rng)
            placed.append((rng.uniform(0, 1), _fill(_ATTEMPT, dead_end, rng)))
    if len(sequence) > 1 and rng.random() < REMARK_SHARE:
        left = " and ".join(str(operand.value) for operand in derivation.operands)
        placed.append((rng.uniform(1, 2), _words(_REMARK.format(values=left), rng)))
    for k, step in enumerate(sequence, start=1):
        if rng.random() < CHECK_SHARE:
            placed.append((rng.uniform(k, len(sequence) + 1), _fill(_CHECK, _inverse(step), rng)))
    answer = _words(_ANSWER, rng).format(expression=expression(derivation))
    return " ".join([*(text for _, text in sorted(placed)), answer])


def free_words(words: Sequence[str]) -> list[bool]:
    """Which words of a correct response could be another synonym or absent and leave it correct, bool[T].

    Bound are the numbers and operators of the steps and, of the closing sentence, "answer" and the expression.
    Free are all others: whole sentences that may be left out, with their numbers, and every word of a step that
    carries no arithmetic. Of the bound words only the closing ones are scored, but the steps are what a model
    reads its answer off; so this counts fewer free words than the verifier alone would.
    """
    free: list[bool] = []
    optional, answering = False, False
    for i, word in enumerate(words):
        if i == 0 or words[i - 1] in SLOTS["STOP"]:
            optional = word in _OPTIONAL
        if word == ANSWER:
            optional, answering = False, True
        carries = word == ANSWER or word.isdigit() or word in _SIGNS
        is_link = answering and words[i - 1] == ANSWER and word in SLOTS["LINK"]
        free.append(optional or not carries or is_link)
    return free


def _fill(pattern: str, step: Term, rng: np.random.Generator) -> str:
    a, b = (operand.value for operand in step.operands)
    return _words(pattern.format(a=a, op=step.operator, b=b, r=step.value), rng)


def _words(pattern: str, rng: np.random.Generator) -> str:
    """A pattern with every slot filled at random."""
    return " ".join(
        SLOTS[word][int(rng.integers(len(SLOTS[word])))] if word in SLOTS else word
        for word in pattern.split()
    )


def _with_free_operand_order(term: Term, rng: np.random.Generator) -> Term:
    """The same derivation with the operands of + and * in random order."""
    operands = tuple(_with_free_operand_order(operand, rng) for operand in term.operands)
    if term.operator in ("+", "*") and rng.random() < 0.5:
        operands = operands[::-1]
    return Term(term.value, term.operator, operands)


def _inverse(step: Term) -> Term:
    """The statement that checks a step: a + b = r by r - b = a, a - b = r by r + b = a, a * b = r by b * a = r."""
    a, b = step.operands
    match step.operator:
        case "+":
            return Term(a.value, "-", (step, b))
        case "-":
            return Term(a.value, "+", (step, b))
        case _:
            return Term(step.value, "*", (b, a))
