"""The fused head on a GPU: time and memory against the eager computation and the installed public fused kernels.

python benchmarks/performance/head_gpu.py [--tokens 8192] [--blocks]

Cross-entropy of bfloat16 hidden states and a bfloat16 output matrix, forward and backward. Liger's kernel returns the
mean loss and computes the gradients in its forward pass. Neither it nor cut-cross-entropy returns the entropy or
supports more than one temperature. Both are measured if they are installed (liger-kernel, cut-cross-entropy).
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch import Tensor

from benchmarks.performance.shared import keep
from trainer.head.fused import fused_logprobs
from trainer.head.logprobs import token_logprobs

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""mean loss of hidden [T, D], weight [V, D] and targets [T]"""


def main() -> None:
    """Measure each way in turn, print the table, and write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--blocks", action="store_true", help="also measure other block sizes")
    options = parser.parse_args()
    ways = dict(make_ways(options))
    found = {name: measure(loss, options) for name, loss in ways.items()}
    document = {
        "vocabulary": options.vocabulary,
        "hidden": options.hidden,
        "tokens": options.tokens,
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "ways": found,
    }
    table(document)
    keep("head-gpu", document)


def table(document: dict[str, Any]) -> None:
    """Print times, memory and loss of each way."""
    sizes = f"{document['vocabulary']:,} x {document['hidden']:,}"
    print(f"{document['device']}: {document['tokens']:,} tokens, {sizes}, bfloat16, milliseconds")
    print(f"{'':44}{'forward':>10}{'both':>10}{'speed over eager':>18}{'extra MiB':>11}{'loss':>9}")
    eager = document["ways"]["eager"]["milliseconds"]
    for name, way in document["ways"].items():
        times = f"{way['forward_milliseconds']:>10.2f}{way['milliseconds']:>10.2f}"
        memory = f"{way['extra_bytes'] / 2**20:>11,.0f}"
        print(f"{name:44}{times}{eager / way['milliseconds']:>18.2f}{memory}{way['loss']:>9.4f}")


def make_ways(options: argparse.Namespace) -> Iterator[tuple[str, Loss]]:
    """Name and loss function of each way."""
    yield "eager", eager(with_entropy=False)
    yield "eager, entropy", eager(with_entropy=True)
    yield "fused, PyTorch", fused(kernels=False)
    yield "fused, PyTorch, entropy", fused(kernels=False, with_entropy=True)
    yield "fused, Triton", fused()
    yield "fused, Triton, entropy", fused(with_entropy=True)
    yield "fused, Triton, entropy with its gradient", fused(with_entropy=True, entropy_gradient=True)
    if options.blocks:
        for rows in (2048, 4096, 8192):
            for columns in (4096, 8192, 16384):
                yield f"fused, Triton, {rows} x {columns}", fused(block_rows=rows, block_columns=columns)
    if importlib.util.find_spec("liger_kernel"):
        name = "liger_kernel.transformers.fused_linear_cross_entropy"
        liger = importlib.import_module(name).LigerFusedLinearCrossEntropyLoss()
        yield "Liger, mean loss", lambda hidden, weight, targets: liger(weight, hidden, targets)
    if importlib.util.find_spec("cut_cross_entropy"):
        linear_cross_entropy = importlib.import_module("cut_cross_entropy").linear_cross_entropy
        yield "cut-cross-entropy, small gradients left out", cut(linear_cross_entropy)
        yield "cut-cross-entropy, exact", cut(linear_cross_entropy, filter_eps=None)


def eager(*, with_entropy: bool) -> Loss:
    """The eager computation: all logits at once, in float32."""

    def loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        temperature = torch.ones(len(targets), device=targets.device)
        logprobs, _ = token_logprobs(
            hidden, lambda h: h @ weight.T, targets, temperature, chunks=1, with_entropy=with_entropy
        )
        return -logprobs.mean()

    return loss


def fused(*, with_entropy: bool = False, entropy_gradient: bool = False, **options: Any) -> Loss:
    """The fused head of this project."""

    def loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        temperature = torch.ones(len(targets), device=targets.device)
        logprobs, entropy = fused_logprobs(
            *(hidden, weight, None, targets, temperature),
            with_entropy=with_entropy,
            entropy_gradient=entropy_gradient,
            **options,
        )
        return -logprobs.mean() + (0.01 * entropy.mean() if entropy_gradient else 0.0)

    return loss


def cut(function: Callable[..., Any], **options: Any) -> Loss:
    """cut-cross-entropy with a loss for each token, as the fused head computes it."""
    return lambda hidden, weight, targets: function(
        hidden, weight, targets, reduction="none", **options
    ).mean()


def measure(loss: Loss, options: argparse.Namespace) -> dict[str, float]:
    """Median times, and peak memory beyond the inputs and their gradients."""
    generator = torch.Generator("cuda").manual_seed(1)
    draw: dict[str, Any] = {"device": "cuda", "dtype": torch.bfloat16, "generator": generator}
    hidden = torch.randn(options.tokens, options.hidden, **draw).requires_grad_()
    weight = torch.randn(options.vocabulary, options.hidden, **draw).mul_(0.03).requires_grad_()
    targets = torch.randint(0, options.vocabulary, (options.tokens,), device="cuda", generator=generator)
    forward, both, value = [], [], 0.0
    for _ in range(3 + options.rounds):
        hidden.grad = weight.grad = None
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(3)]
        marks[0].record()
        result = loss(hidden, weight, targets)
        marks[1].record()
        result.backward()
        marks[2].record()
        torch.cuda.synchronize()
        forward.append(marks[0].elapsed_time(marks[1]))
        both.append(marks[0].elapsed_time(marks[2]))
        value = float(result.detach())
    gradients = hidden.nbytes + weight.nbytes
    return {
        "forward_milliseconds": statistics.median(forward[3:]),
        "milliseconds": statistics.median(both[3:]),
        "extra_bytes": torch.cuda.max_memory_allocated() - before - gradients,
        "loss": value,
    }


if __name__ == "__main__":
    main()
