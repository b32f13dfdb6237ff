"""Log-probabilities and entropy of sampled tokens, in chunks.

Only response tokens are projected to the vocabulary, one chunk at a time. The logits of a chunk are recomputed in the
backward pass, so memory does not grow with the number of tokens.
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
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probability of `targets` at `temperature`, and the exact entropy at temperature 1.

    hidden: [T, D]; project: [t, D] -> [t, V] logits; targets: int64[T]; temperature: float[T], per token, or
    float[T, K] for K log-probabilities of each token from the same logits; chunks: number of equal parts (some empty
    if T is smaller). The number is fixed, not the size, because ZeRO-3 gathers the head for each chunk: ranks with
    different T must make the same number of calls.
    Returns (logprobs float[T] or float[T, K] in nats, differentiable; entropy float[T] in nats, zeros unless
    `with_entropy`, differentiable only with `entropy_gradient`), float32, or wider if the logits are.
    """
    logprobs, entropies = [], []
    recompute = hidden.requires_grad and chunks > 1
    for rows in torch.arange(hidden.shape[0], device=hidden.device).tensor_split(chunks):
        arguments = (hidden[rows], project, targets[rows], temperature[rows], with_entropy, entropy_gradient)
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
    entropy_gradient: bool,
) -> tuple[Tensor, Tensor]:
    logits = project(hidden)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if temperature.dim() == 1:
        logprobs = _chosen_logprobs(logits, targets, temperature)
    else:
        columns = [_chosen_logprobs(logits, targets, column) for column in temperature.unbind(-1)]
        logprobs = torch.stack(columns, dim=-1)
    if not with_entropy:
        return logprobs, logits.new_zeros(len(targets))
    if entropy_gradient:
        return logprobs, differentiable_entropy(logits)
    with torch.no_grad():
        return logprobs, entropy_of_logits(logits)


def _chosen_logprobs(logits: Tensor, targets: Tensor, temperature: Tensor) -> Tensor:
    scaled = logits / temperature.unsqueeze(-1)
    return scaled.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - scaled.logsumexp(-1)


def entropy_of_logits(logits: Tensor) -> Tensor:
    """Shannon entropy of softmax(logits), nats, exact over the vocabulary. logits [..., V] -> [...]."""
    return torch.special.entr(logits.softmax(-1)).sum(-1)


def differentiable_entropy(logits: Tensor) -> Tensor:
    """The same entropy with a gradient that is finite at vanishing probabilities. logits [..., V] -> [...].

    H = logsumexp(z) - sum softmax(z) z, with z shifted to a maximum of 0. Unlike that of -p log p, the derivative of
    this form is finite at p = 0.
    """
    shifted = logits - logits.detach().amax(-1, keepdim=True)
    bounded = shifted.clamp(min=torch.finfo(shifted.dtype).min / 2)  # 0 times an infinite logit is NaN
    return bounded.logsumexp(-1) - (bounded.softmax(-1) * bounded).sum(-1)
