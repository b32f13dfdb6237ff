"""The language of `countdown_cot`: sentences about a derivation, with freely chosen words.

A chain of thought is a list of sentences that ends with the answer:

    okay , let us start . now , if we take 7 plus 12 , then i see that it gives 19 . check : 19 minus 7 is 12 ,
    good . next , if we use 19 - 8 , then you find that it makes 11 ! so the answer is ( 7 + 12 ) - 8

Words in capitals in the pattern of a sentence are slots, each filled by one of several synonyms. The steps and the
answer are required; every other sentence is optional and may come anywhere after the step that it refers to. Only the
answer is scored (`CountdownCot.verify`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainer.tasks.countdown.derivation import Term, expression, steps

ANSWER = "answer"
"""the final answer follows the last occurrence of this word"""

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
"""first words of optional sentences"""
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
"""every word except numbers"""

OPENING_SHARE, ATTEMPT_SHARE, REMARK_SHARE, CHECK_SHARE = 0.7, 0.3, 0.5, 0.5
"""probabilities of optional sentences; attempts are drawn twice, checks once per step"""


def write(derivation: Term, dead_ends: Sequence[Term], rng: np.random.Generator) -> str:
    """A random chain of thought for a derivation. dead_ends: combinations that solve nothing, for attempts."""
    derivation = _with_free_operand_order(derivation, rng)
    sequence = steps(derivation)
    # Sentences are sorted by a real position: step k at k, optional ones anywhere after what they refer to.
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
    """Which words of a correct response could be replaced by a synonym or omitted, bool[T].

    Not free are the numbers and operators of the steps and, in the last sentence, "answer" and the expression. All
    other words are free: optional sentences, including their numbers, and the words of steps other than arithmetic. The
    steps are not scored, but a model derives its answer from them, so they count as not free.
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
    """The pattern with random words in its slots."""
    return " ".join(
        SLOTS[word][int(rng.integers(len(SLOTS[word])))] if word in SLOTS else word
        for word in pattern.split()
    )


def _with_free_operand_order(term: Term, rng: np.random.Generator) -> Term:
    """The derivation with the operands of + and * in random order."""
    operands = tuple(_with_free_operand_order(operand, rng) for operand in term.operands)
    if term.operator in ("+", "*") and rng.random() < 0.5:
        operands = operands[::-1]
    return Term(term.value, term.operator, operands)


def _inverse(step: Term) -> Term:
    """The check of a step: r - b = a for a + b = r, r + b = a for a - b = r, b * a = r for a * b = r."""
    a, b = step.operands
    match step.operator:
        case "+":
            return Term(a.value, "-", (step, b))
        case "-":
            return Term(a.value, "+", (step, b))
        case _:
            return Term(step.value, "*", (b, a))
