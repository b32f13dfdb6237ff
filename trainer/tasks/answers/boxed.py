r"""The last `\boxed{...}` of a response."""

from __future__ import annotations

BOX = "\\boxed"


def last_boxed(text: str) -> str | None:
    r"""The contents of the last outermost `\boxed{...}`, inner boxes unwrapped.

    None if there is no box, or if the last one is not closed. Several guesses therefore do not help.
    """
    found, start = None, text.find(BOX)
    while start >= 0:
        opening = start + len(BOX)
        while opening < len(text) and text[opening] == " ":
            opening += 1
        if opening == len(text) or text[opening] != "{":
            if text[opening : opening + 1].isalpha():  # another command, such as \boxedtext
                start = text.find(BOX, opening)
                continue
            found, start = None, text.find(BOX, opening)
            continue
        end = closing_brace(text, opening)
        if end is None:
            return None
        found, start = text[opening + 1 : end], text.find(BOX, end)
    return None if found is None else _without_inner_boxes(found)


def closing_brace(text: str, opening: int) -> int | None:
    """The position of the brace that closes the one at `opening`, escaped ones not counted; None if there is none."""
    depth, position = 0, opening
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 2
            continue
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return None


def _without_inner_boxes(text: str) -> str:
    start = text.find(BOX)
    if start < 0:
        return text
    opening = start + len(BOX)
    end = closing_brace(text, opening) if text[opening : opening + 1] == "{" else None
    if end is None:
        return text
    return f"{text[:start]}{{{_without_inner_boxes(text[opening + 1 : end])}}}{_without_inner_boxes(text[end + 1 :])}"
