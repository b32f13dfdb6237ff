"""Encodes problems and replies as tokens, with the chat template where `model.chat` says so."""

from __future__ import annotations

from typing import Any

from trainer.config import ModelConfig, RunConfig
from trainer.errors import ScopeError
from trainer.tasks.base import Problem


def encode_prompt(tokenizer: Any, problem: Problem, config: RunConfig) -> list[int]:
    """Tokens of a problem's prompt, through the tokenizer's chat template where `model.chat` says so.

    Raises ScopeError for a prompt that does not fit into `model.max_length` together with `rollout.max_new_tokens`.
    """
    if uses_chat(tokenizer, config.model):
        system = config.model.system_prompt
        messages = [] if system is None else [{"role": "system", "content": system}]
        messages.append({"role": "user", "content": problem.prompt})
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        # The template contains the special tokens.
        tokens = tokenizer.encode(text, add_special_tokens=False)
    else:
        tokens = tokenizer.encode(problem.prompt)
    longest = config.model.max_length - config.rollout.max_new_tokens
    if len(tokens) > longest:
        raise ScopeError(
            f"problem {problem.id!r} has a prompt of {len(tokens)} tokens; model.max_length="
            f"{config.model.max_length} less rollout.max_new_tokens={config.rollout.max_new_tokens} leaves {longest}. "
            "Raise model.max_length, or leave long problems out (task.dataset.max_characters)."
        )
    return tokens


def encode_reply(tokenizer: Any, reply: str, config: RunConfig) -> list[int]:
    """Tokens of `reply` as the user's turn: from after one response's end token to the next response's first token.

    Raises ScopeError for a chat template that rewrites earlier turns when one is added.
    """
    if not uses_chat(tokenizer, config.model):
        return tokenizer.encode(reply, add_special_tokens=False)
    before = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
    after = [*before, {"role": "user", "content": reply}]
    earlier = tokenizer.apply_chat_template(before, tokenize=False)
    text = tokenizer.apply_chat_template(after, add_generation_prompt=True, tokenize=False)
    if not text.startswith(earlier) or "answer" not in earlier:
        raise ScopeError(
            "the tokenizer's chat template rewrites earlier turns when a turn is added, so a task with an "
            "environment cannot use it; set model.chat=off."
        )
    rest = text[earlier.rindex("answer") + len("answer") :]
    # The response ends with its end token.
    end = str(tokenizer.eos_token)
    return tokenizer.encode(rest.partition(end)[2] if end in rest else rest, add_special_tokens=False)


def uses_chat(tokenizer: Any, config: ModelConfig) -> bool:
    """Whether prompts go through the chat template. Raises ScopeError for model.chat=on without a template."""
    template = getattr(tokenizer, "chat_template", None)
    if config.chat == "on" and template is None:
        raise ScopeError(
            "model.chat='on', but the tokenizer has no chat template; use model.chat=auto or off."
        )
    return config.chat != "off" and template is not None
