"""Problems and replies to tokens, and responses to text; the same in every process that samples or scores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from trainer.config import RunConfig
from trainer.errors import ScopeError
from trainer.prompts.chat_template import ChatTemplate, uses_chat
from trainer.prompts.control_tokens import ControlTokens
from trainer.prompts.conversation import conversation, plain_text
from trainer.prompts.end_tokens import named_ends
from trainer.tasks.base import Message, Problem


class TooLongError(ScopeError):
    """A prompt that leaves no room for a response."""


class PromptCodec:
    """Encodes prompts and replies, and decodes responses, for one model and configuration.

    Only the chat template and the tokenizer write control tokens: whatever messages and replies spell is text.
    """

    def __init__(self, tokenizer: Any, config: RunConfig, directory: Path | None = None) -> None:
        """directory: of the model, whose files name further end tokens.

        Raises ScopeError for a tokenizer without an end token, and for model.chat=on without a chat template.
        """
        if not isinstance(tokenizer.eos_token_id, int):
            raise ScopeError(f"the tokenizer in {tokenizer.name_or_path} has no end-of-sequence token")
        self.tokenizer, self._config = tokenizer, config
        self._size = max(tokenizer.get_vocab().values()) + 1
        self._control = ControlTokens(tokenizer)
        self.template: ChatTemplate | None = None
        """None: prompts are plain text"""
        if uses_chat(tokenizer, config.model):
            self.template = ChatTemplate(tokenizer, self._control)
        turn_end = None if self.template is None else self.template.turn_end()
        named = set() if directory is None else named_ends(directory)
        added = tokenizer.added_tokens_decoder.keys()
        self.ordinary_ends: tuple[int, ...] = tuple(sorted(named - added))
        """end tokens in the model's files that are no added tokens: files often keep the default of their class"""
        ends = {tokenizer.eos_token_id} | (named & added) | ({turn_end} if turn_end is not None else set())
        self.end_tokens: tuple[int, ...] = tuple(sorted(ends))
        """every token after which a response has ended"""

    @classmethod
    def load(cls, directory: Path, config: RunConfig) -> PromptCodec:
        """The codec of a model directory. Raises ScopeError as the constructor."""
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ScopeError(f"model.path={str(directory)!r} has no tokenizer that loads: {error}") from error
        return cls(tokenizer, config, directory)

    def encode(self, problem: Problem) -> list[int]:
        """Tokens of a problem's prompt.

        Raises ScopeError, which names the problem, if the prompt leaves no room for `rollout.max_new_tokens`, or if its
        conversation cannot be written for this model.
        """
        try:
            return self._fitting(problem)
        except ScopeError as error:
            raise ScopeError(f"problem {problem.id!r} cannot be a prompt: {error}") from error

    def unusable(self, problem: Problem) -> ScopeError | None:
        """Why the problem cannot be a prompt, a TooLongError if it is too long; None if it can."""
        try:
            self._fitting(problem)
        except ScopeError as error:
            return error
        return None

    def encode_reply(self, problem: Problem, reply: str, ended_with: int) -> list[int]:
        """Tokens of `reply` as the user's turn, from after one response to the next one's first token.

        ended_with: the response's end token. If it is not the one that the chat template writes after a turn, that one
        follows, so that the model reads a turn that ends as usual. Raises ScopeError for a chat template that rewrites
        earlier turns when one is added.
        """
        if self.template is None:
            (text,), marks = self._control.marked([reply], of_policy=[False])
            return self._control.encode(text, marks, add_special_tokens=False)
        prompt = conversation(problem, self._config.model)
        rest, marks = self.template.after_response(prompt, [Message("user", reply)])
        name = self._control.first(rest)
        if name is None or self._control.ids[name] not in self.end_tokens:
            return self._control.encode(rest, marks, add_special_tokens=False)
        # The response stops where its end token is: white space before it is not sampled.
        tokens = self._control.encode(rest.lstrip(), marks, add_special_tokens=False)
        return tokens[1:] if tokens[0] == ended_with else tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a response without its end token, with other special tokens.

        Each token that the model has and the tokenizer does not is shown as U+FFFD, or a verifier would not see it.
        """
        ended = len(tokens) > 0 and tokens[-1] in self.end_tokens
        parts: list[str] = []
        for known, run in groupby(tokens[:-1] if ended else tokens, lambda token: token < self._size):
            found = list(run)
            parts.append(self.tokenizer.decode(found) if known else "\N{REPLACEMENT CHARACTER}" * len(found))
        return "".join(parts)

    def _fitting(self, problem: Problem) -> list[int]:
        tokens, model, rollout = self._tokens(problem), self._config.model, self._config.rollout
        longest = model.max_length - rollout.max_new_tokens
        if not tokens:
            raise ScopeError("it has no tokens")
        if len(tokens) > longest:
            raise TooLongError(
                f"it has {len(tokens):,} tokens, and model.max_length={model.max_length} less rollout.max_new_tokens="
                f"{rollout.max_new_tokens} leaves {longest:,}: raise model.max_length"
            )
        return tokens

    def _tokens(self, problem: Problem) -> list[int]:
        messages = conversation(problem, self._config.model)
        if self.template is not None:
            # The template contains the special tokens.
            text, marks = self.template.render(messages, for_response=True)
            return self._control.encode(text, marks, add_special_tokens=False)
        (text,), marks = self._control.marked([plain_text(messages)], of_policy=[False])
        tokens = self._control.encode(text, marks, add_special_tokens=True)
        # A tokenizer may end every text with an end token, after which no response would follow.
        while tokens and tokens[-1] in self.end_tokens:
            tokens.pop()
        return tokens
