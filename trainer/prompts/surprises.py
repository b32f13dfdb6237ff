"""What is unusual about the prompts of a tokenizer and its chat template, as sentences for the user."""

from __future__ import annotations

from trainer.prompts.codec import PromptCodec
from trainer.tasks.base import Problem


def surprises(codec: PromptCodec, problem: Problem | None) -> list[str]:
    """Sentences on BOS tokens, end tokens and dates in prompts. problem: one that can be a prompt, if there is one."""
    if problem is None:
        return []
    tokens = codec.encode(problem)
    return [*_beginning(codec, tokens), *_end(codec, tokens), *_files(codec)]


def _beginning(codec: PromptCodec, tokens: list[int]) -> list[str]:
    """On BOS tokens."""
    tokenizer = codec.tokenizer
    bos, added = tokenizer.bos_token_id, tokenizer.encode("a")[:1]
    if codec.template is None or bos is None:
        return []
    if tokens[:2] == [bos, bos]:
        return [
            f"the chat template begins prompts with {tokenizer.bos_token!r} twice, which the model has probably not "
            "seen in training: correct the template"
        ]
    if added == [bos] and tokens[0] != bos:
        return [
            f"the tokenizer begins texts with {tokenizer.bos_token!r}, and the chat template does not write it: "
            "prompts have none; correct the template if the model needs it"
        ]
    return []


def _end(codec: PromptCodec, tokens: list[int]) -> list[str]:
    """On end tokens at the end of prompts."""
    name = codec.tokenizer.convert_ids_to_tokens
    if codec.template is None:
        last = codec.tokenizer.encode("a")[-1]
        if last not in codec.end_tokens:
            return []
        return [
            f"the tokenizer ends every text with the end token {name(last)!r}: prompts are made without it"
        ]
    last = max((i for i, token in enumerate(tokens) if token in codec.end_tokens), default=None)
    if last is None or codec.tokenizer.decode(tokens[last + 1 :]).strip():
        return []
    return [
        f"the chat template ends prompts with the end token {name(tokens[last])!r} and does not begin the assistant's "
        "turn (add_generation_prompt): the policy has to write what begins it"
    ]


def _files(codec: PromptCodec) -> list[str]:
    """On what the model's files say."""
    found = []
    if codec.template is not None and "strftime_now" in codec.template.source:
        found.append(
            "the chat template can write the day's date into prompts: the same run on another day has other prompts"
        )
    if codec.ordinary_ends:
        found.append(
            f"eos_token_id {', '.join(map(str, codec.ordinary_ends))} of the model's configuration is an ordinary "
            "token of the tokenizer: responses do not end there"
        )
    return found
