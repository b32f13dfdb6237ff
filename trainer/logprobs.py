"""Log-probabilities and entropy of sampled tokens, in chunks — the learner's measuring head.

Only response tokens are projected to the vocabulary, a chunk of them at a time; a chunk's logits are computed
again in the backward pass, so that memory does not grow with the number of tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def token_logprobs(
    hidden: Tensor,
    project: Callable[[Tensor], Tensor],
    targets: Tensor,
    temperature: Tensor,
    *,
    chunks: int,
    with_entropy: bool,
) -> tuple[Tensor, Tensor]:
    """Log-probability of `targets` at `temperature`, and the exact entropy at temperature 1.

    hidden: [T, D]; project: [t, D] -> [t, V] logits; targets: int64[T]; temperature: float[T], per token;
    chunks: number of equal parts (some empty where T is smaller). The caller fixes their number and not their
    size, because ZeRO-3 gathers the head for each: ranks with different T must make equally many calls.
    Returns (logprobs float[T] in nats, differentiable; entropy float[T] in nats, without gradient, zeros
    unless `with_entropy`), float32 or as wide as the logits.
    """
    logprobs, entropies = [], []
    recompute = hidden.requires_grad and chunks > 1
    for rows in torch.arange(hidden.shape[0], device=hidden.device).tensor_split(chunks):
        arguments = (hidden[rows], project, targets[rows], temperature[rows], with_entropy)
        if recompute:
            logprob, entropy = checkpoint(_chunk_logprobs, *arguments, use_reentrant=False)
        else:
            logprob, entropy = _chunk_logprobs(*arguments)
        logprobs.append(logprob)
        entropies.append(entropy)
    return torch.cat(logprobs), torch.cat(entropies)


def _chunk_logprobs(
    hidden: Tensor,
    project: Callable[[Tensor], Tensor],
    targets: Tensor,
    temperature: Tensor,
    with_entropy: bool,
) -> tuple[Tensor, Tensor]:
    logits = project(hidden)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    scaled = logits / temperature.unsqueeze(-1)
    chosen = scaled.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    logprobs = chosen - scaled.logsumexp(-1)
    if not with_entropy:
        return logprobs, torch.zeros_like(logprobs)
    with torch.no_grad():
        return logprobs, entropy_of_logits(logits)


def entropy_of_logits(logits: Tensor) -> Tensor:
    """Shannon entropy of softmax(logits) in nats, exact over the vocabulary. logits: [..., V] -> [...]."""
    return torch.special.entr(logits.softmax(-1)).sum(-1)
