"""The generator of a strict run: its groups depend on the weights and the configuration alone, never on timing.

It samples all groups of a learner step at once and in order, each rollout from its own seed, in an engine that samples
nothing else. If a generator died after adding some of them, the next one samples all of them again and adds those that
are missing: they are bit for bit what the first one would have added.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import ray

from services.generation.generator import IDLE_POLL_SECONDS, Generator
from services.online_eval.jobs import ResponseCounts
from services.replay.producer import Lease
from trainer.determinism import rollout_seed
from trainer.rollouts.trajectory import PolicyVersion
from trainer.tasks import Problem

if TYPE_CHECKING:
    from services.inference.sample import Sample


class StrictGenerator(Generator):
    """Code of the generator actor with `determinism.strict`."""

    @property
    def _free_slots(self) -> int:
        return 0 if len(self._groups) else self._config.rollout.prompts_per_step

    def _start_groups(self, lease: Lease, version: PolicyVersion) -> None:
        self._groups.start(self._make_steps(lease, version))

    async def _make_steps(self, lease: Lease, version: PolicyVersion) -> None:
        self._groups.leased |= set(lease.ordinals)
        size = self._config.rollout.prompts_per_step
        try:
            for step, ordinals in groupby(sorted(lease.ordinals), key=lambda ordinal: ordinal // size):
                await self._make_step(step, list(ordinals), lease, version)
        finally:
            self._groups.leased -= set(lease.ordinals)
            self._work.account("sampling")

    async def _make_step(
        self, step: int, ordinals: Sequence[int], lease: Lease, version: PolicyVersion
    ) -> None:
        started, size = time.time(), self._config.rollout.prompts_per_step
        step_groups = range(step * size, (step + 1) * size)
        rollouts, problems = None, [await self._problem(ordinal) for ordinal in step_groups]
        # After the learner rolls back, its actuators arrive before its weights.
        if lease.actuator_step == version.step:
            rollouts = await self._sample_in_order(
                [(f"{self._spec.role}:{o}", p) for o, p in zip(step_groups, problems, strict=True)],
                self._spec.samples,
                self._spec.temperature(lease),
                version,
            )
        if rollouts is None:
            self._groups.leased -= set(ordinals)
            await self._producer.renew(self._spec.role, self._spec.generator_id, ordinals, ttl=0)
            await asyncio.sleep(IDLE_POLL_SECONDS)
            return
        for ordinal in ordinals:
            index = ordinal - step_groups.start
            problem, group = problems[index], rollouts[index]
            prompt, verdicts = self._sampler.prompt(problem), await self._scorer.rewards(problem, group)
            await self._writer.add(ordinal, lease, problem, prompt, group, verdicts, started)
            self._groups.leased.discard(ordinal)

    async def _count_correct(
        self, problems: Sequence[int], samples: int, temperature: float
    ) -> list[ResponseCounts]:
        version = self._require_engine().version
        size, counts = self._config.generators.groups_in_flight, []
        for start in range(0, len(problems), size):
            part = [(f"heldout:{i}", self._problems.heldout(i)) for i in problems[start : start + size]]
            rollouts = await self._sample_in_order(part, samples, temperature, version)
            if rollouts is None:
                raise RuntimeError(f"weights were loaded into {self._spec.generator_id} during an evaluation")
            counts += [
                await self._count(problem, group) for (_, problem), group in zip(part, rollouts, strict=True)
            ]
        return counts

    async def _sample_in_order(
        self,
        problems: Sequence[tuple[str, Problem]],
        samples: int,
        temperature: float,
        version: PolicyVersion,
    ) -> list[list[Sample]] | None:
        """Sample each problem, given with the name that its seeds are derived from.

        Returns None when the engine no longer runs `version`.
        """
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
            end_tokens=self._sampler.end_tokens,
        )


StrictGeneratorActor = ray.remote(StrictGenerator)
"""The Ray actor class of a strict run."""
