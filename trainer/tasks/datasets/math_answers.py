r"""Verifying the answer in the last `\boxed{}` of a response with math-verify, for LaTeX and plain text.

Only the last box counts, so several guesses do not help; a response without a box has no answer. Runs in a
`BoundedPool`, because adversarial expressions can take forever.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify

from trainer.tasks.datasets.units import stated_unit

# Without this, every call warns that timeouts by signals are off.
logging.getLogger("math_verify").setLevel(logging.ERROR)

LONGEST_ANSWER = 512
"""characters; longer answers are wrong"""
BOX = "\\boxed"
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")
_WORDS = re.compile(r"[A-Za-z]{2}[A-Za-z ]*|[A-Za-z]")


def judge(gold: str, response: str) -> str:
    """The verdict: "correct", "wrong", or "no answer" (no box, or one that is empty, unclosed or cannot be parsed)."""
    answer = last_boxed(response)
    if answer is None or not answer.strip():
        return "no answer"
    if len(answer) > LONGEST_ANSWER:
        return "wrong"
    word = _word(gold)
    if word is not None:
        return "correct" if _word(answer) == word else "wrong"
    if _plain(answer) == _plain(gold):
        return "correct"
    found = _parse(answer)
    if not found:
        return "no answer"
    if not verify(list(_gold(gold)), found, timeout_seconds=None):
        return "wrong"
    return "wrong" if _other_unit(gold, answer) else "correct"


def final_answer(response: str) -> str | None:
    """The contents of the last box: words in lower case, anything else without white space; None if empty.

    Mathematically equal answers that are written differently stay different: comparing all pairs would take too long.
    """
    answer = last_boxed(response)
    if answer is None or not answer.strip() or len(answer) > LONGEST_ANSWER:
        return None
    return _word(answer) or _plain(answer)


def last_boxed(text: str) -> str | None:
    r"""The contents of the last `\boxed{...}`, with balanced braces; None if there is none or it is not closed."""
    start = text.rfind(BOX)
    if start < 0:
        return None
    opening = start + len(BOX)
    while opening < len(text) and text[opening] == " ":
        opening += 1
    if opening >= len(text) or text[opening] != "{":
        return None
    depth = 0
    for position in range(opening, len(text)):
        # An escaped brace belongs to a set and is not a delimiter.
        if text[position] in "{}" and text[position - 1] != "\\":
            depth += 1 if text[position] == "{" else -1
            if depth == 0:
                return text[opening + 1 : position]
    return None


@lru_cache(maxsize=4096)
def _gold(gold: str) -> tuple[Any, ...]:
    return tuple(_parse(gold)) or (gold.strip(),)


def _parse(answer: str) -> list[Any]:
    return parse(
        f"{BOX}{{{answer.strip().strip('$').rstrip('. ')}}}",
        extraction_config=[LatexExtractionConfig(boxed_match_priority=0)],
        fallback_mode="no_fallback",
        parsing_timeout=None,  # pyright: ignore[reportArgumentType]
    )


def _word(answer: str) -> str | None:
    """One or several words in lower case; None with other characters. As products of symbols, "on" equals "no"."""
    text = _TEXT.sub(r"\1", answer.strip().strip("$")).strip(" .()")
    return " ".join(text.lower().split()) if _WORDS.fullmatch(text) else None


def _other_unit(gold: str, answer: str) -> bool:
    """Whether both have known units, and different ones."""
    wanted, said = stated_unit(gold), stated_unit(answer)
    return wanted is not None and said is not None and wanted != said


def _plain(answer: str) -> str:
    return "".join(answer.split()).strip("$")
