"""The generator of a strict run: what it makes depends on the weights and the configuration alone, never on time.

It samples the groups of a whole learner step at once, in order, each rollout from a seed of its own, into an engine
that holds nothing else. Where some of them are in the queue already, because a generator died between two of them, it
samples all of them again all the same and adds those that are missing: they are what they would have been.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import ray

from services.generation.generator import IDLE_POLL_SECONDS, Generator
from services.replay.producer import Lease
from trainer.determinism import rollout_seed
from trainer.rollouts.trajectory import PolicyVersion
from trainer.tasks import Problem

if TYPE_CHECKING:
    from services.inference.sample import Sample


class StrictGenerator(Generator):
    """The body of a generator actor with `determinism.strict`."""

    @property
    def _room(self) -> int:
        return 0 if self._in_flight else self._config.rollout.prompts_per_step

    def _begin(self, lease: Lease, version: PolicyVersion) -> None:
        self._launch(self._make_steps(lease, version))

    async def _make_steps(self, lease: Lease, version: PolicyVersion) -> None:
        self._leased |= set(lease.ordinals)
        size = self._config.rollout.prompts_per_step
        try:
            for step, ordinals in groupby(sorted(lease.ordinals), key=lambda ordinal: ordinal // size):
                await self._make_step(step, list(ordinals), lease, version)
        finally:
            self._leased -= set(lease.ordinals)
            self._work.account("sampling")

    async def _make_step(
        self, step: int, ordinals: Sequence[int], lease: Lease, version: PolicyVersion
    ) -> None:
        started, size = time.time(), self._config.rollout.prompts_per_step
        step_groups = range(step * size, (step + 1) * size)
        rollouts, problems = None, [await self._problem(ordinal) for ordinal in step_groups]
        # After a rollback of the learner its actuators arrive before its weights.
        if lease.actuator_step == version.step:
            rollouts = await self._sample_in_order(
                [(f"{self._spec.role}:{o}", p) for o, p in zip(step_groups, problems, strict=True)],
                self._samples,
                self._temperature(lease),
                version,
            )
        if rollouts is None:
            self._leased -= set(ordinals)
            await self._producer.renew(self._spec.role, self._spec.generator_id, ordinals, ttl=0)
            await asyncio.sleep(IDLE_POLL_SECONDS)
            return
        for ordinal in ordinals:
            problem, of = problems[ordinal - step_groups.start], rollouts[ordinal - step_groups.start]
            prompt, verdicts = self._sampler.prompt(problem), await self._scorer.rewards(problem, of)
            await self._offer(ordinal, lease, problem, prompt, of, verdicts, started)
            self._leased.discard(ordinal)

    async def _count_correct(self, problems: Sequence[int], samples: int, temperature: float) -> list[int]:
        version = self._require_engine().version
        size, correct = self._config.generators.groups_in_flight, []
        for start in range(0, len(problems), size):
            part = [(f"heldout:{i}", self._task.heldout_problem(i)) for i in problems[start : start + size]]
            rollouts = await self._sample_in_order(part, samples, temperature, version)
            if rollouts is None:
                raise RuntimeError(f"weights were loaded into {self._spec.generator_id} during an evaluation")
            correct += [
                await self._correct(problem, of) for (_, problem), of in zip(part, rollouts, strict=True)
            ]
        return correct

    async def _sample_in_order(
        self,
        problems: Sequence[tuple[str, Problem]],
        samples: int,
        temperature: float,
        version: PolicyVersion,
    ) -> list[list[Sample]] | None:
        """Rollouts of each problem, which comes with the name that its seeds follow from; None: see the engine's."""
        from services.inference.sample import SeededPrompt

        seed = self._config.seed
        return await self._require_engine().sample_in_order(
            [
                SeededPrompt(
                    self._sampler.prompt(problem), [rollout_seed(seed, name, i) for i in range(samples)]
                )
                for name, problem in problems
            ],
            version=version,
            temperature=temperature,
            max_tokens=self._config.rollout.max_new_tokens,
            eos_token=self._sampler.eos_token,
        )


StrictGeneratorActor = ray.remote(StrictGenerator)
"""As `GeneratorActor`."""
