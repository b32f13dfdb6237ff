"""Log-probabilities and entropy of the learner's output head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.reference import entropy, log_softmax
from trainer.head.logprobs import differentiable_entropy, entropy_of_logits, token_logprobs

shapes = st.tuples(st.integers(0, 23), st.integers(1, 6), st.integers(2, 40))
seeds = st.integers(0, 2**32 - 1)
scales = st.sampled_from([0.0, 0.1, 1.0, 10.0, 100.0])


def make(seed: int, shape: tuple[int, int, int], scale: float, dtype: torch.dtype = torch.float64):
    """Random inputs: (hidden [T, D], head [V, D], targets [T], temperature [T])."""
    rng = np.random.default_rng(seed)
    tokens, width, vocabulary = shape
    return (
        torch.tensor(rng.normal(size=(tokens, width)), dtype=dtype),
        torch.tensor(scale * rng.normal(size=(vocabulary, width)), dtype=dtype),
        torch.tensor(rng.integers(0, vocabulary, tokens), dtype=torch.int64),
        torch.tensor(rng.uniform(0.3, 3.0, tokens), dtype=dtype),
    )


@given(shapes, seeds, scales, st.integers(1, 30))
@settings(deadline=None, max_examples=60)
def test_values_are_the_brute_force_ones_each_token_at_its_own_temperature(shape, seed, scale, chunks):
    hidden, head, targets, temperature = make(seed, shape, scale)
    logprobs, entropies = token_logprobs(
        hidden, lambda h: h @ head.T, targets, temperature, chunks=chunks, with_entropy=True
    )
    logits = (hidden @ head.T).numpy()
    expected = [
        log_softmax(row, t)[a] for row, t, a in zip(logits, temperature.numpy(), targets, strict=True)
    ]
    np.testing.assert_allclose(logprobs.numpy(), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(entropies.numpy(), entropy(logits), rtol=1e-9, atol=1e-9)


@given(shapes, seeds, scales, st.integers(2, 30))
@settings(deadline=None, max_examples=60)
def test_chunks_change_neither_values_nor_gradients(shape, seed, scale, chunks):
    hidden, head, targets, temperature = make(seed, shape, scale)
    direction = torch.linspace(-1, 2, len(targets), dtype=torch.float64)
    outcomes = []
    for parts in (1, chunks):
        inputs = [hidden.clone().requires_grad_(), head.clone().requires_grad_()]
        logprobs, entropies = token_logprobs(
            inputs[0], lambda h, w=inputs[1]: h @ w.T, targets, temperature, chunks=parts, with_entropy=True
        )
        gradients = torch.autograd.grad((logprobs * direction).sum(), inputs)
        outcomes.append((logprobs.detach(), entropies, *gradients))
    for whole, chunked in zip(*outcomes, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-10, atol=1e-10)


def test_every_chunk_is_projected_even_when_it_is_empty():
    """ZeRO-3 gathers the head once per call, so the number of calls must not depend on the number of tokens."""
    for tokens in (0, 1, 4, 50):
        hidden, head, targets, temperature = make(1, (tokens, 3, 7), 1.0)
        sizes = []

        def project(h, head=head, sizes=sizes):
            sizes.append(len(h))
            return h @ head.T

        token_logprobs(hidden, project, targets, temperature, chunks=5, with_entropy=False)
        assert len(sizes) == 5
        assert sum(sizes) == tokens
        assert max(sizes) == -(-tokens // 5)


def test_entropy_carries_no_gradient_and_is_zero_when_not_wanted():
    hidden, head, targets, temperature = make(3, (9, 4, 11), 1.0)
    hidden.requires_grad_()
    logprobs, entropies = token_logprobs(
        hidden, lambda h: h @ head.T, targets, temperature, chunks=2, with_entropy=True
    )
    assert logprobs.requires_grad
    assert not entropies.requires_grad
    assert (entropies > 0).all()
    _, nothing = token_logprobs(
        hidden, lambda h: h @ head.T, targets, temperature, chunks=2, with_entropy=False
    )
    assert not nothing.any()


@given(shapes, seeds, scales, st.sampled_from([torch.float32, torch.bfloat16]))
@settings(deadline=None, max_examples=60)
def test_narrow_logits_are_measured_in_float32_and_never_give_positive_logprobs(shape, seed, scale, dtype):
    hidden, head, targets, temperature = make(seed, shape, scale, dtype)
    logprobs, entropies = token_logprobs(
        hidden, lambda h: h @ head.T, targets, temperature.float(), chunks=1, with_entropy=True
    )
    assert logprobs.dtype == entropies.dtype == torch.float32
    assert (logprobs <= 0).all()
    assert (entropies >= 0).all()
    logits = (hidden @ head.T).double().numpy()
    np.testing.assert_allclose(entropies.numpy(), entropy(logits), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("offset", [-1e4, 0.0, 1e4])
def test_entropy_does_not_depend_on_an_offset_of_the_logits(offset):
    logits = torch.arange(0, 8, dtype=torch.float32).reshape(2, 4) + offset
    expected = entropy(np.arange(8, dtype=np.float64).reshape(2, 4))
    np.testing.assert_allclose(entropy_of_logits(logits).numpy(), expected, rtol=1e-5)


def test_entropy_of_known_distributions():
    impossible = torch.tensor([0.0, 0.0, -torch.inf])
    certain = torch.tensor([0.0, -200.0, -torch.inf])
    assert entropy_of_logits(torch.zeros(64)).item() == pytest.approx(np.log(64), rel=1e-6)
    assert entropy_of_logits(impossible).item() == pytest.approx(np.log(2), rel=1e-6)
    assert entropy_of_logits(certain).item() == 0.0


@given(shapes, seeds, scales, st.integers(1, 7))
@settings(deadline=None, max_examples=40)
def test_entropy_with_gradient_is_the_same_entropy_with_its_slope(shape, seed, scale, chunks):
    """dH/dz_a = -p_a (log p_a + H), whatever the number of chunks."""
    hidden, head, targets, temperature = make(seed, shape, scale)
    logits = (hidden @ head.T).requires_grad_()
    _, entropies = token_logprobs(
        logits, lambda z: z, targets, temperature, chunks=chunks, with_entropy=True, entropy_gradient=True
    )
    plain = logits.detach().numpy()
    np.testing.assert_allclose(entropies.detach().numpy(), entropy(plain), rtol=1e-9, atol=1e-9)
    (slope,) = torch.autograd.grad(entropies.sum(), logits)
    logp = log_softmax(plain)
    expected = -np.exp(logp) * (logp + entropy(plain)[:, None])
    np.testing.assert_allclose(slope.numpy(), expected, rtol=1e-8, atol=1e-9)


def test_entropy_gradient_is_finite_where_probabilities_vanish():
    logits = torch.tensor([[0.0, 0.0, -300.0], [5e4, 0.0, -torch.inf]], requires_grad=True)
    entropies = differentiable_entropy(logits)
    np.testing.assert_allclose(entropies.detach().numpy(), [np.log(2), 0.0], atol=1e-6)
    (slope,) = torch.autograd.grad(entropies.sum(), logits)
    np.testing.assert_allclose(slope.numpy(), np.zeros((2, 3)), atol=1e-6)


@given(shapes, seeds, scales)
@settings(deadline=None, max_examples=40)
def test_several_temperatures_of_one_projection_are_those_measured_one_by_one(shape, seed, scale):
    hidden, head, targets, temperature = make(seed, shape, scale)
    several = torch.stack([temperature, 1.2 * temperature, torch.ones_like(temperature)], dim=-1)
    calls = []

    def project(h):
        calls.append(len(h))
        return h @ head.T

    together, entropies = token_logprobs(hidden, project, targets, several, chunks=2, with_entropy=True)
    assert len(calls) == 2
    for column in range(3):
        alone, same = token_logprobs(
            hidden, lambda h: h @ head.T, targets, several[:, column], chunks=1, with_entropy=True
        )
        torch.testing.assert_close(together[:, column], alone, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(entropies, same, rtol=1e-12, atol=1e-12)
