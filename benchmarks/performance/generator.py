"""Tokens/s of a generator, with queue and rewards, against the bare engine and against vLLM in a single process.

    .venv/bin/python benchmarks/performance/generator.py

`bare` is the generator's own AsyncLLM with the same prompts, sampling parameters and number of groups in flight; the
responses are discarded. `generator` is everything: leases, sampling, decoding, verification, encoding, and the queue in
a real Redis. The two alternate in one process. Each round of the generator is divided by the mean of the bare rounds
before and after it; the median of these ratios counts. `in process` is vLLM's LLM class without a separate process for
its core, given all prompts of a round at once; it is measured before the others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path[:0] = [str(Path(__file__).parents[2])]

from redis import Redis  # noqa: E402

from benchmarks.performance.shared import REPOSITORY, keep  # noqa: E402
from services.inference.environment import engine_environment  # noqa: E402
from services.redis.access import RedisAccess  # noqa: E402
from services.redis.embedded import EmbeddedRedis  # noqa: E402
from services.replay.actuators import ActuatorPublisher  # noqa: E402
from services.replay.consumer import ReplayConsumer  # noqa: E402
from services.run.control import request_action  # noqa: E402
from trainer.config import RedisConfig, RunConfig  # noqa: E402
from trainer.config.load import load_config  # noqa: E402
from trainer.prompts.codec import PromptCodec  # noqa: E402
from trainer.rollouts.problem_order import problem_at  # noqa: E402
from trainer.starting_model.warm_start import ensure_warm_start  # noqa: E402
from trainer.tasks import make_task  # noqa: E402

if TYPE_CHECKING:
    from services.inference.engine import SamplingEngine

CONFIG = REPOSITORY / "deploy" / "configs" / "countdown-cpu.yaml"
RUN = "benchmark"
ENDLESS = ["rollout.prompts_per_step=4096", "pipeline.queue_capacity=16384", "checkpoint.every_steps=1"]
"""settings with which pacing does not hold the generator back"""


def main() -> None:
    """Measure, print the table, write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=6.0, help="seconds per round")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--in-process", type=Path, metavar="MODEL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    config = load_config(CONFIG, [*ENDLESS, *options.overrides])
    os.environ |= engine_environment(config)
    if options.in_process:
        print(json.dumps(in_process(options.in_process, config, options)))
        return
    cache = Path(config.warm_start.cache_dir).expanduser()
    model_dir = ensure_warm_start(config, cache, lambda _: None).path
    alone = run_in_process(model_dir, options)
    with tempfile.TemporaryDirectory(prefix="scope-generator-") as folder:
        state = Path(folder)
        with EmbeddedRedis(RedisConfig(), data_dir=state / "data", state_dir=state / "state") as server:
            rounds = asyncio.run(measure(server.access, model_dir, config, options))
    document = summary(rounds, alone, config)
    table(document)
    keep("performance-generator", document)


async def measure(
    access: RedisAccess, model_dir: Path, config: RunConfig, options: argparse.Namespace
) -> list[dict[str, float]]:
    """Tokens/s of `bare` and `generator` in every round, after one round of warm-up."""
    from services.generation.generator import Generator
    from services.generation.spec import GeneratorSpec
    from trainer.rollouts.trajectory import PolicyVersion

    redis = access.sync()
    consumer = ReplayConsumer(redis, RUN, max_deliveries=3)
    ActuatorPublisher(redis, RUN, consumer.open()).set_actuators(1.0, 0.0, 0, 1)
    request_action(redis, RUN, "pause", "benchmark")
    generator = Generator(GeneratorSpec(RUN, "base", 0, config, str(model_dir), access, PolicyVersion(0, 0)))
    await generator.start()
    running = asyncio.create_task(generator.run())
    rounds: list[dict[str, float]] = []
    await generator_speed(generator, redis, options.seconds)
    before = await bare_speed(generator, config, options.seconds)
    for _ in range(options.rounds):
        speed = await generator_speed(generator, redis, options.seconds)
        after = await bare_speed(generator, config, options.seconds)
        rounds.append({"bare": (before + after) / 2, "generator": speed})
        before = after
    await generator.stop()
    await running
    redis.close()
    return rounds


async def generator_speed(generator: Any, redis: Redis, seconds: float) -> float:
    """Tokens/s of complete groups that reached the queue, without the time in which the engine fills and drains."""
    request_action(redis, RUN, "resume", "benchmark")
    before = generator._work.groups
    while generator._work.groups == before:
        await asyncio.sleep(0.01)
    tokens, started = generator._work.tokens, time.perf_counter()
    await asyncio.sleep(seconds)
    speed = (generator._work.tokens - tokens) / (time.perf_counter() - started)
    request_action(redis, RUN, "pause", "benchmark")
    while len(generator._groups):
        await asyncio.sleep(0.05)
        generator._raise_failures()
    return speed


