r"""The identity of a problem, to find duplicate rows, and held-out problems among training problems.

A text is compared by its tokens: numbers, words, LaTeX commands and symbols. White space and layout only part tokens,
so `2 2/3` is not `22/3`, and `2 x` is `2x`. What may tell two problems apart is kept, so that different problems are
never taken for one; copies that differ in more than layout are not found.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby

from trainer.tasks.answers.characters import latex_characters
from trainer.tasks.base import Message

_TOKENS = re.compile(
    r"""
    (?P<exact>```.*?```|"[^"\n]*")
    |(?P<layout>\\(?:[,;:!> ()\[\]$]|(?:left|right)(?![A-Za-z])\.?
        |(?:quad|qquad|displaystyle|thinspace)(?![A-Za-z]))|\$\$|[$~])
    |(?P<space>\s+)
    |(?P<command>\\[A-Za-z]+|\\.)
    |(?P<number>[0-9]{1,3}(?:(?:,(?:\\!)?|\\,)[0-9]{3})+(?![0-9])(?:\.[0-9]+)?
        |(?:[0-9]+(?:\.[0-9]+)*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    |(?P<word>[^\W\d_]+[0-9]*)
    |(?P<symbol>!=|!!+|<=|>=|==|\*\*|//|->|=>|:=|\.{2,}|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_SAME = {r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\%": "%", r"\#": "#", r"\&": "&", r"\_": "_"}
_SHORT_WORDS = re.compile("am|an|as|at|be|by|do|he|if|in|is|it|me|my|no|of|on|or|so|to|up|us|we")
_SENTENCE_ENDS = frozenset(".?!")
_DISPLAY = frozenset(["$$", "\\[", "\\]"])
_LINE_ENDS = frozenset(",;:?")
_SHORT_POWER = re.compile("([\\^_])\0\\{\0([0-9A-Za-z])\0\\}")
_GREEK_SYMBOLS = frozenset("ϐϑϕϖϰϱϵ")


def comparable(text: str) -> str:
    r"""`text` without differences of layout.

    Such are the amount of white space, and whether there is any around symbols; line breaks beside words; Unicode and
    LaTeX forms of the same digits, letters and operators; LaTeX's math delimiters (`$`, `\(`, `\[`), spaces (`\,`, `~`,
    `\quad`), `\left`, `\right`, `\dfrac`, and braces around a power of one character; a capital at the start of a
    sentence.
    """
    joined = "\0".join(_tokens(_characters(unicodedata.normalize("NFC", text))))
    return _SHORT_POWER.sub("\\1\0\\2", joined)


def identity(text: str) -> str:
    """20 hexadecimal digits, equal for texts with equal `comparable`."""
    return _digest(comparable(text))


def identity_of(messages: Sequence[Message]) -> str:
    """The identity of a conversation: of its only text, or of all roles and texts in order."""
    if len(messages) == 1:
        return identity(messages[0].content)
    return _digest("".join(f"{message.role} {identity(message.content)}\n" for message in messages))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=10).hexdigest()


def _tokens(text: str) -> Iterator[str]:
    before, spaced, broken, display = "", False, False, False
    for match in _TOKENS.finditer(text):
        kind, token = match.lastgroup, match[0]
        if kind == "space":
            spaced, broken = True, broken or "\n" in token
        elif kind == "layout":
            spaced, display = True, display or token in _DISPLAY
        else:
            if kind == "number":
                token = token.replace("\\,", "").replace("\\!", "")
            elif kind == "word" and (not before or before in _SENTENCE_ENDS):
                token = _uncapitalized(token)
            elif (
                token in "+-"
                and spaced
                and _is_number(before)
                and text[match.end() : match.end() + 1].isdigit()
            ):
                # Of two numbers, the second has a sign: "5 -3" is not "5 - 3".
                token = f"{token}sign"
            token = _SAME.get(token, token)
            if broken and not display and _is_cell(before) and _is_cell(token) and before not in _LINE_ENDS:
                # The lines of a table or a grid.
                yield "\n"
            yield token
            before, spaced, broken, display = token, False, False, False


def _is_number(token: str) -> bool:
    return token[-1:].isdigit() and not token[0].isalpha()


def _is_cell(token: str) -> bool:
    """Whether a token is anything but a word, a LaTeX command or a quotation."""
    return token != "" and not (len(token) > 1 and token[0].isalpha()) and token[0] not in '\\"`'


def _uncapitalized(word: str) -> str:
    """The first word of a sentence with a small letter; a variable as it is."""
    small = word.lower()
    name = len(word) < 3 and _SHORT_WORDS.fullmatch(small) is None
    if name or not word.isalpha() or word != word.capitalize():
        return word
    return small


def _characters(text: str) -> str:
    if text.isascii():
        return text
    parts = groupby(text, _stays)
    return "".join("".join(part) if stays else latex_characters("".join(part)) for stays, part in parts)


def _stays(character: str) -> bool:
    """Whether a character is a symbol of its own, such as ⑩ or a bold letter, and not a form of another."""
    if character.isascii():
        return False
    kind = unicodedata.decomposition(character).partition(" ")[0]
    if kind == "<font>":
        italic = "MATHEMATICAL ITALIC" in unicodedata.name(character) or character == "ℎ"
        return not (italic or unicodedata.decimal(character, None) is not None or character == "ℝ")
    if kind in ("<circle>", "<square>", "<compat>"):
        return character in _GREEK_SYMBOLS or any(
            one.isdigit() for one in unicodedata.normalize("NFKC", character)
        )
    return False
