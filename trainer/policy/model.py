"""The learner's policy: a causal language model whose head computes log-probabilities and entropy of responses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from trainer.config import LearnerConfig
from trainer.errors import ScopeError
from trainer.head.fused import FusedHead
from trainer.head.limits import FUSED_FROM_VOCABULARY
from trainer.head.logprobs import token_logprobs
from trainer.policy.packing import pack_rollouts


class PolicyModel(nn.Module):
    """Wraps a Hugging Face causal LM so that one forward pass, with ZeRO-3's hooks, covers body and head.

    logit_chunk_tokens: tokens whose logits are computed at once; share_prompts: whether rollouts of one prompt are
    packed, see `trainer.policy.packing`; fused_head: `learner.fused_head`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        logit_chunk_tokens: int,
        *,
        share_prompts: bool,
        fused_head: str = "auto",
    ) -> None:
        super().__init__()
        _choose_head(model, logit_chunk_tokens, fused_head)
        # Any: transformers' additions to a module are not in its type.
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
        most_tokens: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropy of the response tokens.

        input_ids: int64[N, L], right-padded; prompt_lengths: int64[N]; targets, mask: [N, T]; temperature:
        float[N], or float[N, K] for log-probabilities at K temperatures. Returns logprobs, float32[N, T] or
        float32[N, T, K], and entropy, float32[N, T]; nats, 0 where the mask is 0. See `token_logprobs` for gradients.

        The plain head's number of logit chunks follows from `most_tokens`, or from the size of the mask, and must be
        the same on all ranks: where their masks differ in size, pass a `most_tokens` that none of them exceeds.
        """
        rows, columns = mask.nonzero(as_tuple=True)
        hidden = self._predictors(input_ids, prompt_lengths, mask, rows, columns)
        head, tokens, temperatures = (
            self.model.get_output_embeddings(),
            targets[rows, columns],
            temperature[rows],
        )
        if isinstance(head, FusedHead):
            logprobs, entropy = head(hidden, tokens, temperatures, with_entropy, entropy_gradient)
        else:
            logprobs, entropy = token_logprobs(
                hidden,
                head,
                tokens,
                temperatures,
                chunks=math.ceil((most_tokens or mask.numel()) / self._chunk),
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


def load_policy(model_dir: Path, config: LearnerConfig) -> PolicyModel:
    """Load a Hugging Face model directory in float32; DeepSpeed casts it for runs in bf16.

    Raises ScopeError for `learner.share_prompts` with a model whose attention does not separate packed rollouts, and
    for `learner.gradient_checkpointing` or `learner.fused_head=on` with a model that does not support it.
    """
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    if config.share_prompts:
        _require_separation(model)
    if config.gradient_checkpointing:
        _checkpoint_layers(model)
    return PolicyModel(
        model,
        config.logit_chunk_tokens,
        share_prompts=config.share_prompts,
        fused_head=config.fused_head,
    )


def _choose_head(model: PreTrainedModel, block_rows: int, fused: str) -> None:
    """Replace the model's head by the fused one, if it is configured or the vocabulary is large enough to gain."""
    head = model.get_output_embeddings()
    large = type(head) is nn.Linear and head.out_features >= FUSED_FROM_VOCABULARY
    if fused == "off" or (fused == "auto" and not large):
        return
    if type(head) is not nn.Linear:
        raise ScopeError(
            f"learner.fused_head=on needs a linear output head; this model has {type(head).__name__}; set "
            "learner.fused_head=auto"
        )
    model.set_output_embeddings(FusedHead(head, block_rows))


def _checkpoint_layers(model: PreTrainedModel) -> None:
    """Keep each layer's input only and recompute the rest in the backward pass.

    transformers does so in training mode only. Only the layers are put into it, not their submodules, so dropout stays
    off.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not model.supports_gradient_checkpointing or not layers:
        raise ScopeError(
            f"learner.gradient_checkpointing=true is not supported by {type(model).__name__}; set it to false"
        )
    model.gradient_checkpointing_enable({"use_reentrant": False})
    for layer in layers:
        layer.training = True


@torch.no_grad()
def _require_separation(model: PreTrainedModel) -> None:
    """Check that two rollouts of one prompt score the same packed as apart; refuse sliding windows outright."""
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
    # The model keeps its own head for this check; `load_policy` replaces it with the block size of the run.
    packed, apart = (
        PolicyModel(model, 16, share_prompts=share, fused_head="off")(ids, *where)[0]
        for share in (True, False)
    )
    model.train(training)
    if not torch.allclose(packed, apart, atol=1e-3):
        worst = float((packed - apart).abs().max())
        raise ScopeError(
            f"learner.share_prompts=true: this model's attention mixes rollouts that share a prompt (log-probabilities "
            f"differ by {worst:.3g} nats); {advice}"
        )
