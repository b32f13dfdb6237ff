"""A plain sampler in the learner's process, for warm-start measurements and in-process runs; other runs use vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trainer.head.logprobs import entropy_of_logits

COMPACT_BELOW = 0.75
"""Finished rows are removed from the batch once less than this share of its rows is unfinished."""


@dataclass(frozen=True)
class Samples:
    """Sampled responses, N rows; T is the length limit. All values past a row's length are 0."""

    tokens: Tensor
    """int64[N, T], with the end token"""
    lengths: Tensor
    """int64[N], tokens including the end token"""
    logprobs: Tensor
    """float32[N, T], log-probabilities of the sampled tokens at the row's `logprob_temperature`, nats"""
    entropy: Tensor
    """float32[N, T], nats, exact at temperature 1"""
    ended: Tensor
    """bool[N], whether an end token was sampled"""


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    end_tokens: Sequence[int],
    *,
    samples: int = 1,
    temperature: float | Tensor = 1.0,
    logprob_temperature: float | Tensor = 1.0,
    max_new_tokens: int,
    generator: torch.Generator,
) -> Samples:
    """Sample `samples` responses to each prompt; row i * samples + j is response j to prompt i.

    prompts: token ids, each computed once; end_tokens: a response ends after the first of them; temperatures: one for
    all rows, or float[N]; max_new_tokens: T. Reproducible from `generator`.
    """
    rows = len(prompts) * samples
    ends = torch.tensor(end_tokens)
    ids, attention = _padded(prompts)
    output = model(
        input_ids=ids,
        attention_mask=attention,
        position_ids=(attention.cumsum(-1) - 1).clamp(min=0),
        use_cache=True,
        logits_to_keep=1,
    )
    cache = output.past_key_values
    cache.batch_repeat_interleave(samples)
    logits = output.logits[:, -1].repeat_interleave(samples, dim=0)
    attention = attention.repeat_interleave(samples, dim=0)
    heat = torch.as_tensor(temperature, dtype=torch.float32).expand(rows).unsqueeze(-1)
    scale = torch.as_tensor(logprob_temperature, dtype=torch.float32).expand(rows).unsqueeze(-1)
    drawn = Samples(
        tokens=torch.zeros(rows, max_new_tokens, dtype=torch.int64),
        lengths=torch.zeros(rows, dtype=torch.int64),
        logprobs=torch.zeros(rows, max_new_tokens),
        entropy=torch.zeros(rows, max_new_tokens),
        ended=torch.zeros(rows, dtype=torch.bool),
    )
    running = torch.arange(rows)
    for column in range(max_new_tokens):
        logits = logits.float()
        chosen = torch.multinomial((logits / heat[running]).softmax(-1), 1, generator=generator)
        alive = ~drawn.ended[running]
        here = running[alive]
        scaled = (logits / scale[running]).log_softmax(-1).gather(-1, chosen)
        drawn.tokens[here, column] = chosen[alive, 0]
        drawn.logprobs[here, column] = scaled[alive, 0]
        drawn.entropy[here, column] = entropy_of_logits(logits)[alive]
        drawn.lengths[here] += 1
        drawn.ended[here] = torch.isin(chosen[alive, 0], ends)
        alive = ~drawn.ended[running]
        left = int(alive.sum())
        if left == 0 or column == max_new_tokens - 1:
            break
        if left < COMPACT_BELOW * len(running):
            keep = alive.nonzero().squeeze(-1)
            cache.batch_select_indices(keep)
            running, attention, chosen = running[keep], attention[keep], chosen[keep]
        attention = torch.cat([attention, torch.ones_like(chosen)], dim=1)
        output = model(
            input_ids=chosen,
            attention_mask=attention,
            position_ids=attention.sum(-1, keepdim=True) - 1,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1]
    return drawn


def _padded(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, int64[P, L], padded on the left."""
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
    attention = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        attention[row, longest - len(prompt) :] = 1
    return ids, attention
