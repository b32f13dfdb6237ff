"""The conversation that a response continues: the messages of a problem, with the configured system message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainer.config import ModelConfig
from trainer.errors import ScopeError
from trainer.tasks.base import Message, Problem


def conversation(problem: Problem, model: ModelConfig) -> list[Message]:
    """The messages of a problem. A system message of its own takes the place of `model.system_prompt`.

    With `model.system_role=user` the system message begins the first user message. Raises ScopeError for a
    conversation that does not end with a message to the policy.
    """
    messages = list(problem.messages) or [Message("user", problem.prompt)]
    if messages[-1].role not in ("user", "tool"):
        raise ScopeError(
            f"its last message is of role {messages[-1].role!r}, and a response can only follow one of 'user' or 'tool'"
        )
    if model.system_prompt is not None and all(message.role != "system" for message in messages):
        messages.insert(0, Message("system", model.system_prompt))
    return messages if model.system_role == "system" else _merged(messages)


def plain_text(messages: Sequence[Message]) -> str:
    """The text of a conversation for a model without a chat template: that of its only message, the user's.

    Raises ScopeError for any other conversation.
    """
    if len(messages) > 1 or messages[0].role != "user":
        roles = ", ".join(message.role for message in messages)
        raise ScopeError(
            f"its conversation ({roles}) needs a chat template: use a model with one and model.chat=auto, or problems "
            "of one user message without model.system_prompt"
        )
    return messages[0].content


def _merged(messages: Sequence[Message]) -> list[Message]:
    """The messages with the text of system messages in front of the first user message's."""
    said = [message.content for message in messages if message.role == "system"]
    others = [message for message in messages if message.role != "system"]
    first = next((i for i, message in enumerate(others) if message.role == "user"), None)
    if not said:
        return list(messages)
    if first is None:
        raise ScopeError(
            "its system message has no user message to be put in front of (model.system_role=user)"
        )
    others[first] = replace(others[first], content="\n\n".join([*said, others[first].content]))
    return others
