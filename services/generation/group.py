"""Builds the group that the queue carries from an engine's samples and the verifier's verdicts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from services.generation.spec import GeneratorSpec
from trainer.rollouts.trajectory import Group, Trajectory
from trainer.tasks import Problem, Verdict

if TYPE_CHECKING:
    from services.inference.sample import Sample


def build_group(
    spec: GeneratorSpec,
    problem: Problem,
    prompt: Sequence[int],
    rollouts: Sequence[Sample],
    verdicts: Sequence[Verdict],
    *,
    ordinal: int,
    temperature: float,
    entropy_target_generation: int,
    sequence: int,
    started_at: float,
) -> Group:
    """Build the group of one prompt, as the queue carries it.

    prompt: token ids. temperature: the sampling temperature. sequence: groups that this generator added before.
    started_at: when sampling began, seconds since the epoch.
    """
    logprob_temperature = temperature if spec.role == "base" else 1.0
    return Group(
        run_id=spec.run_id,
        task=spec.config.task.name,
        problem_id=problem.id,
        role=spec.role,
        ordinal=ordinal,
        sampling_temperature=temperature,
        entropy_target_generation=entropy_target_generation,
        prompt_tokens=np.asarray(prompt, "<i4").tobytes(),
        producer_id=spec.generator_id,
        producer_sequence=sequence,
        started_at=started_at,
        finished_at=time.time(),
        trajectories=[
            _trajectory(index, sample, verdict, logprob_temperature)
            for index, (sample, verdict) in enumerate(zip(rollouts, verdicts, strict=True))
        ],
    )


def _trajectory(index: int, sample: Sample, verdict: Verdict, logprob_temperature: float) -> Trajectory:
    return Trajectory(
        group_index=index,
        response_tokens=sample.tokens.tobytes(),
        behaviour_logprobs=sample.logprobs.tobytes(),
        loss_mask=b"\1" * len(sample.tokens) if sample.mask is None else sample.mask.tobytes(),
        logprob_temperature=logprob_temperature,
        versions=sample.versions,
        reward=verdict.reward,
        reward_components=verdict.components,
        verdict=verdict.verdict,
        finish_reason=sample.finish_reason,
        scored=verdict.unscored is None,
        correct=verdict.correct,
    )


def sampled_tokens(rollouts: Sequence[Sample]) -> int:
    """Count the tokens that the policy sampled, not those of an environment."""
    return sum(len(s.tokens) if s.mask is None else int(s.mask.sum()) for s in rollouts)
