"""The fused head's Triton kernels: interpreted on any machine, and compiled on a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from tests.support.eager_head import eager, largest, make, slopes
from tests.support.gpu import NEEDS_GPU
from tests.support.repository import ROOT
from trainer.head.fused import fused_logprobs


def test_interpreted_kernels_give_the_eager_values_and_gradients():
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.distributed.interpreted_kernels"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout.splitlines()[-1])
    assert len(cases) == 24
    for case in cases:
        # Large logits have rounding errors in any implementation.
        assert case["values"] < 1e-5 * case["scale"], case
        assert case["gradients"] < 1e-4, case


@NEEDS_GPU
@pytest.mark.parametrize("bonus", [False, True], ids=["values only", "entropy bonus"])
@pytest.mark.parametrize("several", [None, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_on_a_gpu_values_and_gradients_are_those_of_a_float64_computation(dtype, several, bonus):
    """Several blocks of tokens and vocabulary, with partial blocks at the end."""
    made = make(7, (700, 64, 9001), 0.3, several, dtype)
    hidden, weight, _, targets, temperature = (tensor.cuda() for tensor in made)
    inputs = [hidden.requires_grad_(), weight.requires_grad_()]
    measured = fused_logprobs(
        *(hidden, weight, None, targets, temperature),
        with_entropy=True,
        entropy_gradient=bonus,
        block_rows=300,
    )
    wide = hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    expected = eager(wide[0], wide[1], None, targets, temperature.double())
    if not bonus:
        expected = (expected[0], expected[1].detach())
    assert (measured[0] <= 0).all()
    for fused, plain in zip(measured, expected, strict=True):
        torch.testing.assert_close(fused.double(), plain, rtol=1e-5, atol=2e-5, check_device=False)
    # Gradients of the logits are rounded to the factors' precision before the multiplication.
    tolerance = 1e-4 if dtype == torch.float32 else 2**-7
    for fused, plain in zip(slopes(measured, inputs), slopes(expected, list(wide)), strict=True):
        assert float((fused.double() - plain).norm() / plain.norm()) < tolerance
        assert float((fused.double() - plain).abs().max()) < tolerance * largest(plain)
