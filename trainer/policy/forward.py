"""One micro-batch through a policy, without the padding that a token budget does not pay for."""

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
    """Log-probabilities and entropy of a micro-batch, nats, as wide as it is.

    policy: a `PolicyModel`, or DeepSpeed's engine around one; temperature: float[N] or float[N, K]. Returns what
    `PolicyModel.forward` does. With `learner.micro_batching=tokens` those of different ranks differ in size: the
    number of logit chunks then follows from the budget, which is the same on all.
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
