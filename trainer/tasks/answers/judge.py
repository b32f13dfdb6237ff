r"""The verdict on a response: its last `\boxed{}` against the reference answer.

Runs in a `BoundedPool`, because adversarial expressions can take forever.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from trainer.tasks.answers.answer import Answer
from trainer.tasks.answers.boxed import last_boxed
from trainer.tasks.answers.equality import equal
from trainer.tasks.answers.expressions import written
from trainer.tasks.answers.nodes import Commas, Node, Unreadable, read_nodes
from trainer.tasks.answers.reading import structure

LONGEST_ANSWER = 512
"""characters; longer answers are wrong"""
NOT_COMPUTABLE = (ArithmeticError, AttributeError, NotImplementedError, RecursionError, TypeError, ValueError)
"""what SymPy raises for expressions that it cannot compute with; such an answer is not the reference answer"""
_AMBIGUOUS = re.compile(r"(?<![0-9,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])")
_CHOICE = re.compile(r"[\[(]?([A-Ha-h])[\])]?|[\[(]?([A-H])(?:[\])][.:]?|[.:])\s*(.+)")
_LABELS = re.compile(r"(?:(?:the )?(?:correct )?(?:answer|option|choice|letter)(?: is)?:? +)+", re.IGNORECASE)
_VARIABLES = re.compile(r"[b-df-hj-np-tv-z]+|[A-Za-z]")


def judge(gold: str, response: str) -> str:
    """The verdict: "correct", "wrong", or "no answer" (no box, or one that is empty or not closed)."""
    answer = last_boxed(response)
    if answer is None or not answer.strip():
        return "no answer"
    return "correct" if len(answer) <= LONGEST_ANSWER and same_answer(gold, answer) else "wrong"


def final_answer(response: str) -> str | None:
    """The contents of the last box without its looks; words in lower case; None if empty.

    Mathematically equal answers that are written differently stay different: comparing all pairs would take too long.
    """
    answer = last_boxed(response)
    if answer is None or not answer.strip() or len(answer) > LONGEST_ANSWER:
        return None
    try:
        nodes = read_nodes(answer)
    except Unreadable:
        return " ".join(answer.split())
    return _words(nodes) or written(nodes)


def same_answer(gold: str, answer: str) -> bool:
    """Whether `answer` is the reference answer `gold`, both without a box."""
    try:
        wanted, said = read_nodes(gold), read_nodes(answer)
    except Unreadable:
        return " ".join(gold.split()) == " ".join(answer.split())
    if wanted and written(wanted) == written(said):
        return True
    word = _words(wanted)
    if word is not None:
        if _words(said) == word or (len(word) == 1 and _chosen(answer) == word):
            return True
        if not _VARIABLES.fullmatch(word):
            return False
    elif _words(said) is not None and len(_words(said) or "") > 1:
        return False
    return any(_equal(one, other) for one in _readings(gold) for other in _readings(answer))


def _equal(gold: Answer, answer: Answer) -> bool:
    try:
        return equal(gold, answer)
    except NOT_COMPUTABLE:
        return False


@lru_cache(maxsize=4096)
def _readings(text: str) -> tuple[Answer, ...]:
    """What the text can mean: `1,234` is a number or a list."""
    found = []
    ambiguous: tuple[Commas, ...] = ("outside", "everywhere", "nowhere")
    for commas in ambiguous if _AMBIGUOUS.search(text) else ambiguous[:1]:
        try:
            found.append(structure(read_nodes(text, commas)))
        except (Unreadable, *NOT_COMPUTABLE):
            continue
    return tuple(found)


def _words(nodes: Sequence[Node]) -> str | None:
    """Words in lower case, without brackets and labels such as "Option"; None if there is anything else."""
    kept = [node for node in nodes if not node.names("(", ")", "[", "]", ".", ":", ",")]
    if not kept or not all(node.kind in ("name", "text") for node in kept):
        return None
    text = " ".join(node.text for node in kept).strip(" .():[]")
    text = _LABELS.sub("", text, count=1).strip(" .():[]")
    return " ".join(text.lower().split()) if re.fullmatch(r"[A-Za-z][A-Za-z '.-]*", text) else None


def _chosen(answer: str) -> str | None:
    """The letter of a choice, which its text may follow: `(B) 12`. None if there is another letter."""
    nodes = read_nodes(answer)
    text = " ".join(node.text for node in nodes if node.kind in ("name", "text", "symbol", "numeral"))
    text = re.sub(r"\s*([\])(\[.:])\s*", r"\1", _LABELS.sub("", text, count=1)).strip()
    found = _CHOICE.fullmatch(text)
    if found is None:
        return None
    if found[3] and re.search(r"(?<![A-Za-z])[A-H](?![A-Za-z])", found[3]):
        return None
    return (found[1] or found[2]).lower()
