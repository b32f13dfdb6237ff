"""The fused head against the eager computation in the same or a higher precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Qwen3Config, Qwen3ForCausalLM

from tests.support.eager_head import eager, largest, make, slopes
from trainer.head.fused import FusedHead, fused_logprobs
from trainer.head.limits import FUSED_FROM_VOCABULARY
from trainer.policy.model import PolicyModel

shapes = st.tuples(st.integers(0, 23), st.integers(1, 6), st.integers(2, 70))
seeds = st.integers(0, 2**32 - 1)
blocks = st.tuples(st.integers(1, 30), st.integers(1, 80))
columns = st.sampled_from([None, 1, 2, 3])


@given(shapes, seeds, st.sampled_from([0.0, 1.0, 30.0, 1e4]), columns, blocks, st.booleans(), st.booleans())
@settings(deadline=None, max_examples=50)
def test_values_and_gradients_are_the_eager_ones(shape, seed, scale, several, size, biased, bonus):
    hidden, weight, bias, targets, temperature = make(seed, shape, scale, several, torch.float64)
    inputs = [hidden, weight, bias][: 3 if biased else 2]
    for tensor in inputs:
        tensor.requires_grad_()
    arguments = (hidden, weight, bias if biased else None, targets, temperature)
    expected = eager(*arguments)
    measured = fused_logprobs(
        *arguments, with_entropy=True, entropy_gradient=bonus, block_rows=size[0], block_columns=size[1]
    )
    for fused, plain in zip(measured, expected, strict=True):
        torch.testing.assert_close(fused.detach(), plain.detach(), rtol=1e-9, atol=1e-9)
    wanted = expected if bonus else (expected[0], expected[1].detach())
    for fused, plain in zip(slopes(measured, inputs), slopes(wanted, inputs), strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-8, atol=1e-8 * max(scale, 1.0))


@given(shapes, seeds, st.sampled_from([0.1, 1.0, 30.0]), columns, blocks)
@settings(deadline=None, max_examples=30)
def test_in_float32_values_are_within_1e5_and_gradients_within_1e4(shape, seed, scale, several, size):
    hidden, weight, _, targets, temperature = make(seed, shape, scale, several, torch.float32)
    inputs = [hidden.requires_grad_(), weight.requires_grad_()]
    measured = fused_logprobs(
        hidden,
        weight,
        None,
        targets,
        temperature,
        with_entropy=True,
        entropy_gradient=True,
        block_rows=size[0],
        block_columns=size[1],
    )
    assert measured[0].dtype == measured[1].dtype == torch.float32
    assert (measured[0] <= 0).all()
    assert (measured[1] >= 0).all()
    expected = eager(hidden, weight, None, targets, temperature)
    # Large logits have rounding errors in any implementation.
    large = max(1.0, scale)
    for fused, plain in zip(measured, expected, strict=True):
        torch.testing.assert_close(fused.detach(), plain.detach(), rtol=1e-5, atol=1e-5 * large)
    for fused, plain in zip(slopes(measured, inputs), slopes(expected, inputs), strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4 * largest(plain))


@given(shapes, seeds, st.sampled_from([0.1, 1.0, 10.0]), columns, blocks)
@settings(deadline=None, max_examples=20)
def test_bfloat16_inputs_are_summed_up_in_float32(shape, seed, scale, several, size):
    hidden, weight, _, targets, temperature = make(seed, shape, scale, several, torch.bfloat16)
    narrow = [hidden.requires_grad_(), weight.requires_grad_()]
    wide = [tensor.detach().float().requires_grad_() for tensor in narrow]
    measured = fused_logprobs(
        hidden,
        weight,
        None,
        targets,
        temperature,
        with_entropy=True,
        entropy_gradient=True,
        block_rows=size[0],
        block_columns=size[1],
    )
    expected = eager(wide[0], wide[1], None, targets, temperature)
    for fused, plain in zip(measured, expected, strict=True):
        torch.testing.assert_close(fused.detach(), plain.detach(), rtol=1e-5, atol=1e-5 * max(1.0, scale))
    for fused, plain in zip(slopes(measured, narrow), slopes(expected, wide), strict=True):
        # Rounded once, at the end.
        torch.testing.assert_close(fused.float(), plain, rtol=2**-8, atol=1e-4 * largest(plain))


def test_certain_and_hopeless_tokens_keep_finite_values_and_gradients():
    hidden = torch.eye(3, requires_grad=True)
    weight = torch.zeros(5000, 3)
    weight[0], weight[4999] = torch.tensor([200.0, -200.0, 3e4]), torch.tensor([-200.0, 200.0, -3e4])
    weight.requires_grad_()
    logprobs, entropy = fused_logprobs(
        hidden,
        weight,
        None,
        torch.tensor([0, 0, 4999]),
        torch.tensor([0.1, 1.0, 10.0]),
        with_entropy=True,
        entropy_gradient=True,
    )
    torch.testing.assert_close(logprobs, torch.tensor([0.0, -400.0, -6e3]))
    torch.testing.assert_close(entropy, torch.zeros(3))
    assert all(slope.isfinite().all() for slope in slopes((logprobs, entropy), [hidden, weight]))


def test_only_the_gradients_that_are_wanted_are_made():
    hidden, weight, _, targets, temperature = make(1, (7, 4, 30), 1.0, None, torch.float32)
    options: dict[str, Any] = {"with_entropy": True, "block_rows": 3, "block_columns": 7}
    logprobs, entropy = fused_logprobs(hidden, weight, None, targets, temperature, **options)
    assert not logprobs.requires_grad
    assert not entropy.requires_grad
    alone = [(hidden.clone().requires_grad_(), weight), (hidden, weight.clone().requires_grad_())]
    both = (hidden.clone().requires_grad_(), weight.clone().requires_grad_())
    expected = slopes(fused_logprobs(*both, None, targets, temperature, **options), list(both))
    for inputs, wanted in zip(alone, expected, strict=True):
        tracked = [tensor for tensor in inputs if tensor.requires_grad]
        outputs = fused_logprobs(*inputs, None, targets, temperature, **options)
        assert not outputs[1].requires_grad
        torch.testing.assert_close(slopes(outputs, tracked)[0], wanted)


def test_the_whole_logits_are_never_held():
    """No tensor kept by autograd or created in between has tokens times vocabulary elements."""
    tokens, vocabulary = 64, 1000
    hidden, weight, _, targets, temperature = make(5, (tokens, 8, vocabulary), 1.0, 2, torch.float32)
    hidden.requires_grad_()
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.untyped_storage().nbytes())
            return result

    with Watch():
        logprobs, _ = fused_logprobs(
            hidden, weight, None, targets, temperature, with_entropy=True, block_rows=16, block_columns=100
        )
        logprobs.sum().backward()
    assert 0 < largest <= weight.nbytes < tokens * vocabulary * 4 / 4


def policy(vocabulary: int, fused: str, *, tied: bool = False) -> PolicyModel:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        tie_word_embeddings=tied,
    )
    return PolicyModel(Qwen3ForCausalLM(config), 64, share_prompts=True, fused_head=fused)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_policy_measures_the_same_with_either_head(tied):
    ids = torch.arange(24).reshape(3, 8) % 11
    arguments = (ids, torch.tensor([3, 3, 4]), ids[:, 3:], torch.ones(3, 5), torch.tensor([0.7, 1.0, 1.3]))
    outcomes = []
    for fused in ("off", "on"):
        model = policy(50, fused, tied=tied)
        assert isinstance(model.model.lm_head, FusedHead) == (fused == "on")
        logprobs, entropy = model(*arguments, True, True)
        (logprobs.sum() + 0.3 * entropy.sum()).backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        outcomes.append((logprobs, entropy, gradients, set(model.state_dict())))
    plain, fused = outcomes
    torch.testing.assert_close(fused[0], plain[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fused[1], plain[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fused[2], plain[2], rtol=1e-4, atol=1e-5)
    assert fused[3] == plain[3]


def test_small_vocabularies_take_the_plain_head_and_a_fused_one_still_gives_logits():
    assert type(policy(50, "auto").model.lm_head) is nn.Linear
    assert isinstance(policy(FUSED_FROM_VOCABULARY, "auto").model.lm_head, FusedHead)
    ids = torch.arange(6).unsqueeze(0)
    plain, fused = (policy(50, kind).model.eval()(input_ids=ids).logits for kind in ("off", "on"))
    assert torch.equal(plain, fused)
