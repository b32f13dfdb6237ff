"""Rendering a tokenizer's chat template, and what it writes around a turn of the policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.config import ModelConfig
from trainer.errors import ScopeError
from trainer.prompts.control_tokens import ControlTokens, Marks
from trainer.tasks.base import Message

STAND_INS = range(0xF0000, 0xFFFFE)
"""code points of private use, one of which stands for a response"""


def uses_chat(tokenizer: Any, config: ModelConfig) -> bool:
    """Whether prompts go through the chat template. Raises ScopeError for model.chat=on without a template."""
    template = getattr(tokenizer, "chat_template", None)
    if config.chat == "on" and template is None:
        raise ScopeError(
            "model.chat='on', but the tokenizer has no chat template; use model.chat=auto or off."
        )
    return config.chat != "off" and template is not None


class ChatTemplate:
    """The chat template of one tokenizer."""

    def __init__(self, tokenizer: Any, control: ControlTokens) -> None:
        self._tokenizer, self._control = tokenizer, control
        self.source: str = tokenizer.get_chat_template()

    def render(self, messages: Sequence[Message], *, for_response: bool) -> tuple[str, Marks]:
        """The conversation as text with marks (`ControlTokens.marked`), and the marks.

        for_response: add what precedes a response. Raises ScopeError if the template refuses the conversation, fails,
        or leaves out a message to the policy.
        """
        text, contents, marks = self._rendered(messages, for_response=for_response)
        _require_all(messages, contents, text)
        return text, marks

    def turn_end(self) -> int | None:
        """The token after an assistant's message; None if the template writes none or needs a longer conversation."""
        response = chr(STAND_INS[0])
        try:
            text, _, _ = self._rendered(
                [Message("user", "a"), Message("assistant", response)], for_response=False
            )
        except ScopeError:
            return None
        _, found, rest = text.rpartition(response)
        name = self._control.first(rest) if found else None
        return None if name is None else self._control.ids[name]

    def after_response(self, prompt: Sequence[Message], said: Sequence[Message]) -> tuple[str, Marks]:
        """What the template writes after a response to `prompt` and before the next one, and its marks.

        said: the messages between the two responses. Raises ScopeError if the template changes what precedes a response
        once messages follow it.
        """
        taken = "".join(message.content for message in (*prompt, *said))
        response = next(chr(code) for code in STAND_INS if chr(code) not in taken)
        before, marks_before = self.render(prompt, for_response=True)
        text, marks = self.render([*prompt, Message("assistant", response), *said], for_response=True)
        earlier, found, rest = text.rpartition(response)
        if not found or marks.remove(earlier).rstrip() != marks_before.remove(before).rstrip():
            raise ScopeError(
                "the chat template changes earlier turns when a turn is added, so a task with an environment cannot "
                "use it: set model.chat=off, or use a model whose template keeps them"
            )
        return rest, marks

    def _rendered(self, messages: Sequence[Message], *, for_response: bool) -> tuple[str, list[str], Marks]:
        """The text, the contents of the messages in it, and the marks in both. Raises ScopeError if rendering fails."""
        contents, marks = self._control.marked(
            [message.content for message in messages],
            of_policy=[message.role == "assistant" for message in messages],
        )
        turns = [
            {"role": message.role, "content": content}
            for message, content in zip(messages, contents, strict=True)
        ]
        try:
            text = self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=for_response, tokenize=False
            )
        except Exception as error:
            # A template is a program of the model's author, which raises what it likes.
            roles = ", ".join(message.role for message in messages)
            words = " ".join(str(error).split()) or type(error).__name__
            hint = ": it may need tools or other variables, which prompts do not have; correct the template"
            # The template's own raise_exception, whose words say what is wrong.
            if type(error).__name__ == "TemplateError":
                system = ": set model.system_role=user, or leave the system message (model.system_prompt) out"
                hint = system if messages[0].role == "system" else ""
            raise ScopeError(
                f"the chat template cannot render a conversation of {roles}: {words}{hint}"
            ) from error
        return text, contents, marks


def _require_all(messages: Sequence[Message], contents: Sequence[str], text: str) -> None:
    """Raise ScopeError unless the system messages are in the text, and the user messages one after another."""
    start = 0
    for message, content in zip(messages, contents, strict=True):
        at = text.find(content.strip(), start if message.role == "user" else 0)
        if at < 0 and message.role in ("system", "user"):
            hint = ": set model.system_role=user" if message.role == "system" else ""
            raise ScopeError(
                f"the chat template leaves out or changes the text of a {message.role} message{hint}"
            )
        if message.role == "user":
            start = at + len(content.strip())
