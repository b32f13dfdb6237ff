"""The learner's model as configured: gradient checkpointing and the choice of output head."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from trainer.config import LearnerConfig
from trainer.errors import ScopeError
from trainer.head import blocks as head_blocks
from trainer.head.blocks import Sums
from trainer.head.limits import FUSED_COLUMNS, FUSED_FROM_VOCABULARY
from trainer.policy.model import PolicyModel, load_policy

SIZES: dict[str, Any] = {
    "vocab_size": 11,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    # Dropout must have no effect: the policy is measured, not regularized by noise.
    Qwen3ForCausalLM(Qwen3Config(**SIZES, attention_dropout=0.5)).save_pretrained(tmp_path)
    return tmp_path


def test_checkpointed_layers_are_computed_twice_and_give_the_same_gradient(model_dir):
    ids = torch.arange(16).reshape(2, 8) % 11
    arguments = (ids, torch.tensor([3, 4]), ids[:, 3:], torch.ones(2, 5), torch.ones(2))
    gradients, calls = [], []
    for again in (False, True):
        policy = load_policy(model_dir, LearnerConfig(gradient_checkpointing=again))
        count = 0

        def note(*_: object) -> None:
            nonlocal count
            count += 1

        policy.model.model.layers[0].mlp.register_forward_pre_hook(note)
        policy(*arguments)[0].sum().backward()
        calls.append(count)
        gradients.append({name: p.grad for name, p in policy.named_parameters()})
    assert calls == [1, 2]
    torch.testing.assert_close(*gradients)


def test_a_model_that_cannot_compute_layers_again_is_refused(model_dir, monkeypatch):
    monkeypatch.setattr(Qwen3ForCausalLM, "supports_gradient_checkpointing", False)
    with pytest.raises(ScopeError, match=r"gradient_checkpointing=true is not supported by Qwen3ForCausalLM"):
        load_policy(model_dir, LearnerConfig(gradient_checkpointing=True))


def test_a_head_that_is_not_linear_is_refused_where_the_fused_one_is_asked_for_and_else_kept():
    model = Qwen3ForCausalLM(Qwen3Config(**SIZES))
    head = nn.Sequential(nn.Linear(32, 11))
    model.set_output_embeddings(head)
    assert PolicyModel(model, 64, share_prompts=True).model.get_output_embeddings() is head
    with pytest.raises(
        ScopeError, match=r"fused_head=on needs a linear output head; this model has Sequential"
    ):
        PolicyModel(model, 64, share_prompts=True, fused_head="on")


def test_the_head_of_a_loaded_policy_takes_as_many_tokens_at_once_as_its_configuration_says(tmp_path):
    """This includes shared prompts, which the model is tested for first."""
    vocabulary = FUSED_FROM_VOCABULARY
    sizes: dict[str, Any] = SIZES | {"vocab_size": vocabulary}
    Qwen3ForCausalLM(Qwen3Config(**sizes)).save_pretrained(tmp_path)
    policy = load_policy(tmp_path, LearnerConfig(share_prompts=True, logit_chunk_tokens=40))
    head = policy.model.get_output_embeddings()
    blocks = 0

    def note(sums: Sums, rows: slice, logits: torch.Tensor, first: int) -> None:
        nonlocal blocks
        blocks += len(logits) == 40

    with mock.patch.object(head_blocks, "fold", note):
        head(torch.zeros(80, 32), torch.zeros(80, dtype=torch.int64), torch.ones(80))
    assert blocks == 2 * math.ceil(vocabulary / FUSED_COLUMNS)
