"""Generators: the second box of the picture. Lease work, sample, verify, write groups to the replay queue.

A generator owns one vLLM engine and has one role. *base* samples at the fixed base temperature and is what the
policy's entropy is measured on; *adaptive* samples at the temperature that the entropy controller decided last.
Pacing holds the staleness bound: a generator leases only groups whose learner step is at most
(loaded version + max_staleness), so nothing is discarded for being old.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from services.generation.counters import GeneratorWork
from services.generation.group import as_group, sampled_tokens
from services.generation.sampling import ProblemSampler
from services.generation.scoring import Scorer
from services.generation.spec import GeneratorSpec
from services.host.priority import yield_to_others
from services.online_eval.jobs import HeldOutWork
from services.online_eval.worker import HeldOutSampler
from services.records.ledger import Ledger, Offered
from services.replay.actuators import read_mix
from services.replay.outbox import Outbox
from services.replay.producer import Finished, Lease, ReplayProducer
from services.run.heartbeats import beat
from services.weights.probe import Probe
from trainer.rollouts.problem_order import problem_at
from trainer.rollouts.rewards import is_uniform
from trainer.rollouts.trajectory import PolicyVersion, encode_group
from trainer.tasks import Problem, Task, Verdict, make_task

if TYPE_CHECKING:
    import numpy as np

    from services.inference.engine import SamplingEngine
    from services.inference.sample import Sample
    from services.weights.process_group import Meeting

IDLE_POLL_SECONDS = 0.5
"""How long a generator without admissible work sleeps before it looks for expired leases."""
BEAT_SECONDS = 1.0


class Generator:
    """The body of a generator actor; every method runs on one event loop."""

    def __init__(self, spec: GeneratorSpec) -> None:
        yield_to_others()
        from transformers import AutoTokenizer

        self._spec = spec
        self._config = spec.config
        self._task: Task = make_task(spec.config.task)
        tokenizer = AutoTokenizer.from_pretrained(spec.model_dir)
        self._sampler = ProblemSampler(spec.config, self._task, tokenizer)
        self._scorer = Scorer(spec.config, self._task, tokenizer)
        self._redis = spec.redis.asyncio()
        self._beat_redis = spec.redis.sync()
        self._producer = ReplayProducer(
            self._redis, spec.run_id, capacity=spec.config.pipeline.queue_capacity
        )
        self._outbox = Outbox(self._producer, spec.role, spec.generator_id)
        self._ledger = (
            None if spec.ledger is None else Ledger(Path(spec.ledger) / f"{spec.generator_id}.jsonl")
        )
        self._engine: SamplingEngine | None = None
        every = spec.config.evaluation.every_steps
        work = HeldOutWork(self._redis, spec.run_id, spec.config.pipeline.lease_seconds)
        self._held_out = (
            None if not every else HeldOutSampler(work, spec.config, self._task, self._held_out_one)
        )
        self._loaded = spec.version
        self._loads = 0
        self._in_flight: set[asyncio.Task[None]] = set()
        self._leased: set[int] = set()
        self._sampling: set[int] = set()
        """leased ordinals that the engine works on, or soon will; again while a group is refilled"""
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self._trusted = asyncio.Event()
        """set unless weights are being loaded or could not be"""
        self._trusted.set()
        self._failure: Exception | None = None
        self._exhausted = (-1, 0.0)
        self._stopping = False
        self._loading = False
        self._evaluating = False
        self._work = GeneratorWork()

    async def start(self) -> int:
        """Start the engine; returns this process's id."""
        from services.inference.engine import SamplingEngine

        self._engine = await SamplingEngine.start(
            Path(self._spec.model_dir),
            self._config.generators,
            role=self._spec.role,
            max_length=self._config.model.max_length,
            seed=self._config.seed + 7919 * (self._spec.index + 1) + (self._spec.role == "adaptive"),
            version=self._spec.version or PolicyVersion(-1, 0),
            strict=self._config.determinism.strict,
        )
        self._ready.set()
        await self._beat()
        return os.getpid()

    async def load(self, version: PolicyVersion, blob: np.ndarray, probe: Probe) -> float:
        """Run `version` from now on; returns the seconds it took. Older versions than the loaded one are skipped.

        Raises WeightLoadError when the engine turns out not to run it. The generator is then of no use any more: `run`
        raises it too, and nothing sampled since enters the queue.
        """
        await self._ready.wait()
        return await self._take_up(version, probe, lambda: self._require_engine().load(version, blob, probe))

    async def join_weights(self, meeting: Meeting, first_rank: int) -> None:
        """Become a member of the group that weights are broadcast in."""
        await self._ready.wait()
        await self._require_engine().join_group(meeting, first_rank)

    async def receive(self, version: PolicyVersion, buckets: str, probe: Probe) -> float:
        """As `load`, by the broadcast that begins now. Raises TransferError when it failed, and goes on as before."""
        await self._ready.wait()
        await self._require_engine().receive(buckets)
        return await self._take_up(
            version, probe, lambda: self._require_engine().load_received(version, probe)
        )

    async def _take_up(
        self, version: PolicyVersion, probe: Probe, load: Callable[[], Awaitable[None]]
    ) -> float:
        started = time.monotonic()
        if self._loaded is not None and version < self._loaded:
            return 0.0
        self._work.account(self._state)
        self._loading = True
        try:
            self._trusted.clear()
            if version == self._loaded:
                await self._require_engine().verify(probe)
            else:
                await load()
                self._loads += 1
            self._loaded = version
            self._trusted.set()
        except Exception as error:
            self._failure = error
            self._give_up()
            raise
        finally:
            self._work.account("loading")
            self._loading = False
            self._wake.set()
        return time.monotonic() - started

    async def run(self) -> None:
        """Produce groups until `stop`. Raises when Redis or the engine cannot be used any more."""
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
            await asyncio.gather(beats, *self._in_flight, return_exceptions=True)
            await self._outbox.end()
            if self._held_out is not None:
                await self._held_out.end()
            await self._beat()

    async def stop(self) -> None:
        """Let `run` end: nothing new is leased; groups in flight are given up, their leases expire."""
        self._stopping = True
        self._give_up()
        self._wake.set()

    async def shutdown(self) -> None:
        """Stop the engine."""
        if self._engine is not None:
            self._engine.shutdown()
        await self._redis.aclose()
        self._beat_redis.close()

    async def evaluate(self, problems: Sequence[int], samples: int, temperature: float) -> list[int]:
        """Correct answers out of `samples` for each held-out problem index."""
        self._work.account(self._state)
        self._evaluating = True
        try:
            return await self._count_correct(problems, samples, temperature)
        finally:
            self._work.account("evaluating")
            self._evaluating = False

    async def _evaluate_some(self) -> None:
        """Take held-out problems of an open evaluation where no group waits and nothing stands in the way."""
        if self._held_out is None or self._loaded is None or self._loading or self._stopping:
            return
        self._work.account(self._state)
        await self._held_out.take(self._loaded.step)

    async def _held_out_one(
        self, problem: Problem, samples: int, temperature: float
    ) -> tuple[int, list[Sample]]:
        """Correct responses to a held-out problem, and the responses, once it is sure what sampled them."""
        rollouts = await self._sample(problem, self._sampler.prompt(problem), samples, temperature)
        correct = await self._correct(problem, rollouts)
        await self._trusted.wait()
        return correct, rollouts

    def _give_up(self) -> None:
        for task in self._in_flight:
            task.cancel()
        if self._held_out is not None:
            self._held_out.cancel()

    async def _count_correct(self, problems: Sequence[int], samples: int, temperature: float) -> list[int]:
        gate = asyncio.Semaphore(self._config.generators.groups_in_flight)

        async def one(index: int) -> int:
            async with gate:
                problem = self._task.heldout_problem(index)
                rollouts = await self._sample(problem, self._sampler.prompt(problem), samples, temperature)
                return await self._correct(problem, rollouts)

        return list(await asyncio.gather(*(one(index) for index in problems)))

    @property
    def _state(self) -> str:
        if self._stopping:
            return "stopped"
        if self._engine is None:
            return "starting"
        if self._loading:
            return "loading"
        if self._evaluating:
            return "evaluating"
        if self._in_flight:
            return "sampling"
        return "evaluating" if self._held_out is not None and self._held_out.busy else "waiting"

    def _require_engine(self) -> SamplingEngine:
        if self._engine is None:
            raise RuntimeError(f"{self._spec.generator_id} has no engine yet; call start first")
        return self._engine

    def _raise_failures(self) -> None:
        if self._failure is not None:
            raise self._failure
        for task in [t for t in self._in_flight if t.done()]:
            self._in_flight.discard(task)
            task.result()
        if self._held_out is not None:
            self._held_out.raise_failures()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(IDLE_POLL_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _lease_some(self) -> bool:
        """Lease as much as fits and start on it; False when there was nothing to do."""
        room, version = self._room, self._loaded
        if version is None or self._loading or room <= 0:
            return False
        steps = min(version.step + 1 + self._config.pipeline.max_staleness, self._config.steps)
        exhausted_steps, until = self._exhausted
        if steps == exhausted_steps and time.monotonic() < until:
            return False
        lease = await self._producer.lease(
            self._spec.role,
            self._spec.generator_id,
            limit=steps * self._config.rollout.prompts_per_step,
            count=room,
            ttl=self._config.pipeline.lease_seconds,
        )
        if self._stopping or self._failure is not None:
            return False
        if len(lease.ordinals) < room:
            self._exhausted = (steps, time.monotonic() + IDLE_POLL_SECONDS)
        self._work.account(self._state)
        if lease.ordinals:
            self._begin(lease, version)
        return bool(lease.ordinals)

    @property
    def _room(self) -> int:
        """Groups that may be leased now: those that are verified or wait for the queue count only beyond a bound."""
        most = self._config.generators.groups_in_flight
        return min(most - len(self._sampling), 2 * most - len(self._in_flight))

    def _begin(self, lease: Lease, version: PolicyVersion) -> None:
        """Start on what was leased. version: the one loaded when it was asked for."""
        for ordinal in lease.ordinals:
            self._sampling.add(ordinal)
            self._launch(self._make_group(ordinal, lease))

    def _launch(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._in_flight.add(task)
        task.add_done_callback(lambda _: self._wake.set())

    async def _make_group(self, ordinal: int, lease: Lease) -> None:
        self._leased.add(ordinal)
        started = time.time()
        try:
            for attempt in range(self._config.rollout.refills + 1):
                self._sampling.add(ordinal)
                problem = await self._problem(ordinal, attempt)
                prompt = self._sampler.prompt(problem)
                rollouts = await self._sample(problem, prompt, self._samples, self._temperature(lease))
                self._sampling.discard(ordinal)
                self._wake.set()
                verdicts = await self._scorer.rewards(problem, rollouts)
                last = attempt == self._config.rollout.refills or self._spec.role != "base"
                if last or not is_uniform([verdict.reward for verdict in verdicts]):
                    break
                self._work.refills += 1
                self._work.tokens += sampled_tokens(rollouts)
            await self._offer(ordinal, lease, problem, prompt, rollouts, verdicts, started)
        finally:
            self._sampling.discard(ordinal)
            self._leased.discard(ordinal)
            self._work.account("sampling")

    @property
    def _samples(self) -> int:
        """Rollouts of a group."""
        rollout = self._config.rollout
        return rollout.base_samples if self._spec.role == "base" else rollout.adaptive_samples

    def _temperature(self, lease: Lease) -> float:
        """What the role samples at."""
        return self._config.rollout.base_temperature if self._spec.role == "base" else lease.temperature

    async def _problem(self, ordinal: int, attempt: int = 0) -> Problem:
        """What `ordinal` is about, in the `attempt`-th try at its group."""
        mix = None
        if self._config.task.curriculum.kind != "fixed":
            step = ordinal // self._config.rollout.prompts_per_step
            mix = await read_mix(self._redis, self._spec.run_id, step)
        return problem_at(self._task, self._config, ordinal, attempt, mix)

    async def _offer(
        self,
        ordinal: int,
        lease: Lease,
        problem: Problem,
        prompt: Sequence[int],
        rollouts: Sequence[Sample],
        verdicts: Sequence[Verdict],
        started: float,
    ) -> None:
        """Add a group to the queue. started: seconds since the epoch."""
        group = as_group(
            self._spec,
            problem,
            prompt,
            rollouts,
            verdicts,
            ordinal=ordinal,
            temperature=self._temperature(lease),
            entropy_target_generation=lease.entropy_target_generation,
            sequence=self._work.groups,
            started_at=started,
        )
        data = encode_group(group, size_cap=self._config.pipeline.entry_bytes)
        await self._trusted.wait()
        self._note(Offered(group.group_id, "offered"))
        outcome = await self._outbox.put(Finished(ordinal, group.attempt, data))
        self._note(Offered(group.group_id, "duplicate" if outcome == "duplicate" else "added"))
        self._work.groups += 1
        self._work.duplicates += outcome == "duplicate"
        self._work.tokens += sampled_tokens(rollouts)
        self._work.spanning_rollouts += sum(len(sample.versions) > 1 for sample in rollouts)

    def _note(self, event: Offered) -> None:
        if self._ledger is not None:
            self._ledger.append(event)

    async def _sample(
        self, problem: Problem, prompt: Sequence[int], samples: int, temperature: float
    ) -> list[Sample]:
        engine = self._require_engine()
        return await self._sampler.sample(engine, problem, prompt, samples=samples, temperature=temperature)

    async def _correct(self, problem: Problem, rollouts: Sequence[Sample]) -> int:
        """Fully rewarded ones."""
        return sum(verdict.reward >= 1 for verdict in await self._scorer.verdicts(problem, rollouts))

    async def _beats(self) -> None:
        while True:
            await self._beat()
            if self._leased:
                await self._producer.renew(
                    self._spec.role,
                    self._spec.generator_id,
                    sorted(self._leased),
                    ttl=self._config.pipeline.lease_seconds,
                )
            if self._held_out is not None:
                await self._held_out.renew()
            await asyncio.sleep(BEAT_SECONDS)

    async def _beat(self) -> None:
        self._work.account(self._state)
        version = self._loaded or PolicyVersion(-1, 0)
        document = {
            "role": self._spec.role,
            "state": self._state,
            "process_id": os.getpid(),
            "lineage": version.lineage,
            "step": version.step,
            "loads": self._loads,
            "in_flight": len(self._in_flight),
            "restarts": self._spec.restarts,
            **self._work.counters(),
        }
        await asyncio.to_thread(beat, self._beat_redis, self._spec.run_id, self._spec.generator_id, document)


GeneratorActor = ray.remote(Generator)
"""The Ray actor. vLLM is imported in its process only: the driver, which defines it, stays light."""
