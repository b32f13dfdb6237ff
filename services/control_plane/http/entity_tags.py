"""Entity tags and their lists in If-Match and If-None-Match (RFC 9110, section 8.8.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

# The quantifiers give nothing back, so that no header makes the match slow.
_ELEMENT = re.compile(r'[ \t]*+(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*+)"[ \t]*+)?+(,|\Z)')


class EntityTag(NamedTuple):
    """One entity tag."""

    weak: bool
    opaque: str
    """what stands between its quotes"""


def entity_tags(values: Iterable[str]) -> list[EntityTag] | None:
    """The tags of a header: one list, though it be sent in several fields. None for what is no list of tags.

    A comma within a tag is a part of it. Empty elements are skipped.
    """
    text, position, tags = ",".join(values), 0, []
    while True:
        found = _ELEMENT.match(text, position)
        if found is None:
            return None
        if found[2] is not None:
            tags.append(EntityTag(bool(found[1]), found[2]))
        if not found[3]:
            return tags
        position = found.end()
