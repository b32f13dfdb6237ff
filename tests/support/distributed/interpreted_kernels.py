"""Measures how far the fused head's kernels, interpreted on a CPU, are from the eager computation.

This is a separate process because Triton decides at import whether it compiles. It prints a list of cases as JSON.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import torch

from tests.support.eager_head import eager, largest, make, slopes
from trainer.head.fused import fused_logprobs

TOKENS, WIDTH, VOCABULARY, ROWS = 5, 6, 40, 3
ENTROPY = [(False, False), (True, False), (True, True)]


def main() -> None:
    """Run every combination of the kernels' options."""
    cases = itertools.product((None, 3), ENTROPY, (16, VOCABULARY), (1.0, 30.0))
    print(json.dumps([case(seed, *arguments) for seed, arguments in enumerate(cases)]))


def case(
    seed: int, several: int | None, entropies: tuple[bool, bool], columns: int, scale: float
) -> dict[str, Any]:
    """The largest error of the values, in nats, and of the gradients, relative to the largest gradient."""
    with_entropy, bonus = entropies
    shape = (TOKENS, WIDTH, VOCABULARY)
    hidden, weight, bias, targets, temperature = make(seed, shape, scale, several, torch.float32)
    inputs = [tensor.requires_grad_() for tensor in (hidden, weight, bias)]
    measured = fused_logprobs(
        *(hidden, weight, bias, targets, temperature),
        with_entropy=with_entropy,
        entropy_gradient=bonus,
        block_rows=ROWS,
        block_columns=columns,
        kernels=True,
    )
    logprobs, entropy = eager(hidden, weight, bias, targets, temperature)
    entropy = entropy if with_entropy else torch.zeros_like(entropy)
    expected = (logprobs, entropy if bonus else entropy.detach())
    values = [float((a - b).abs().max()) for a, b in zip(measured, expected, strict=True)]
    gradients = [
        float((a - b).abs().max()) / largest(b)
        for a, b in zip(slopes(measured, inputs), slopes(expected, inputs), strict=True)
    ]
    about = {"several": several, "with_entropy": with_entropy, "bonus": bonus, "columns": columns}
    return about | {"scale": scale, "values": max(values), "gradients": max(gradients)}


if __name__ == "__main__":
    main()
