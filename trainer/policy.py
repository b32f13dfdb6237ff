"""The policy as the learner sees it: a causal language model with the measuring head on its responses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from trainer.errors import ScopeError
from trainer.logprobs import token_logprobs
from trainer.shared_prompts import pack_rollouts


class PolicyModel(nn.Module):
    """Wraps a Hugging Face causal LM so that one forward pass (and ZeRO-3's hooks) covers body and head."""

    def __init__(self, model: PreTrainedModel, logit_chunk_tokens: int, *, share_prompts: bool) -> None:
        super().__init__()
        # Any: what transformers adds to a module is not in its type.
        self.model: Any = model
        self._chunk = logit_chunk_tokens
        self._share_prompts = share_prompts

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
        rows, columns = mask.nonzero(as_tuple=True)
        logprobs, entropy = token_logprobs(
            self._predictors(input_ids, prompt_lengths, mask, rows, columns),
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

    def _predictors(
        self, input_ids: Tensor, prompt_lengths: Tensor, mask: Tensor, rows: Tensor, columns: Tensor
    ) -> Tensor:
        """Hidden states that predict the response tokens at (rows, columns): [tokens, D]."""
        body = self.model.get_submodule(self.model.base_model_prefix)
        if not self._share_prompts:
            hidden = body(input_ids=input_ids, use_cache=False).last_hidden_state
            return hidden[rows, prompt_lengths[rows] - 1 + columns]
        width = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        packed = pack_rollouts(input_ids, prompt_lengths, ((mask != 0) * width).amax(1))
        hidden = body(
            input_ids=packed.input_ids,
            attention_mask=packed.attention,
            position_ids=packed.positions,
            use_cache=False,
        ).last_hidden_state
        return hidden.flatten(0, 1)[packed.predictor[rows, columns]]


def load_policy(model_dir: Path, logit_chunk_tokens: int, *, share_prompts: bool) -> PolicyModel:
    """Load a Hugging Face model directory in float32 (DeepSpeed casts it where the run asks for bf16).

    Raises ScopeError when prompts are to be shared and the model's attention does not keep rollouts apart.
    """
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    if share_prompts:
        _require_separation(model)
    return PolicyModel(model, logit_chunk_tokens, share_prompts=share_prompts)


def host_weights(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter by name, copied to the CPU; with ZeRO-3 they must be gathered."""
    return {name: p.detach().to("cpu", copy=True).contiguous() for name, p in model.named_parameters()}


@torch.no_grad()
def _require_separation(model: PreTrainedModel) -> None:
    """Two rollouts of one prompt must score the same packed as apart; sliding windows are refused unseen."""
    advice = "set learner.share_prompts=false"
    kinds = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise ScopeError(
            f"learner.share_prompts=true needs full attention in every layer; this model has {sorted(kinds)}; {advice}"
        )
    training = model.training
    model.eval()
    ids = torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 3, 5, 4, 6]]) % model.config.vocab_size
    where = torch.full((2,), 3), ids[:, 3:], torch.ones(2, 3), torch.ones(2)
    packed, apart = (PolicyModel(model, 16, share_prompts=share)(ids, *where)[0] for share in (True, False))
    model.train(training)
    if not torch.allclose(packed, apart, atol=1e-3):
        worst = float((packed - apart).abs().max())
        raise ScopeError(
            f"learner.share_prompts=true: this model's attention mixes rollouts that share a prompt (log-probabilities "
            f"differ by {worst:.3g} nats); {advice}"
        )
