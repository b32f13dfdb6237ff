"""The kernels of the fused head, interpreted on a CPU, against the eager computation: how far they are from it.

A process of its own, since Triton decides when it is imported whether it compiles. Prints a list of cases as JSON.
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
    """Every combination of what the kernels do."""
    cases = itertools.product((None, 3), ENTROPY, (16, VOCABULARY), (1.0, 30.0))
    print(json.dumps([case(seed, *arguments) for seed, arguments in enumerate(cases)]))


def case(
    seed: int, several: int | None, entropies: tuple[bool, bool], columns: int, scale: float
) -> dict[str, Any]:
    """Largest differences of values, nats, and of gradients, as a share of the gradient's largest."""
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
