"""A bare CPU engine with vLLM's worker inside the engine core, against one whose worker is a separate process.

    .venv/bin/python benchmarks/performance/engine_processes.py

Both engines stay up and are measured alternately, on the quickstart's model and prompts; each ratio is of one pair of
rounds. The separate process is vLLM's default on CPUs. Memory is the unique set size (USS) of the engine's processes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2])]

import psutil  # noqa: E402

from benchmarks.performance.generator import CONFIG, ENDLESS, engine_speed  # noqa: E402
from benchmarks.performance.shared import keep  # noqa: E402
from services.inference.environment import engine_environment  # noqa: E402
from trainer.config import RunConfig  # noqa: E402
from trainer.config.load import load_config  # noqa: E402
from trainer.rollouts.trajectory import PolicyVersion  # noqa: E402
from trainer.starting_model.warm_start import ensure_warm_start  # noqa: E402

WAYS = {"in the core": "0", "a process": "1"}


def main() -> None:
    """Measure, print the table, write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=6.0, help="seconds per round")
    options = parser.parse_args()
    config = load_config(CONFIG, ENDLESS)
    document = asyncio.run(measure(config, options.rounds, options.seconds))
    for way in WAYS:
        speed, start = document["median_tokens_per_second"][way], document["start_seconds"][way]
        memory = document["memory_bytes"][way] / 2**20
        print(f"{way:14}{speed:>8,.0f} tokens/s{memory:>8,.0f} MiB   started in {start:.1f} s")
    ratio = document["in_the_core_over_a_process"]
    print(f"in the core / a process  {ratio['median']:.3f} [{ratio['lowest']:.3f}, {ratio['highest']:.3f}]")
    keep("performance-engine-processes", document)


async def measure(config: RunConfig, rounds: int, seconds: float) -> dict[str, Any]:
    """Tokens/s of both engines in every round, start times and memory. The first round is a warm-up and is dropped."""
    from transformers import AutoTokenizer

    from services.inference.engine import SamplingEngine

    cache = Path(config.warm_start.cache_dir).expanduser()
    model_dir = ensure_warm_start(config, cache, lambda _: None).path
    tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)
    engines: dict[str, SamplingEngine] = {}
    start, memory = {}, {}
    for way, switch in WAYS.items():
        os.environ |= engine_environment(config) | {"VLLM_ENABLE_V1_MULTIPROCESSING": switch}
        before, started = _children(), time.perf_counter()
        engines[way] = await SamplingEngine.start(
            model_dir,
            config.generators,
            role="base",
            max_length=config.model.max_length,
            seed=1,
            version=PolicyVersion(0, 0),
        )
        start[way] = time.perf_counter() - started
        memory[way] = sum(psutil.Process(pid).memory_full_info().uss for pid in _children() - before)
    found = []
    for _ in range(rounds + 1):
        found.append(
            {way: await engine_speed(engine, config, tokenizer, seconds) for way, engine in engines.items()}
        )
    for engine in engines.values():
        engine.shutdown()
    pairs = found[1:]
    ratios = [pair["in the core"] / pair["a process"] for pair in pairs]
    return {
        "rounds": pairs,
        "median_tokens_per_second": {way: statistics.median(pair[way] for pair in pairs) for way in WAYS},
        "in_the_core_over_a_process": {
            "median": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
        },
        "start_seconds": start,
        "memory_bytes": memory,
    }


def _children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


if __name__ == "__main__":
    main()
