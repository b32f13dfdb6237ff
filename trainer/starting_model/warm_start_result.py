"""What a warm start gives, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WarmStart:
    """A finished warm start."""

    path: Path
    """Hugging Face model directory, tokenizer included"""
    from_cache: bool
    seconds: float
    """wall clock of the training, also when it came from the cache"""
    loss: float
    """nats per answer token, mean over the last tenth of the steps"""
    entropy: float
    """nats per token at temperature 1, exact, on sampled responses to held-out problems"""
    pass_at_1: float
    """on the same responses"""
    parameters: int


@dataclass(frozen=True)
class WarmStartProgress:
    """Where the training stands."""

    step: int
    of: int
    loss: float
    """nats per answer token"""
    tokens_per_second: float
    """prompt and answer tokens, padding not counted"""
