"""Measures a policy on problems in this process: entropy and pass rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from trainer.policy.sampler import Samples, sample
from trainer.prompts.codec import PromptCodec
from trainer.tasks.base import NO_END, Problem, Verdict
from trainer.tasks.verification import Verification

PROBLEMS_AT_ONCE = 64


@dataclass(frozen=True)
class Measurement:
    """Entropy and pass rate of a policy on some problems, at temperature 1."""

    entropy: float
    """nats per token, mean over all response tokens"""
    correct: list[int]
    """number of correct samples of each problem"""
    samples: int
    """samples drawn for each problem"""
    unscored: int = 0
    """samples to which the verifier gave no score; they are not correct"""

    @property
    def pass_at_1(self) -> float:
        """Share of correct samples."""
        return sum(self.correct) / (len(self.correct) * self.samples)


def measure(
    model: PreTrainedModel,
    codec: PromptCodec,
    verification: Verification,
    problems: Sequence[Problem],
    *,
    samples: int,
    max_new_tokens: int,
    seed: int,
) -> Measurement:
    """Sample every problem `samples` times and verify; reproducible from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    total_entropy = total_tokens = 0.0
    correct, unscored = [], 0
    for start in range(0, len(problems), PROBLEMS_AT_ONCE):
        part = problems[start : start + PROBLEMS_AT_ONCE]
        drawn = sample(
            model,
            [codec.encode(problem) for problem in part],
            codec.end_tokens,
            samples=samples,
            max_new_tokens=max_new_tokens,
            generator=generator,
        )
        total_entropy += float(drawn.entropy.sum())
        total_tokens += float(drawn.lengths.sum())
        verdicts = score(verification, codec, part, drawn)
        unscored += sum(verdict.unscored is not None for verdict in verdicts)
        right = torch.tensor([verdict.correct for verdict in verdicts])
        correct += right.view(len(part), samples).sum(1).tolist()
    return Measurement(total_entropy / total_tokens, correct, samples, unscored)


def score(
    verification: Verification, codec: PromptCodec, problems: Sequence[Problem], drawn: Samples
) -> list[Verdict]:
    """Verdict of each row of `drawn`, which holds equally many responses to each problem, in order of problems."""
    samples = len(drawn.lengths) // len(problems)
    verdicts = []
    for row, (tokens, length) in enumerate(zip(drawn.tokens, drawn.lengths.tolist(), strict=True)):
        problem = problems[row // samples]
        ended, response = bool(drawn.ended[row]), tokens[:length].tolist()
        verdicts.append(verification.verify(problem, codec.decode(response)) if ended else NO_END)
    return verdicts
