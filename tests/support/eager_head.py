"""The output head computed eagerly, with all logits at once, and its gradients."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trainer.head.logprobs import differentiable_entropy


def make(
    seed: int, shape: tuple[int, int, int], scale: float, several: int | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Random inputs: (hidden [T, D], weight [V, D], bias [V], targets [T], temperature [T] or [T, K])."""
    rng = np.random.default_rng(seed)
    tokens, width, vocabulary = shape
    where = (tokens,) if several is None else (tokens, several)
    temperature = rng.uniform(0.3, 3.0, where)
    if seed % 2 and several:
        temperature[:, -1] = 1.0  # at temperature 1 the entropy reuses the sum
    return (
        torch.tensor(rng.normal(size=(tokens, width))).to(dtype),
        torch.tensor(scale * rng.normal(size=(vocabulary, width))).to(dtype),
        torch.tensor(rng.normal(size=vocabulary)).to(dtype),
        torch.tensor(rng.integers(0, vocabulary, tokens)),
        torch.tensor(temperature, dtype=torch.promote_types(dtype, torch.float32)),
    )


def eager(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropy from all logits at once, in the precision of the arguments."""
    logits = hidden @ weight.T if bias is None else hidden @ weight.T + bias
    columns = temperature.unsqueeze(-1) if temperature.dim() == 1 else temperature
    scaled = logits.unsqueeze(1) / columns.unsqueeze(-1)
    chosen = scaled.log_softmax(-1).gather(-1, targets[:, None, None].expand(-1, scaled.shape[1], 1))
    return chosen[..., 0].reshape(temperature.shape), differentiable_entropy(logits)


def slopes(outputs: tuple[Tensor, Tensor], inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of a weighted sum of the outputs, with a different weight for each token and column."""
    total = sum(
        (output * torch.linspace(-1, 2, output.numel()).to(output).reshape(output.shape)).sum()
        for output in outputs
        if output.requires_grad
    )
    assert isinstance(total, Tensor)
    return torch.autograd.grad(total, inputs)


def largest(gradient: Tensor) -> float:
    """The largest absolute gradient, at least 1: rounding errors are relative to it."""
    return max(1.0, float(gradient.abs().max())) if gradient.numel() else 1.0
