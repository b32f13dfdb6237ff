"""The identity of a problem, to find duplicate rows, and held-out problems among training problems."""

from __future__ import annotations

import hashlib
import re
import unicodedata

_LAYOUT = re.compile(
    r"\\(?:[,;:!> ()\[\]]|(?:quad|qquad|left|right|displaystyle|thinspace)(?![A-Za-z]))|[\s$~]"
)
_FRACTION = re.compile(r"\\[dt]frac(?![A-Za-z])")


def comparable(text: str) -> str:
    r"""`text` without differences that do not change the problem: white space, case, Unicode variants of letters, and
    LaTeX's math delimiters (`$`, `\(`, `\[`), spaces (`\,`, `~`, `\quad`), `\left`, `\right`, `\dfrac`."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _FRACTION.sub(r"\\frac", _LAYOUT.sub("", folded))


def identity(text: str) -> str:
    """20 hexadecimal digits, equal for texts with equal `comparable`."""
    return hashlib.blake2b(comparable(text).encode(errors="surrogatepass"), digest_size=10).hexdigest()
