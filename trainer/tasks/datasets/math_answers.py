r"""Is the answer in the last `\boxed{}` of a response the right one? By math-verify, on LaTeX or plain text.

Only the last box counts, so listing several guesses does not help; a response without one has no answer, however
right its prose is. Runs in a bounded process: hostile expressions can take for ever.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify

from trainer.tasks.datasets.units import stated_unit

# It warns at every call that its own timeouts, which need signals, are off.
logging.getLogger("math_verify").setLevel(logging.ERROR)

LONGEST_ANSWER = 512
"""characters; no right answer is longer"""
BOX = "\\boxed"
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")
_WORDS = re.compile(r"[A-Za-z]{2}[A-Za-z ]*|[A-Za-z]")


def judge(gold: str, response: str) -> str:
    """ "correct", "wrong" or "no answer" (no box, an empty or unclosed one, or one that cannot be read)."""
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
    """What the last box holds, words in lower case and anything else without white space; None where it is empty.

    Answers that are equal as mathematics and written differently stay different: to compare each with each would
    take as long as judging them all.
    """
    answer = last_boxed(response)
    if answer is None or not answer.strip() or len(answer) > LONGEST_ANSWER:
        return None
    return _word(answer) or _plain(answer)


def last_boxed(text: str) -> str | None:
    r"""What the last `\boxed{...}` holds, braces inside it balanced; None when there is none or it is not closed."""
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
        # An escaped brace is a character of a set, not a delimiter.
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
    """A word or several, in lower case; None for anything with other signs. As symbols, "on" would equal "no"."""
    text = _TEXT.sub(r"\1", answer.strip().strip("$")).strip(" .()")
    return " ".join(text.lower().split()) if _WORDS.fullmatch(text) else None


def _other_unit(gold: str, answer: str) -> bool:
    """Whether both state a unit that is known, and not the same."""
    wanted, said = stated_unit(gold), stated_unit(answer)
    return wanted is not None and said is not None and wanted != said


def _plain(answer: str) -> str:
    return "".join(answer.split()).strip("$")
