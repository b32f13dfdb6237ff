"""When two texts are the same problem: for repeated rows, and for held-out problems among the training ones."""

from __future__ import annotations

import hashlib
import re
import unicodedata

_LAYOUT = re.compile(
    r"\\(?:[,;:!> ()\[\]]|(?:quad|qquad|left|right|displaystyle|thinspace)(?![A-Za-z]))|[\s$~]"
)
_FRACTION = re.compile(r"\\[dt]frac(?![A-Za-z])")


def comparable(text: str) -> str:
    r"""`text` without what does not change the problem: white space, case, forms of the same letter in Unicode, and
    LaTeX's delimiters of mathematics (`$`, `\(`, `\[`), spaces (`\,`, `~`, `\quad`), `\left`, `\right`, `\dfrac`."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _FRACTION.sub(r"\\frac", _LAYOUT.sub("", folded))


def identity(text: str) -> str:
    """20 hexadecimal digits, the same for texts that are `comparable` alike."""
    return hashlib.blake2b(comparable(text).encode(errors="surrogatepass"), digest_size=10).hexdigest()
