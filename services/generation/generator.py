"""The generator actor: leases groups from the replay queue, samples and scores their rollouts, and adds them to it.

A generator owns one vLLM engine and has one role. A *base* generator samples at the fixed base temperature; the
policy's entropy is measured on its rollouts. An *adaptive* generator samples at the temperature that the entropy
controller set last. Pacing bounds staleness: a generator leases only groups of learner steps below
(loaded step + 1 + max_staleness), so no group is discarded for being too old.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from services.generation.counters import GeneratorWork
from services.generation.group import sampled_tokens
from services.generation.group_writer import GroupWriter
from services.generation.groups_in_flight import GroupsInFlight
from services.generation.heartbeat import BEAT_SECONDS, GeneratorHeartbeat
from services.generation.loaded_weights import LoadedWeights
from services.generation.sampling import ProblemSampler
from services.generation.scoring import Scorer
from services.generation.spec import GeneratorSpec
from services.host.priority import lower_priority
from services.online_eval.jobs import EvaluationLeases, ResponseCounts
from services.online_eval.worker import EvaluationWorker
from services.replay.actuators import read_mix
from services.replay.producer import Lease, ReplayProducer
from services.weights.probe import Probe
from trainer.prompts.codec import PromptCodec
from trainer.rollouts.rewards import is_uniform
from trainer.rollouts.trajectory import PolicyVersion
from trainer.rollouts.usable_problems import UsableProblems
from trainer.tasks import Problem, Task, make_task

if TYPE_CHECKING:
    import numpy as np

    from services.inference.engine import SamplingEngine
    from services.inference.sample import Sample
    from services.weights.process_group import Rendezvous

IDLE_POLL_SECONDS = 0.5
"""How long a generator without admissible groups waits before it looks for expired leases."""


class Generator:
    """Code of the generator actor. Every method runs on one event loop."""

    def __init__(self, spec: GeneratorSpec) -> None:
        lower_priority()
        self._spec = spec
        self._config = spec.config
        self._task: Task = make_task(spec.config.task)
        codec = PromptCodec.load(Path(spec.model_dir), spec.config)
        self._problems = UsableProblems(self._task, spec.config, codec)
        self._sampler = ProblemSampler(spec.config, self._task, codec)
        self._scorer = Scorer(spec.config, self._task, codec)
        self._redis = spec.redis.asyncio()
        self._producer = ReplayProducer(
            self._redis, spec.run_id, capacity=spec.config.pipeline.queue_capacity
        )
        self._engine: SamplingEngine | None = None
        self._weights = LoadedWeights(spec.version, before_load=self._account, after_load=self._after_load)
        self._work = GeneratorWork()
        self._writer = GroupWriter(spec, self._producer, self._work, self._weights.trusted)
        self._evaluations: EvaluationWorker | None = None
        if spec.config.evaluation.every_steps:
            leases = EvaluationLeases(self._redis, spec.run_id, spec.config.pipeline.lease_seconds)
            self._evaluations = EvaluationWorker(
                leases, spec.config, self._problems, self._sample_heldout_problem
            )
        self._wake = asyncio.Event()
        self._groups = GroupsInFlight(spec.config.generators.groups_in_flight, self._wake.set)
        self._heartbeat = GeneratorHeartbeat(spec, self._work, self._weights)
        self._exhausted = (-1, 0.0)
        """(pacing limit, learner steps, under which groups ran out; monotonic time before which not to lease again)"""
        self._stopping = False
        self._evaluating = False

    async def start(self) -> int:
        """Start the engine; returns this process's id."""
        from services.inference.engine import SamplingEngine

        engine = await SamplingEngine.start(
            Path(self._spec.model_dir),
            self._config.generators,
            role=self._spec.role,
            max_length=self._config.model.max_length,
            seed=self._config.seed + 7919 * (self._spec.index + 1) + (self._spec.role == "adaptive"),
            version=self._spec.version or PolicyVersion(-1, 0),
            strict=self._config.determinism.strict,
        )
        return await self._begin_with(engine)

    async def load(self, version: PolicyVersion, payload: np.ndarray, probe: Probe) -> float:
        """Load serialized weights, uint8[N]; returns the seconds it took. Skips a version older than the loaded one.

        Raises WeightLoadError when the engine does not run `version` afterwards. `run` then raises it too, and nothing
        sampled since enters the queue.
        """
        return await self._weights.load(version, payload, probe)

    async def join_weights(self, rendezvous: Rendezvous, first_rank: int) -> None:
        """Join the group that weights are broadcast in. first_rank: rank of the engine's first worker."""
        await self._weights.join_broadcasts(rendezvous, first_rank)

    async def receive(self, version: PolicyVersion, buckets: str, probe: Probe) -> float:
        """Receive the next broadcast and load it, as `load` does.

        Raises TransferError when it did not arrive; the generator then keeps the version it runs.
        """
        return await self._weights.receive(version, buckets, probe)

    async def run(self) -> None:
        """Produce groups until `stop`. Raises when Redis or the engine fails."""
        beats = asyncio.create_task(self._beats())
        try:
            while not self._stopping:
                self._wake.clear()
                self._raise_failures()
                if not await self._lease_some():
                    await self._evaluate_some()
                    await self._pause()
        finally:
            beats.cancel()
            await asyncio.gather(beats, self._groups.wait(), return_exceptions=True)
            await self._writer.end()
            if self._evaluations is not None:
                await self._evaluations.end()
            await self._beat()

    async def stop(self) -> None:
        """Let `run` end: lease nothing more and cancel the groups in flight, whose leases expire."""
        self._stopping = True
        self._cancel_in_flight()
        self._wake.set()

    async def evaluate(
        self, problems: Sequence[int], samples: int, temperature: float
    ) -> list[ResponseCounts]:
        """Sample `samples` responses to each held-out problem, given by index, and count the correct ones."""
        self._account()
        self._evaluating = True
        try:
            return await self._count_correct(problems, samples, temperature)
        finally:
            self._work.account("evaluating")
            self._evaluating = False

    async def _begin_with(self, engine: SamplingEngine) -> int:
        self._engine = engine
        self._weights.attach(engine)
        await self._beat()
        return os.getpid()

    async def _evaluate_some(self) -> None:
        """Lease held-out problems of an open evaluation, since there is no group to lease."""
        version = self._weights.version
        if self._evaluations is None or version is None or self._weights.loading or self._stopping:
            return
        self._account()
        await self._evaluations.lease(version.step)

    async def _sample_heldout_problem(
        self, problem: Problem, samples: int, temperature: float
    ) -> tuple[ResponseCounts, list[Sample]]:
        """Return the counts of the responses, and the responses, once the weights that sampled them are trusted."""
        rollouts = await self._sample(problem, self._sampler.prompt(problem), samples, temperature)
        counts = await self._count(problem, rollouts)
        await self._weights.trusted()
        return counts, rollouts

    def _cancel_in_flight(self) -> None:
        self._groups.cancel()
        if self._evaluations is not None:
            self._evaluations.cancel()

    def _after_load(self) -> None:
        self._work.account("loading")
        if self._weights.failure is not None:
            self._cancel_in_flight()
        self._wake.set()

    def _account(self) -> None:
        """Attribute the time since the last change to the current state; called before the state changes."""
        self._work.account(self._state)

    async def _count_correct(
        self, problems: Sequence[int], samples: int, temperature: float
    ) -> list[ResponseCounts]:
        gate = asyncio.Semaphore(self._config.generators.groups_in_flight)

        async def one(index: int) -> ResponseCounts:
            async with gate:
                problem = self._problems.heldout(index)
                rollouts = await self._sample(problem, self._sampler.prompt(problem), samples, temperature)
                return await self._count(problem, rollouts)

        return list(await asyncio.gather(*(one(index) for index in problems)))

    @property
    def _state(self) -> str:
        if self._stopping:
            return "stopped"
        if self._engine is None:
            return "starting"
        if self._weights.loading:
            return "loading"
        if self._evaluating:
            return "evaluating"
        if len(self._groups):
            return "sampling"
        return "evaluating" if self._evaluations is not None and self._evaluations.busy else "waiting"

    def _require_engine(self) -> SamplingEngine:
        if self._engine is None:
            raise RuntimeError(f"{self._spec.generator_id} has no engine yet; call start first")
        return self._engine

    def _raise_failures(self) -> None:
        if self._weights.failure is not None:
            raise self._weights.failure
        self._groups.raise_failures()
        if self._evaluations is not None:
            self._evaluations.raise_failures()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(IDLE_POLL_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _lease_some(self) -> bool:
        """Lease as many groups as fit in flight and start them; False when there were none."""
        count, version = self._free_slots, self._weights.version
        if version is None or self._weights.loading or count <= 0:
            return False
        steps = min(version.step + 1 + self._config.pipeline.max_staleness, self._config.steps)
        exhausted_steps, until = self._exhausted
        if steps == exhausted_steps and time.monotonic() < until:
            return False
        lease = await self._producer.lease(
            self._spec.role,
            self._spec.generator_id,
            limit=steps * self._config.rollout.prompts_per_step,
            count=count,
            ttl=self._config.pipeline.lease_seconds,
        )
        if self._stopping or self._weights.failure is not None:
            return False
        if len(lease.ordinals) < count:
            self._exhausted = (steps, time.monotonic() + IDLE_POLL_SECONDS)
        self._account()
        if lease.ordinals:
            self._start_groups(lease, version)
        return bool(lease.ordinals)

    @property
    def _free_slots(self) -> int:
        """Number of groups that may be leased."""
        return self._groups.free_slots

    def _start_groups(self, lease: Lease, version: PolicyVersion) -> None:
        """Start the leased groups. version: the policy version that was loaded when the lease was requested."""
        for ordinal in lease.ordinals:
            self._groups.sampling.add(ordinal)
            self._groups.start(self._make_group(ordinal, lease))

    async def _make_group(self, ordinal: int, lease: Lease) -> None:
        self._groups.leased.add(ordinal)
        started = time.time()
        try:
            for attempt in range(self._config.rollout.refills + 1):
                self._groups.sampling.add(ordinal)
                problem = await self._problem(ordinal, attempt)
                prompt = self._sampler.prompt(problem)
                temperature = self._spec.temperature(lease)
                rollouts = await self._sample(problem, prompt, self._spec.samples, temperature)
                self._groups.sampling.discard(ordinal)
                self._wake.set()
                verdicts = await self._scorer.rewards(problem, rollouts)
                last = attempt == self._config.rollout.refills or self._spec.role != "base"
                if last or not is_uniform(
                    [verdict.reward for verdict in verdicts if verdict.unscored is None]
                ):
                    break
                self._work.refills += 1
                self._work.tokens += sampled_tokens(rollouts)
            await self._writer.add(ordinal, lease, problem, prompt, rollouts, verdicts, started)
        finally:
            self._groups.sampling.discard(ordinal)
            self._groups.leased.discard(ordinal)
            self._work.account("sampling")

    async def _problem(self, ordinal: int, attempt: int = 0) -> Problem:
        """Return the problem of group `ordinal`; each attempt after the first (0) has another one."""
        mix = None
        if self._config.task.curriculum.kind != "fixed":
            step = ordinal // self._config.rollout.prompts_per_step
            mix = await read_mix(self._redis, self._spec.run_id, step)
        problem = self._problems.train(ordinal, attempt, mix)
        self._work.left_out_problems = self._problems.left_out
        return problem

    async def _sample(
        self, problem: Problem, prompt: Sequence[int], samples: int, temperature: float
    ) -> list[Sample]:
        engine = self._require_engine()
        return await self._sampler.sample(engine, problem, prompt, samples=samples, temperature=temperature)

    async def _count(self, problem: Problem, rollouts: Sequence[Sample]) -> ResponseCounts:
        """Count the correct responses, and those without a score."""
        verdicts = await self._scorer.verdicts(problem, rollouts)
        return ResponseCounts(
            correct=sum(verdict.correct for verdict in verdicts),
            unscored=sum(verdict.unscored is not None for verdict in verdicts),
        )

    async def _beats(self) -> None:
        while True:
            await self._beat()
            if self._groups.leased:
                await self._producer.renew(
                    self._spec.role,
                    self._spec.generator_id,
                    sorted(self._groups.leased),
                    ttl=self._config.pipeline.lease_seconds,
                )
            if self._evaluations is not None:
                await self._evaluations.renew()
            await asyncio.sleep(BEAT_SECONDS)

    async def _beat(self) -> None:
        self._account()
        await self._heartbeat.beat(self._state, len(self._groups))


GeneratorActor = ray.remote(Generator)
"""The Ray actor class. Only its own process imports vLLM, so that the driver starts fast."""
