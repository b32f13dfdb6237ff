"""The result of a warm start, and its progress."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WarmStart:
    """A finished warm start."""

    path: Path
    """Hugging Face model directory, with the tokenizer"""
    from_cache: bool
    seconds: float
    """wall clock of the training, also for a cached one"""
    loss: float
    """mean over the last tenth of the steps, nats per answer token"""
    entropy: float
    """exact policy entropy at temperature 1 on sampled responses to held-out problems, nats per token"""
    pass_at_1: float
    """pass@1 on the same responses"""
    parameters: int


@dataclass(frozen=True)
class WarmStartProgress:
    """The progress of a warm start."""

    step: int
    of: int
    loss: float
    """nats per answer token"""
    tokens_per_second: float
    """prompt and answer tokens, without padding"""
