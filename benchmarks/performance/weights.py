"""How long a generator pauses for new weights, against the time to copy their bytes once.

    .venv/bin/python benchmarks/performance/weights.py

One engine with a model of 64 million parameters (float32) samples all the time, and is given two sets of weights in
turn, as the learner sends them: packed, by Ray's object store's reader's view, loaded, proven by a probe. `pause` is
the time in which the engine samples nothing; `load` also has the hand-over before it and the probe after it. `pack`
is what the learner does in its own process. A copy goes from one warm buffer to another, with one thread.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2])]

import numpy as np  # noqa: E402

from benchmarks.checkpoint import make_model  # noqa: E402
from benchmarks.performance.shared import keep  # noqa: E402
from services.driver.generator_pool import engine_environment  # noqa: E402
from services.weights import packed  # noqa: E402
from tests.tiny import LearnerView, perturbed  # noqa: E402
from trainer.config import RunConfig  # noqa: E402
from trainer.tasks import Vocabulary  # noqa: E402
from trainer.tiny_model import build_tokenizer  # noqa: E402
from trainer.trajectory import PolicyVersion  # noqa: E402

PROMPT = [3, 4, 5, 6]
REQUESTS, TOKENS = 8, 96


def main() -> None:
    """Measure, print the table, write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loads", type=int, default=12, help="the first two warm up")
    parser.add_argument("--layers", type=int, default=9, help="of 7.1 million parameters each")
    options = parser.parse_args()
    config = RunConfig.model_validate({"model": {"max_length": 128}, "rollout": {"max_new_tokens": TOKENS}})
    os.environ |= engine_environment(config)
    with tempfile.TemporaryDirectory(prefix="scope-weights-") as folder:
        model_dir = make_model(Path(folder), layers=options.layers, positions=128)
        build_tokenizer(Vocabulary(tuple("abcdef"), split="characters"), 128).save_pretrained(model_dir)
        document = asyncio.run(measure(model_dir, config, options.loads))
    table(document)
    keep("performance-weights", document)


async def measure(model_dir: Path, config: RunConfig, loads: int) -> dict[str, Any]:
    """Seconds of each part of every load but the first two."""
    from services.engine import SamplingEngine

    views = [LearnerView(model_dir), LearnerView(model_dir, perturbed(0.05, seed=2))]
    weights = [(view.weights, view.probe()) for view in views]
    engine = await SamplingEngine.start(
        model_dir, config.generators, role="base", max_length=128, seed=1, version=PolicyVersion(0, 0)
    )
    marks = watch_pauses(engine)
    sampling = [asyncio.create_task(sample_on(engine)) for _ in range(REQUESTS)]
    found: dict[str, list[float]] = {"copy": [], "pack": [], "pause": [], "load": []}
    size = 0
    try:
        for done in range(loads):
            tensors, probe = weights[done % 2]
            started = time.perf_counter()
            blob = packed(tensors)
            found["pack"].append(time.perf_counter() - started)
            size = blob.nbytes
            target = np.zeros_like(blob)
            started = time.perf_counter()
            np.copyto(target, blob)
            found["copy"].append(time.perf_counter() - started)
            marks.clear()
            started = time.perf_counter()
            await engine.load(PolicyVersion(1, done), blob, probe)
            found["load"].append(time.perf_counter() - started)
            found["pause"].append(marks["resumed"] - marks["paused"])
            await asyncio.sleep(0.5)
    finally:
        for task in sampling:
            task.cancel()
        await asyncio.gather(*sampling, return_exceptions=True)
        engine.shutdown()
    medians = {name: statistics.median(values[2:]) for name, values in found.items()}
    return {
        "parameters": size // 4,
        "bytes": size,
        "requests_in_flight": REQUESTS,
        "seconds": {name: values[2:] for name, values in found.items()},
        "median_seconds": medians,
        "over_copy": {name: value / medians["copy"] for name, value in medians.items()},
    }


def watch_pauses(engine: Any) -> dict[str, float]:
    """Has the engine note when it paused and resumed sampling last."""
    inner, marks = engine._engine, {}
    pause, resume = inner.pause_generation, inner.resume_generation

    async def paused(**how: Any) -> None:
        marks["paused"] = time.perf_counter()
        await pause(**how)

    async def resumed() -> None:
        await resume()
        marks["resumed"] = time.perf_counter()

    inner.pause_generation, inner.resume_generation = paused, resumed
    return marks


async def sample_on(engine: Any) -> None:
    """Sample until cancelled."""
    while True:
        await engine.sample(PROMPT, n=1, temperature=1.0, max_tokens=TOKENS, eos_token=1)


def table(document: dict[str, Any]) -> None:
    """Print it."""
    print(f"{document['parameters']:,} parameters, {document['bytes'] / 2**20:,.0f} MiB")
    for name, seconds in document["median_seconds"].items():
        print(f"{name:8}{1e3 * seconds:>9.1f} ms{document['over_copy'][name]:>7.2f} x one copy")


if __name__ == "__main__":
    main()
