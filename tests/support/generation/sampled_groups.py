"""Groups sampled by a real engine, with constant weights or with weight loads in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import torch

from services.inference.engine import SamplingEngine
from services.inference.sample import Sample
from services.weights.buckets import as_text, pack, plan
from services.weights.process_group import WeightGroup, open_rendezvous
from tests.support.generation.tiny import LearnerView
from trainer.roles import Role
from trainer.rollouts.trajectory import PolicyVersion

PROMPT, EOS = list(range(3, 14)), 1


GROUPS, SAMPLES, TOKENS = 48, 8, 48


BASE_TEMPERATURE, HOT = 0.7, 1.7


Load = Callable[[SamplingEngine, PolicyVersion, LearnerView], Awaitable[None]]


@dataclass
class Under:
    """The temperatures of sampling and of the reported log-probabilities."""

    sampling: float
    reported: float


TEMPERATURES = {"base": Under(BASE_TEMPERATURE, BASE_TEMPERATURE), "adaptive": Under(HOT, 1.0)}


async def sample_groups(engine: SamplingEngine, role: Role, groups: int = GROUPS) -> list[list[Sample]]:
    """Sample groups from one prompt; some rollouts end early and some late."""
    temperature = TEMPERATURES[role].sampling
    return await asyncio.gather(
        *(
            engine.sample(PROMPT, n=SAMPLES, temperature=temperature, max_tokens=TOKENS, end_tokens=(EOS,))
            for _ in range(groups)
        )
    )


async def whole(engine: SamplingEngine, version: PolicyVersion, learner: LearnerView) -> None:
    """Load weights the way a generator does from Ray's object store."""
    await engine.load(version, learner.payload, learner.probe())


async def broadcast(engine: SamplingEngine, version: PolicyVersion, learner: LearnerView) -> None:
    """Load weights by broadcast, in a new process group."""
    weights, device = learner.weights, torch.device("cpu")
    buckets = plan(weights, 100_000)
    assert len(buckets) > 1
    store, rendezvous = open_rendezvous("127.0.0.1", 2, "gloo", 30)
    await engine.join_group(rendezvous, 1)
    group = await asyncio.to_thread(WeightGroup, rendezvous, 0, device, store)
    receiving = asyncio.create_task(engine.receive(as_text(buckets)))
    for bucket in buckets:
        await asyncio.to_thread(group.broadcast, pack(bucket, weights, device))
    await receiving
    await engine.load_received(version, learner.probe())


async def sample_across(
    engine: SamplingEngine, role: Role, *loads: tuple[PolicyVersion, LearnerView], load: Load = whole
) -> list[list[Sample]]:
    """Load versions one after another while groups are in flight, each after some rollouts have ended."""
    sampling = asyncio.create_task(sample_groups(engine, role))
    for version, learner in loads:
        await some_have_ended(engine, sampling)
        await load(engine, version, learner)
    return await sampling


async def some_have_ended(engine: SamplingEngine, sampling: asyncio.Task[Any]) -> None:
    """Wait until some rollouts have ended, or all of them if they end between two polls."""
    in_flight, peak = engine._engine.output_processor.request_states, 0
    while not sampling.done() and (not in_flight or len(in_flight) > peak - 12):
        peak = max(peak, len(in_flight))
        await asyncio.sleep(0.005)


def flat(groups: list[list[Sample]]) -> list[Sample]:
    """All rollouts of the groups."""
    return [sample for group in groups for sample in group]
