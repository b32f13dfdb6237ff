"""The policy as the learner sees it: a causal language model with the measuring head on its responses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from trainer.logprobs import token_logprobs


class PolicyModel(nn.Module):
    """Wraps a Hugging Face causal LM so that one forward pass (and ZeRO-3's hooks) covers body and head."""

    def __init__(self, model: PreTrainedModel, logit_chunk_tokens: int) -> None:
        super().__init__()
        # Any: what transformers adds to a module is not in its type.
        self.model: Any = model
        self._chunk = logit_chunk_tokens

    def forward(
        self,
        input_ids: Tensor,
        prompt_lengths: Tensor,
        targets: Tensor,
        mask: Tensor,
        temperature: Tensor,
        with_entropy: bool = False,
        entropy_gradient: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropy of the response tokens.

        input_ids: int64[N, L], right-padded; prompt_lengths: int64[N]; targets, mask: [N, T]; temperature:
        float[N], or float[N, K] for log-probabilities at K temperatures. Returns (logprobs, entropy), float32
        [N, T] ([N, T, K]) in nats, 0 where the mask is 0; see `token_logprobs` for the gradient. The number of
        logit chunks follows from the shape of the mask alone, so that it is the same on all ranks.
        """
        body = self.model.get_submodule(self.model.base_model_prefix)
        hidden = body(input_ids=input_ids, use_cache=False).last_hidden_state
        rows, columns = mask.nonzero(as_tuple=True)
        positions = prompt_lengths[rows] - 1 + columns
        logprobs, entropy = token_logprobs(
            hidden[rows, positions],
            self.model.get_output_embeddings(),
            targets[rows, columns],
            temperature[rows],
            chunks=math.ceil(mask.numel() / self._chunk),
            with_entropy=with_entropy,
            entropy_gradient=entropy_gradient,
        )
        empty = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
        several = empty.new_zeros(mask.shape + temperature.shape[1:])
        where = (rows, columns)
        return several.index_put(where, logprobs), empty.index_put(where, entropy)


def load_policy(model_dir: Path, logit_chunk_tokens: int) -> PolicyModel:
    """Load a Hugging Face model directory in float32 (DeepSpeed casts it where the run asks for bf16)."""
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    return PolicyModel(model, logit_chunk_tokens)
