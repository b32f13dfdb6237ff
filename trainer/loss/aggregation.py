"""How the surrogate of base rollouts is averaged: each aggregation as a weight of a rollout's token mean.

    sequence_mean  1/N sum_i 1/|o_i| sum_t          GRPO, arXiv 2402.03300, and the SCOPE paper
    token_mean     1/sum_i |o_i| sum_i sum_t        DAPO, arXiv 2503.14476, over the batch
    dr_grpo        1/N sum_i 1/L sum_t              Dr. GRPO, arXiv 2503.20783, L a constant budget of tokens

As weights of token means they are 1/N, |o_i| / sum_i |o_i| and |o_i| / (N L). N and the sum of lengths are those of
the whole step, so a minibatch's share follows from the rollouts in it.
"""

from __future__ import annotations

from torch import Tensor


def base_row_weights(
    aggregation: str, lengths: Tensor, *, rollouts: float, tokens: float, max_new_tokens: int
) -> Tensor:
    """Weight of each base rollout's token mean, float[N]; 0 for empty rows.

    lengths: float[N], counted tokens of this rank's rows; rollouts, tokens: base rollouts and their tokens in the step,
    over all ranks; max_new_tokens: L. Raises ValueError for an unknown aggregation.
    """
    present = (lengths > 0).to(lengths.dtype)
    match aggregation:
        case "sequence_mean":
            return present / max(rollouts, 1.0)
        case "token_mean":
            return lengths / max(tokens, 1.0)
        case "dr_grpo":
            return lengths / (max(rollouts, 1.0) * max_new_tokens)
        case _:
            raise ValueError(f"loss.aggregation={aggregation!r} is not sequence_mean, token_mean or dr_grpo")
