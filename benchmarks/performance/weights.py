"""How long a generator pauses for new weights, against the time to copy their bytes once.

    .venv/bin/python benchmarks/performance/weights.py

One engine with a model of 64 million parameters (float32) samples continuously and alternately loads two sets of
weights, as the learner sends them: first serialized in a buffer, as a reader of Ray's object store sees it; then as a
broadcast over gloo from a thread of this process. A probe verifies every load. `pause` is the time in which the engine
does not sample. `load` also includes the transfer before it and the probe after it; `arrive` is the transfer of a
broadcast. `pack` is the serialization in the learner's process. `copy` is from one warm buffer to another, with one
thread.
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
from typing import TYPE_CHECKING, Any

sys.path[:0] = [str(Path(__file__).parents[2])]

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.checkpoint import make_model  # noqa: E402
from benchmarks.performance.shared import keep  # noqa: E402
from services.inference.environment import engine_environment  # noqa: E402
from services.weights.buckets import Bucket, as_text, pack, plan  # noqa: E402
from services.weights.probe import Probe  # noqa: E402
from services.weights.process_group import WeightGroup, open_rendezvous  # noqa: E402
from services.weights.serialization import serialize  # noqa: E402
from tests.support.generation.tiny import LearnerView, perturbed  # noqa: E402
from trainer.config import RunConfig  # noqa: E402
from trainer.rollouts.trajectory import PolicyVersion  # noqa: E402
from trainer.starting_model.tiny_model import build_tokenizer  # noqa: E402
from trainer.tasks import Vocabulary  # noqa: E402

if TYPE_CHECKING:
    from services.inference.engine import SamplingEngine

Weights = tuple[dict[str, torch.Tensor], Probe]
PROMPT = [3, 4, 5, 6]
BUCKET_BYTES = 64 << 20
REQUESTS, TOKENS = 8, 96


def main() -> None:
    """Measure, print the table, write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loads", type=int, default=12, help="loads of each kind; the first two warm up")
    parser.add_argument("--layers", type=int, default=9, help="layers of 7.1 million parameters each")
    options = parser.parse_args()
    config = RunConfig.model_validate({"model": {"max_length": 128}, "rollout": {"max_new_tokens": TOKENS}})
    os.environ |= engine_environment(config)
    torch.set_num_threads(config.learner.threads)
    with tempfile.TemporaryDirectory(prefix="scope-weights-") as folder:
        model_dir = make_model(Path(folder), layers=options.layers, positions=128)
        build_tokenizer(Vocabulary(tuple("abcdef"), split="characters"), 128).save_pretrained(model_dir)
        document = asyncio.run(measure(model_dir, config, options.loads))
    table(document)
    keep("performance-weights", document)


async def measure(model_dir: Path, config: RunConfig, loads: int) -> dict[str, Any]:
    """Measure both transports, one after the other."""
    from services.inference.engine import SamplingEngine

    views = [LearnerView(model_dir), LearnerView(model_dir, perturbed(0.05, seed=2))]
    weights = [(view.weights, view.probe()) for view in views]
    engine = await SamplingEngine.start(
        model_dir, config.generators, role="base", max_length=128, seed=1, version=PolicyVersion(0, 0)
    )
    marks = watch_pauses(engine)
    sampling = [asyncio.create_task(sample_on(engine)) for _ in range(REQUESTS)]
    try:
        ways = {
            "object_store": await by_object_store(engine, weights, loads, marks),
            "collective": await by_broadcast(engine, weights, loads, marks),
        }
    finally:
        for task in sampling:
            task.cancel()
        await asyncio.gather(*sampling, return_exceptions=True)
        engine.shutdown()
    copy = statistics.median(ways["object_store"]["copy"])
    size = sum(tensor.nbytes for tensor in weights[0][0].values())
    medians = {
        way: {name: statistics.median(seconds) for name, seconds in found.items()}
        for way, found in ways.items()
    }
    return {
        "parameters": size // 4,
        "bytes": size,
        "requests_in_flight": REQUESTS,
        "seconds": ways,
        "median_seconds": medians,
        "over_copy": {way: {name: value / copy for name, value in of.items()} for way, of in medians.items()},
    }


