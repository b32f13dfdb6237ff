"""The identity of a problem, to find duplicate rows, and held-out problems among training problems."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from trainer.tasks.answers.characters import latex_characters

_LAYOUT = re.compile(
    r"\\(?:[,;:!> ()\[\]]|(?:quad|qquad|left|right|displaystyle|thinspace)(?![A-Za-z]))|[\s$~]"
)
# Digits that a space parts are two numbers: "2 2/3" is not "22/3". Groups of three are one: "1 000".
_BETWEEN_DIGITS = re.compile(rf"(?<=[0-9])(?:{_LAYOUT.pattern})+(?=[0-9])(?![0-9]{{3}}(?![0-9]))")
_FRACTION = re.compile(r"\\[dt]frac(?![A-Za-z])")
_SHORT_POWER = re.compile(r"([\^_])\{([0-9a-z])\}")


def comparable(text: str) -> str:
    r"""`text` without differences that do not change the problem.

    Such are white space, except between two numbers; case; Unicode variants of letters, digits and operators; LaTeX's
    math delimiters (`$`, `\(`, `\[`), spaces (`\,`, `~`, `\quad`),
    `\left`, `\right`, `\dfrac`, and braces around a power of one character.
    """
    folded = unicodedata.normalize("NFKC", latex_characters(text)).casefold()
    parted = _BETWEEN_DIGITS.sub("\0", folded)
    bare = _FRACTION.sub(r"\\frac", _LAYOUT.sub("", parted)).replace("\0", " ")
    return _SHORT_POWER.sub(r"\1\2", bare)


def identity(text: str) -> str:
    """20 hexadecimal digits, equal for texts with equal `comparable`."""
    return hashlib.blake2b(comparable(text).encode(errors="surrogatepass"), digest_size=10).hexdigest()
