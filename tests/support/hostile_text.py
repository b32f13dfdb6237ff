"""Text that would move the cursor of a terminal, change its colours, hide, or forge a line."""

from __future__ import annotations

import re
import unicodedata

HOSTILE = (
    "a\x1b[31m\x9b2J\x1b]0;title\x07\x7f\x08\u202e\u2066\u200b\u200d\ufeff\u00ad\u3164\u2028\u2029\x85"
    "\r\nFORGED\t[red]b[/red] :smile: \U000e0041"
)
OWN_STYLES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""the escape sequences that rich writes itself: colours, and the cursor of a live picture"""


def harmful(text: str) -> set[str]:
    """The characters of printed text that no command may print; line feeds are allowed."""
    return {
        character
        for character in text
        if character != "\n"
        and (unicodedata.category(character)[0] == "C" or character in "\u2028\u2029\u3164")
    }


def forged(text: str) -> list[str]:
    """Lines that begin as the second line of `HOSTILE` does."""
    return [line for line in text.splitlines() if line.startswith("FORGED")]
