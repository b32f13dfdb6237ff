"""Cost of log-probabilities and entropy at a large vocabulary: the fused head against the eager computation.

.venv/bin/python benchmarks/performance/head.py

Each case is a forward and a backward pass in a separate process, with the entropy but without its gradient. Memory is
the growth of the resident set from before the computation to its peak, including the returned gradients. If the eager
computation at --memory-tokens would not fit into this machine's memory, its need is extrapolated linearly from two
smaller sizes. Time is processor time, by default of one thread, so that other work on the machine has little effect.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY)]
FITTED_TOKENS = (256, 768)
PACKAGES = ("torch", "numpy")
TIMES = ("forward_cpu_seconds", "backward_cpu_seconds", "cpu_seconds")


def main() -> None:
    """Measure, print the table, write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--time-tokens", type=int, default=2048)
    parser.add_argument("--memory-tokens", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=3, help="repeats of each timing; the median counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--out",
        type=Path,
        default=REPOSITORY / "benchmarks" / "results" / "head.json",
        help="file of the document",
    )
    parser.add_argument("--case", nargs=2, metavar=("WAY", "TOKENS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(one_case(options.case[0], int(options.case[1]), options)))
        return
    document = measure(options)
    table(document)
    print(f"written to {options.out}")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Peak bytes and seconds of both ways. Writes the document after every repeat, because a case takes minutes."""
    few, many = FITTED_TOKENS
    fitted = {tokens: run("eager", tokens, options)["peak_bytes"] for tokens in FITTED_TOKENS}
    slope = (fitted[many] - fitted[few]) / (many - few)
    eager_bytes = fitted[few] + slope * (options.memory_tokens - few)
    fits = eager_bytes < psutil.virtual_memory().available * 0.8
    if fits:
        eager_bytes = run("eager", options.memory_tokens, options)["peak_bytes"]
    fused_bytes = run("fused", options.memory_tokens, options)["peak_bytes"]
    memory = {
        "tokens": options.memory_tokens,
        "eager_bytes": round(eager_bytes),
        "eager_measured": fits,
        "eager_bytes_at_smaller_sizes": fitted,
        "fused_bytes": fused_bytes,
        "fused_over_eager": fused_bytes / eager_bytes,
    }
    times: dict[str, list[dict[str, Any]]] = {"eager": [], "fused": []}
    document: dict[str, Any] = {}
    for _ in range(options.repeats):
        for way, found in times.items():
            found.append(run(way, options.time_tokens, options))
        document = write(options, memory, times)
    return document


def write(
    options: argparse.Namespace, memory: dict[str, Any], times: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """Write the document to `options.out` and return it."""
    seconds = {
        way: {key: statistics.median(case[key] for case in found) for key in TIMES}
        for way, found in times.items()
    }
    document = {
        "vocabulary": options.vocabulary,
        "hidden": options.hidden,
        "memory": memory,
        "time": {
            "tokens": options.time_tokens,
            "threads": options.threads,
            "repeats": times,
            "median": seconds,
            "fused_speed_over_eager": {
                key: seconds["eager"][key] / seconds["fused"][key] for key in seconds["eager"]
            },
        },
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg(), "platform": platform.platform()},
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    options.out.write_text(json.dumps(document, indent=2) + "\n")
    return document


def run(way: str, tokens: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run one case in a separate process."""
    arguments = [f"--{name}={getattr(options, name)}" for name in ("vocabulary", "hidden", "threads")]
    command = [sys.executable, __file__, *arguments, "--case", way, str(tokens)]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)


def one_case(way: str, tokens: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one forward and one backward pass."""
    import torch

    from trainer.head.fused import fused_logprobs
    from trainer.head.logprobs import token_logprobs

    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(tokens, options.hidden, generator=generator).requires_grad_()
    weight = torch.randn(options.vocabulary, options.hidden, generator=generator).mul_(0.03).requires_grad_()
    targets = torch.randint(0, options.vocabulary, (tokens,), generator=generator)
    temperature = torch.ones(tokens)
    # Warm-up: the first matrix product sets up its kernels.
    (hidden.detach()[:64] @ weight.detach()[:64].T).sum()
    before = psutil.Process().memory_info().rss
    marks = [(time.process_time(), time.perf_counter())]
    if way == "eager":
        logprobs, entropy = token_logprobs(
            hidden, lambda h: h @ weight.T, targets, temperature, chunks=1, with_entropy=True
        )
    else:
        logprobs, entropy = fused_logprobs(hidden, weight, None, targets, temperature, with_entropy=True)
    marks.append((time.process_time(), time.perf_counter()))
    logprobs.mean().backward()
    marks.append((time.process_time(), time.perf_counter()))
    assert weight.grad is not None
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    return {
        "tokens": tokens,
        "peak_bytes": peak - before,
        "forward_cpu_seconds": marks[1][0] - marks[0][0],
        "backward_cpu_seconds": marks[2][0] - marks[1][0],
        "cpu_seconds": marks[2][0] - marks[0][0],
        "wall_seconds": marks[2][1] - marks[0][1],
        "mean_logprob": float(logprobs.detach().mean()),
        "mean_entropy": float(entropy.mean()),
        "gradient_norm": float(weight.grad.norm()),
    }


def table(document: dict[str, Any]) -> None:
    """Print memory and times of both ways."""
    memory, timing = document["memory"], document["time"]
    how = "measured" if memory["eager_measured"] else "from smaller sizes"
    print(
        f"vocabulary {document['vocabulary']:,}, hidden {document['hidden']:,}, float32, forward + backward"
    )
    print(f"{'':42}{'eager':>12}{'fused':>12}{'ratio':>9}")
    row = f"{memory['eager_bytes'] / 2**20:>12,.0f}{memory['fused_bytes'] / 2**20:>12,.0f}"
    what = f"peak memory, MiB, {memory['tokens']:,} tokens"
    print(f"{what:42}{row}{memory['fused_over_eager']:>9.3f}   eager {how}")
    for key, ratio in timing["fused_speed_over_eager"].items():
        what = f"{key.replace('_', ' ')}, {timing['tokens']:,} tokens"
        row = "".join(f"{timing['median'][way][key]:>12.2f}" for way in ("eager", "fused"))
        print(f"{what:42}{row}{ratio:>9.2f}   speed over eager")


if __name__ == "__main__":
    main()