async def by_object_store(
    engine: SamplingEngine, weights: list[Weights], loads: int, marks: dict[str, float]
) -> dict[str, list[float]]:
    """Seconds of each part of the loads from a serialized buffer, without the first two."""
    found: dict[str, list[float]] = {"copy": [], "pack": [], "pause": [], "load": []}
    for done in range(loads):
        tensors, probe = weights[done % 2]
        started = time.perf_counter()
        payload = serialize(tensors)
        found["pack"].append(time.perf_counter() - started)
        target = np.zeros_like(payload)
        started = time.perf_counter()
        np.copyto(target, payload)
        found["copy"].append(time.perf_counter() - started)
        started = time.perf_counter()
        await engine.load(PolicyVersion(1, done), payload, probe)
        found["load"].append(time.perf_counter() - started)
        found["pause"].append(marks["resumed"] - marks["paused"])
        await asyncio.sleep(0.5)
    return {name: values[2:] for name, values in found.items()}


async def by_broadcast(
    engine: SamplingEngine, weights: list[Weights], loads: int, marks: dict[str, float]
) -> dict[str, list[float]]:
    """Seconds of each part of the loads by broadcast in a group of two, without the first two."""
    device = torch.device("cpu")
    store, rendezvous = open_rendezvous("127.0.0.1", 2, "gloo", 60)
    await engine.join_group(rendezvous, 1)
    group = await asyncio.to_thread(WeightGroup, rendezvous, 0, device, store)
    found: dict[str, list[float]] = {"arrive": [], "pause": [], "load": []}
    for done in range(loads):
        tensors, probe = weights[done % 2]
        buckets = plan(tensors, BUCKET_BYTES)

        def send(buckets: list[Bucket] = buckets, tensors: dict[str, torch.Tensor] = tensors) -> None:
            for bucket in buckets:
                group.broadcast(pack(bucket, tensors, device))

        started = time.perf_counter()
        await asyncio.gather(engine.receive(as_text(buckets)), asyncio.to_thread(send))
        found["arrive"].append(time.perf_counter() - started)
        await engine.load_received(PolicyVersion(2, done), probe)
        found["load"].append(time.perf_counter() - started)
        found["pause"].append(marks["resumed"] - marks["paused"])
        await asyncio.sleep(0.5)
    return {name: values[2:] for name, values in found.items()}


def watch_pauses(engine: Any) -> dict[str, float]:
    """Make the engine record in the returned dict when it last paused and resumed sampling."""
    inner, marks = engine._engine, {}
    pause, resume = inner.pause_generation, inner.resume_generation

    async def paused(**how: Any) -> None:
        await pause(**how)
        # The workers answer after the decoding step in progress.
        await inner.collective_rpc("received_weights")
        marks["paused"] = time.perf_counter()

    async def resumed() -> None:
        await resume()
        marks["resumed"] = time.perf_counter()

    inner.pause_generation, inner.resume_generation = paused, resumed
    return marks


async def sample_on(engine: Any) -> None:
    """Sample until cancelled."""
    while True:
        await engine.sample(PROMPT, n=1, temperature=1.0, max_tokens=TOKENS, end_tokens=(1,))


def table(document: dict[str, Any]) -> None:
    """Print the medians of both transports."""
    print(f"{document['parameters']:,} parameters, {document['bytes'] / 2**20:,.0f} MiB")
    for way, medians in document["median_seconds"].items():
        for name, seconds in medians.items():
            copies = document["over_copy"][way][name]
            print(f"{way:14}{name:8}{1e3 * seconds:>9.1f} ms{copies:>7.2f} x one copy")


if __name__ == "__main__":
    main()
