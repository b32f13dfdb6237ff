"""The conversation in a column of prompts: text, or a list of messages as in verl, TRL or ShareGPT."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from trainer.tasks.base import Message
from trainer.tasks.datasets.json_text import parse_json
from trainer.tasks.datasets.records import BadRow, Numeral, kind_of, listed
from trainer.tasks.datasets.values import checked

_ROLES = {
    **{role: role for role in ("system", "user", "assistant", "tool")},
    # ShareGPT's names
    "human": "user",
    "gpt": "assistant",
}
_LOOKS_LISTED = re.compile(r"""\s*\[?\s*\{\s*['"](?:role|content|from|value)['"]\s*:""")
_NOT_TEXT = ("tool_calls", "function_call", "reasoning_content", "thinking", "images", "audio", "videos")
"""entries of a message that are part of the prompt, but not in its text"""


def conversation(value: Any, name: str) -> tuple[Message, ...]:
    """The messages in `value`, the last of which is the user's; of text, one message of the user.

    value: text, a list of {"role", "content"} or {"from", "value"}, or JSON text of such a list. Raises BadRow.
    """
    given = _messages_in(value, name)
    if given is not None:
        messages = []
        for number, one in enumerate(given, 1):
            try:
                messages.append(_message(one))
            except BadRow as fault:
                detail = f"message {number}" + (f", {fault.detail}" if fault.detail else "")
                raise BadRow(f"a message of {name!r} {fault.kind}", detail) from None
    elif isinstance(value, str) and not isinstance(value, Numeral):
        messages = [Message("user", checked(value, name))]
    elif value is None:
        raise BadRow(f"{name!r} is null")
    else:
        inside = f"it has {listed(value)}" if isinstance(value, Mapping) else ""
        raise BadRow(f"{name!r} is {kind_of(value)}, neither text nor a list of messages", inside)
    if not messages:
        raise BadRow(f"{name!r} is a list without messages")
    last = messages[-1]
    if last.role != "user":
        raise BadRow(f"{name!r} ends with a message of role {last.role!r}, not 'user'")
    if not last.content.strip():
        raise BadRow(f"{name!r} is empty")
    return tuple(messages)


def _messages_in(value: Any, name: str) -> Sequence[Any] | None:
    """The list in `value`, or in JSON text of one; None for text. Raises BadRow for messages as Python prints them."""
    if isinstance(value, list):
        return value
    if isinstance(value, str) and _LOOKS_LISTED.match(value):
        try:
            found = parse_json(value)
        except ValueError:
            found = None
        if isinstance(found, list):
            return found
        raise BadRow(f"{name!r} looks like messages, but is not a list of them in JSON")
    return None


def _message(value: Any) -> Message:
    """One message. Raises BadRow, whose subject is the message."""
    if not isinstance(value, Mapping):
        raise BadRow("is not a mapping with 'role' and 'content'", f"it is {kind_of(value)}")
    role_key, content_key = ("role", "content") if value.get("role") is not None else ("from", "value")
    role = value.get(role_key)
    if role is None:
        raise BadRow("has no 'role'", f"it has {listed(value)}")
    if not isinstance(role, str) or role not in _ROLES:
        raise BadRow("has an unknown role", f"{str(role)[:40]!r}; known: {', '.join(_ROLES)}")
    for key in _NOT_TEXT:
        if value.get(key):
            raise BadRow(f"has {key!r}, which is not supported")
    text = _content(value.get(content_key))
    if not text.strip() and role != "system":
        raise BadRow("is empty")
    return Message(cast(Literal["system", "user", "assistant", "tool"], _ROLES[role]), text)


def _content(value: Any) -> str:
    """The text, or the texts of a list of parts, each on a line of its own."""
    if isinstance(value, list):
        return "\n".join(_part(part) for part in value)
    if not isinstance(value, str) or isinstance(value, Numeral):
        raise BadRow("has no text as its content", f"it is {kind_of(value)}")
    return checked(value, "content")


def _part(value: Any) -> str:
    kind = value.get("type") if isinstance(value, Mapping) else kind_of(value)
    text = value.get("text") if isinstance(value, Mapping) and kind == "text" else None
    if not isinstance(text, str) or isinstance(text, Numeral):
        raise BadRow("has a part that is not text", listed([kind]))
    return checked(text, "text")
