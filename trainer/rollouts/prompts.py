"""From a problem's text to the tokens that the model reads: chat templates, and prompts that do not fit."""

from __future__ import annotations

from typing import Any

from trainer.config import ModelConfig, RunConfig
from trainer.errors import ScopeError
from trainer.tasks.base import Problem


def encode_prompt(tokenizer: Any, problem: Problem, config: RunConfig) -> list[int]:
    """Tokens of the prompt, through the tokenizer's chat template where `model.chat` says so.

    Raises ScopeError for a prompt that leaves no room for `rollout.max_new_tokens` in `model.max_length`.
    """
    if uses_chat(tokenizer, config.model):
        system = config.model.system_prompt
        messages = [] if system is None else [{"role": "system", "content": system}]
        messages.append({"role": "user", "content": problem.prompt})
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        # The template has written the special tokens already.
        tokens = tokenizer.encode(text, add_special_tokens=False)
    else:
        tokens = tokenizer.encode(problem.prompt)
    room = config.model.max_length - config.rollout.max_new_tokens
    if len(tokens) > room:
        raise ScopeError(
            f"problem {problem.id!r} has a prompt of {len(tokens)} tokens; model.max_length="
            f"{config.model.max_length} less rollout.max_new_tokens={config.rollout.max_new_tokens} leaves {room}. "
            "Raise model.max_length, or leave long problems out (task.dataset.max_characters)."
        )
    return tokens


def encode_reply(tokenizer: Any, reply: str, config: RunConfig) -> list[int]:
    """Tokens between the end token of one response and the first token of the next, with `reply` as the user's turn.

    Raises ScopeError for a chat template that cannot be continued.
    """
    if not uses_chat(tokenizer, config.model):
        return tokenizer.encode(reply, add_special_tokens=False)
    before = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
    after = [*before, {"role": "user", "content": reply}]
    said = tokenizer.apply_chat_template(before, tokenize=False)
    text = tokenizer.apply_chat_template(after, add_generation_prompt=True, tokenize=False)
    if not text.startswith(said) or "answer" not in said:
        raise ScopeError(
            "the tokenizer's chat template changes what was said before when a turn is added, so that a task with "
            "an environment cannot use it; set model.chat=off."
        )
    rest = text[said.rindex("answer") + len("answer") :]
    # The response has its end token already.
    end = str(tokenizer.eos_token)
    return tokenizer.encode(rest.partition(end)[2] if end in rest else rest, add_special_tokens=False)


def uses_chat(tokenizer: Any, config: ModelConfig) -> bool:
    """Whether prompts go through the chat template. Raises ScopeError when they must and there is none."""
    template = getattr(tokenizer, "chat_template", None)
    if config.chat == "on" and template is None:
        raise ScopeError(
            "model.chat='on', but the tokenizer has no chat template; use model.chat=auto or off."
        )
    return config.chat != "off" and template is not None
