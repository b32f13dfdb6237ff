"""The forward pass of a micro-batch, trimmed to its longest row where micro-batches are sized by tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import pad

from trainer.config import LearnerConfig
from trainer.rollouts.batch import RolloutBatch


def forward(
    policy: Any,
    config: LearnerConfig,
    batch: RolloutBatch,
    temperature: Tensor,
    *,
    with_entropy: bool = False,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropy of a micro-batch, nats, as `PolicyModel.forward` returns them.

    policy: a `PolicyModel`, or DeepSpeed's engine around one; temperature: float[N] or float[N, K]. The results have
    all T columns of `batch`. With `learner.micro_batching=tokens` micro-batches differ in size between ranks; the
    number of logit chunks, which must be the same, then follows from the token budget.
    """
    micro, most = batch, None
    if config.micro_batching == "tokens":
        micro, most = batch.trimmed(), max(config.micro_batch_tokens, batch.mask.shape[1])
    logprobs, entropy = policy(
        micro.input_ids,
        micro.prompt_lengths,
        micro.targets,
        micro.mask,
        temperature,
        with_entropy,
        entropy_gradient,
        most,
    )
    missing = batch.mask.shape[1] - micro.mask.shape[1]
    if missing == 0:
        return logprobs, entropy
    beside = (0, 0) * (logprobs.dim() - 2)
    return pad(logprobs, (*beside, 0, missing)), pad(entropy, (0, missing))
