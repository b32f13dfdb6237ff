"""The reference policy of the KL divergence: the starting policy, frozen.

With LoRA it is the trained model with its adapters off and takes no memory. Otherwise it is a second copy in the
learner's precision, partitioned over the ranks if ZeRO-3 partitions the policy, and in host memory if
`learner.offload=all` keeps the policy's parameters there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import deepspeed
import torch
from torch import Tensor

from trainer.collectives import sum_over_ranks
from trainer.config import RunConfig
from trainer.learner.deepspeed_config import reference_engine_config
from trainer.loss.objective import kl_k3
from trainer.policy.forward import forward
from trainer.policy.lora import adapters_off
from trainer.policy.model import load_policy
from trainer.rollouts.batch import RolloutBatch


class ReferencePolicy:
    """Measures log-probabilities of the starting policy. Collective: all ranks pass equally many micro-batches.

    model_dir: the starting policy; engine: the learner's engine, whose model is used with its adapters off under LoRA.
    """

    def __init__(self, config: RunConfig, model_dir: Path, engine: Any) -> None:
        self._config = config.learner
        if config.learner.lora.rank:
            self._policy: Any = engine
            self._as_reference: Callable[[], Any] = lambda: adapters_off(engine.module.model)
            return
        policy = load_policy(model_dir, config.learner)
        policy.requires_grad_(False)
        if config.learner.zero_stage == 3:
            self._policy = deepspeed.initialize(model=policy, config=reference_engine_config(config))[0]
        else:
            dtype = torch.bfloat16 if config.learner.precision == "bf16" else torch.float32
            self._policy = policy.to(engine.device, dtype)
        self._policy.eval()
        self._as_reference = nullcontext

    @torch.no_grad()
    def logprobs(self, batch: RolloutBatch, parts: list[Tensor]) -> Tensor:
        """Log-probabilities of the batch's tokens at their rows' temperature, float32[N, T], nats.

        parts: the row numbers of each micro-batch, together all rows, in any order.
        """
        with self._as_reference():
            micros = [batch.select(rows) for rows in parts]
            measured = [forward(self._policy, self._config, micro, micro.temperature)[0] for micro in micros]
        return torch.cat(measured)[torch.cat(parts).argsort()]


def reference_kl(batch: RolloutBatch, proximal: Tensor, reference: Tensor) -> float:
    """Estimate of KL(policy ‖ reference) over the base tokens of all ranks, nats per token; 0 without tokens.

    proximal, reference: float[N, T], nats. Estimator k3, see `kl_k3`. Collective.
    """
    of_base = batch.mask * ~batch.auxiliary.unsqueeze(-1)
    divergence = kl_k3(proximal, reference) * of_base
    sums = torch.stack([part.sum(dtype=torch.float64) for part in (divergence, of_base)])
    total, tokens = sum_over_ranks(sums).tolist()
    return total / tokens if tokens else 0.0
