"""A plain sampler for the warm start: measures its entropy and pass rate before any engine exists.

Runs and evaluations sample with vLLM; this sampler needs nothing but the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer.logprobs import entropy_of_logits
from trainer.tasks.base import NO_END, Problem, Task


@dataclass(frozen=True)
class Samples:
    """Sampled responses of N rows; T is the length limit."""

    tokens: Tensor
    """int64[N, T], the end token included, 0 after it"""
    lengths: Tensor
    """int64[N], tokens up to and with the end token"""
    entropy: Tensor
    """float32[N, T], nats, exact at temperature 1, 0 past the length"""
    ended: Tensor
    """bool[N], whether the end token was sampled"""


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    generator: torch.Generator,
) -> Samples:
    """One response to each prompt at temperature 1, with a key-value cache; reproducible from `generator`."""
    end = tokenizer.eos_token_id
    encoded = tokenizer(list(prompts), padding=True, padding_side="left", return_tensors="pt")
    attention, new_ids = encoded["attention_mask"], encoded["input_ids"]
    alive = torch.ones(len(prompts), dtype=torch.bool)
    tokens = torch.zeros(len(prompts), max_new_tokens, dtype=torch.int64)
    entropy = torch.zeros(len(prompts), max_new_tokens)
    lengths = torch.zeros(len(prompts), dtype=torch.int64)
    cache = None
    for column in range(max_new_tokens):
        positions = (attention.cumsum(-1) - 1).clamp(min=0)[:, -new_ids.shape[1] :]
        output = model(
            input_ids=new_ids,
            attention_mask=attention,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache, logits = output.past_key_values, output.logits[:, -1].float()
        chosen = torch.multinomial(logits.softmax(-1), 1, generator=generator)
        tokens[alive, column] = chosen[alive, 0]
        entropy[alive, column] = entropy_of_logits(logits)[alive]
        lengths += alive
        alive = alive & (chosen[:, 0] != end)
        if not alive.any():
            break
        attention = torch.cat([attention, torch.ones_like(chosen)], dim=1)
        new_ids = chosen
    return Samples(tokens, lengths, entropy, ~alive)


@dataclass(frozen=True)
class Measurement:
    """How a policy stands on some problems at temperature 1."""

    entropy: float
    """nats per token, over all response tokens"""
    correct: list[int]
    """fully rewarded samples of each problem"""
    samples: int
    """drawn for each problem"""

    @property
    def pass_at_1(self) -> float:
        """Share of samples that were correct."""
        return sum(self.correct) / (len(self.correct) * self.samples)


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    problems: Sequence[Problem],
    *,
    samples: int,
    max_new_tokens: int,
    seed: int,
) -> Measurement:
    """Sample every problem `samples` times and verify; reproducible from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    total_entropy = total_tokens = 0.0
    correct = [0] * len(problems)
    for _ in range(samples):
        drawn = sample(
            model, tokenizer, [p.prompt for p in problems], max_new_tokens=max_new_tokens, generator=generator
        )
        total_entropy += float(drawn.entropy.sum())
        total_tokens += float(drawn.lengths.sum())
        for row, problem in enumerate(problems):
            length = int(drawn.lengths[row])
            ended = bool(drawn.ended[row])
            text = str(tokenizer.decode(drawn.tokens[row, : length - 1]))
            verdict = task.verify(problem, text) if ended else NO_END
            correct[row] += verdict.reward == 1.0
    return Measurement(total_entropy / total_tokens, correct, samples)
