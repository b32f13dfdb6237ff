"""Which deviations the probe attributes to rounding, and which to wrong weights."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from services.inference.engine import PROBE_TOLERANCE
from services.weights.probe import Probe

LAYERS = 12


def test_the_deviation_is_the_mean_over_tokens() -> None:
    assert Probe([1, 2, 3], [-1.0, -2.0]).deviation([-1.5, -1.9]) == pytest.approx(0.3)


@pytest.mark.parametrize("wrong", [math.nan, -math.inf])
def test_a_log_probability_that_is_no_number_is_infinitely_off(wrong: float) -> None:
    assert Probe([1, 2, 3], [-1.0, -2.0]).deviation([-1.0, wrong]) == math.inf


@pytest.fixture(scope="module")
def policy() -> LlamaForCausalLM:
    """A bfloat16 model as wide as a language model of 135 M parameters, with similar probabilities of random tokens."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=576,
        intermediate_size=1728,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=8192,
        max_position_embeddings=64,
        initializer_range=0.05,
        tie_word_embeddings=False,
    )
    policy = LlamaForCausalLM(config).eval().bfloat16()
    with torch.no_grad():
        policy.lm_head.weight.mul_(5 / (0.05 * 576**0.5))
    return policy


@torch.no_grad()
def logprobs(policy: LlamaForCausalLM, tokens: Tensor) -> list[float]:
    logits = policy(tokens[None]).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(-1, tokens[1:, None])[:, 0].tolist()


@pytest.fixture(scope="module")
def probe(policy: LlamaForCausalLM) -> Probe:
    tokens = torch.randint(0, 8192, (63,), generator=torch.Generator().manual_seed(1))
    return Probe(tokens.tolist(), logprobs(copy.deepcopy(policy).float(), tokens))


def test_rounding_to_bfloat16_passes_though_single_tokens_are_far_off(
    policy: LlamaForCausalLM, probe: Probe
) -> None:
    measured = logprobs(policy, torch.tensor(probe.tokens))
    assert max(abs(a - b) for a, b in zip(measured, probe.logprobs, strict=True)) > 0.4
    assert probe.deviation(measured) < PROBE_TOLERANCE["bfloat16"] / 1.5


@pytest.mark.parametrize("layer", [0, LAYERS // 2, LAYERS - 1])
def test_one_matrix_that_was_not_loaded_fails_in_bfloat16(
    policy: LlamaForCausalLM, probe: Probe, layer: int
) -> None:
    wrong = copy.deepcopy(policy)
    torch.nn.init.zeros_(wrong.get_parameter(f"model.layers.{layer}.self_attn.o_proj.weight"))
    assert probe.deviation(logprobs(wrong, torch.tensor(probe.tokens))) > 2 * PROBE_TOLERANCE["bfloat16"]