async def bare_speed(generator: Any, config: RunConfig, seconds: float) -> float:
    """Tokens/s of complete groups from the generator's engine when it only samples."""
    return await engine_speed(generator._engine, config, generator._sampler._codec.tokenizer, seconds)


async def engine_speed(owner: SamplingEngine, config: RunConfig, tokenizer: Any, seconds: float) -> float:
    """Tokens/s of complete groups, with as many groups in flight as a generator has."""
    engine, parameters = owner._engine, sampling(config, tokenizer.eos_token_id)
    codec = PromptCodec(tokenizer, config)
    task, tokens, first_at, stop = make_task(config.task), 0, 0.0, False

    async def ask_on(lane: int) -> None:
        nonlocal tokens, first_at
        number = lane
        while not stop:
            prompt = codec.encode(problem_at(task, config, number, 0, None))
            last: Any = None
            name = f"bare-{time.monotonic_ns()}-{number}"
            async for output in engine.generate({"prompt_token_ids": prompt}, parameters, name):
                last = output
            number += config.generators.groups_in_flight
            if not first_at:
                first_at = time.perf_counter()
            else:
                tokens += sum(len(output.token_ids) for output in last.outputs)

    lanes = [asyncio.create_task(ask_on(lane)) for lane in range(config.generators.groups_in_flight)]
    while not first_at:
        await asyncio.sleep(0.01)
    await asyncio.sleep(seconds)
    speed = tokens / (time.perf_counter() - first_at)
    stop = True
    await asyncio.gather(*lanes)
    return speed


def sampling(config: RunConfig, eos_token: int) -> Any:
    """The sampling parameters that `services/inference/engine.py` uses."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        n=config.rollout.base_samples,
        temperature=config.rollout.base_temperature,
        max_tokens=config.rollout.max_new_tokens,
        logprobs=0,
        flat_logprobs=True,
        detokenize=False,
        ignore_eos=True,
        stop_token_ids=[eos_token],
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def run_in_process(model_dir: Path, options: argparse.Namespace) -> list[float]:
    """Run `in_process` in a separate Python process."""
    overrides = [part for setting in options.overrides for part in ("--set", setting)]
    command = [sys.executable, __file__, *overrides, "--rounds", str(options.rounds)]
    command += ["--in-process", str(model_dir)]
    environment = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def in_process(model_dir: Path, config: RunConfig, options: argparse.Namespace) -> list[float]:
    """Tokens/s of vLLM's LLM class in each round of 128 prompts."""
    from transformers import AutoTokenizer
    from vllm import LLM

    tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)
    llm = LLM(
        model=str(model_dir),
        dtype=config.generators.dtype,
        max_model_len=config.model.max_length,
        max_num_seqs=config.generators.max_sequences,
        enforce_eager=config.generators.enforce_eager,
        logprobs_mode="processed_logprobs",
        generation_config="vllm",
        seed=1,
    )
    task, parameters = make_task(config.task), sampling(config, tokenizer.eos_token_id)
    speeds = []
    for done in range(options.rounds + 1):
        numbers = range(128 * done, 128 * (done + 1))
        prompts: Any = [
            {"prompt_token_ids": tokenizer.encode(problem_at(task, config, i, 0, None).prompt)}
            for i in numbers
        ]
        started = time.perf_counter()
        outputs = llm.generate(prompts, parameters, use_tqdm=False)
        tokens = sum(len(o.token_ids) for output in outputs for o in output.outputs)
        speeds.append(tokens / (time.perf_counter() - started))
    return speeds[1:]


def summary(rounds: list[dict[str, float]], alone: list[float], config: RunConfig) -> dict[str, Any]:
    """Medians over the rounds."""
    ratios = [found["generator"] / found["bare"] for found in rounds]
    medians = {way: statistics.median(found[way] for found in rounds) for way in ("bare", "generator")}
    medians["in process"] = statistics.median(alone)
    return {
        "groups_in_flight": config.generators.groups_in_flight,
        "samples_a_group": config.rollout.base_samples,
        "threads": config.generators.threads,
        "tokens_per_second": {"rounds": rounds, "in_process": alone, "median": medians},
        "generator_over_bare": {
            "median": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
        },
        "bare_over_in_process": medians["bare"] / medians["in process"],
    }


def table(document: dict[str, Any]) -> None:
    """Print the speeds and the ratios."""
    for way, speed in document["tokens_per_second"]["median"].items():
        print(f"{way:12}{speed:>10,.0f} tokens/s")
    ratio = document["generator_over_bare"]
    print(f"generator / bare       {ratio['median']:.3f} [{ratio['lowest']:.3f}, {ratio['highest']:.3f}]")
    print(f"bare / in process      {document['bare_over_in_process']:.3f}")


if __name__ == "__main__":
    main()
