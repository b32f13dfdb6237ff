"""Prompt sharing gives the same log-probabilities, entropy and gradient as separate sequences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM, Qwen3Config, Qwen3ForCausalLM

from trainer.config import LearnerConfig
from trainer.errors import ScopeError
from trainer.policy import packing
from trainer.policy.model import PolicyModel, load_policy
from trainer.policy.packing import pack_rollouts

VOCABULARY, LONGEST = 11, 6
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}


@pytest.fixture(scope="module")
def policies() -> tuple[PolicyModel, PolicyModel]:
    """Two policies with the same weights, with and without prompt sharing."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**SIZES))
    return PolicyModel(model, 64, share_prompts=True), PolicyModel(model, 64, share_prompts=False)


tokens = st.integers(0, VOCABULARY - 1)
groups = st.lists(
    st.tuples(
        st.lists(tokens, min_size=1, max_size=5),
        st.lists(st.lists(tokens, max_size=LONGEST), min_size=1, max_size=5),
    ),
    min_size=1,
    max_size=4,
)


def rows(drawn: list[tuple[list[int], list[list[int]]]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """input_ids, prompt_lengths, targets and mask of `drawn` groups, right-padded."""
    pairs = [(prompt, response) for prompt, responses in drawn for response in responses]
    width = max(len(p) + len(r) for p, r in pairs)
    ids = torch.tensor([[*p, *r, *[0] * (width - len(p) - len(r))] for p, r in pairs])
    targets = torch.tensor([[*r, *[0] * (LONGEST - len(r))] for _, r in pairs])
    lengths = torch.tensor([len(r) for _, r in pairs])
    mask = (torch.arange(LONGEST) < lengths[:, None]).float()
    return ids, torch.tensor([len(p) for p, _ in pairs]), targets, mask


@settings(max_examples=40, deadline=None)
@given(drawn=groups, room=st.sampled_from([1, 12, 1024]))
def test_packed_rollouts_score_as_separate_ones(policies, drawn, room):
    ids, prompts, targets, mask = rows(drawn)
    outputs, gradients = [], []
    weights = torch.randn(mask.shape, generator=torch.Generator().manual_seed(1))
    for policy in policies:
        policy.zero_grad()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(packing, "MAX_PACKED_TOKENS", room)
            logprobs, entropy = policy(ids, prompts, targets, mask, torch.ones(len(ids)), True)
        (logprobs * weights).sum().backward()
        outputs.append((logprobs.detach(), entropy))
        gradients.append([p.grad.clone() for p in policy.parameters() if p.grad is not None])
    for packed, apart in zip(*outputs, strict=True):
        torch.testing.assert_close(packed, apart, atol=1e-5, rtol=1e-5)
    for packed, apart in zip(*gradients, strict=True):
        torch.testing.assert_close(packed, apart, atol=1e-4, rtol=1e-4)


def test_a_prompt_is_there_once_and_so_is_an_equal_response():
    ids, prompts, _, mask = rows([([1, 2, 3], [[4, 5, 6], [4, 5, 6], [7, 8], [4, 5, 9]])])
    packed = pack_rollouts(ids, prompts, mask.sum(1).long())
    # The last token of a response is no input, so [4, 5, 6] and [4, 5, 9] are equal as inputs.
    assert packed.input_ids.tolist() == [[1, 2, 3, 4, 5, 7]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 4, 3]]
    assert packed.predictor[:, :3].tolist() == [[2, 3, 4], [2, 3, 4], [2, 5, 0], [2, 3, 4]]
    assert packed.attention[0, 0, 5].tolist() == [True, True, True, False, False, True]


def test_a_group_too_long_for_one_sequence_is_split_with_its_prompt(monkeypatch):
    monkeypatch.setattr(packing, "MAX_PACKED_TOKENS", 6)
    ids, prompts, _, mask = rows([([1, 2], [[3, 4, 0], [5, 6, 0], [7, 8, 0]])])
    packed = pack_rollouts(ids, prompts, mask.sum(1).long())
    assert packed.input_ids.tolist() == [[1, 2, 3, 4, 5, 6], [1, 2, 7, 8, 0, 0]]


def test_sharing_costs_fewer_tokens_than_separate_rows():
    ids, prompts, _, mask = rows([([1, 2, 3, 4, 5], [[i, i + 1, 0] for i in range(5)]) for _ in range(3)])
    packed = pack_rollouts(ids, prompts, mask.sum(1).long())
    assert packed.input_ids.numel() == 5 + 5 * 2
    assert packed.input_ids.numel() < ids.numel()


def test_a_model_with_sliding_windows_is_refused(tmp_path):
    config = Qwen3Config(**SIZES, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    Qwen3ForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ScopeError, match=r"share_prompts=true needs full attention.*share_prompts=false"):
        load_policy(tmp_path, LearnerConfig())
    assert load_policy(tmp_path, LearnerConfig(share_prompts=False))


def test_a_model_whose_attention_mixes_rollouts_is_refused(tmp_path, monkeypatch):
    Qwen3ForCausalLM(Qwen3Config(**SIZES)).save_pretrained(tmp_path)
    everyone = lambda block, response: torch.ones(*block.shape, block.shape[1], dtype=torch.bool).unsqueeze(1)  # noqa: E731
    monkeypatch.setattr(packing, "_attention", everyone)
    with pytest.raises(ScopeError, match="mixes rollouts that share a prompt"):
        load_policy(tmp_path, LearnerConfig())


def test_another_architecture_is_served(tmp_path):
    MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None)).save_pretrained(tmp_path)
    assert load_policy(tmp_path, LearnerConfig())
