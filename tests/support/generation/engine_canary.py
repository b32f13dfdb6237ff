"""Compares the engine's log-probabilities of sampled groups with the learner's: behaviour against proximal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from services.inference.sample import Sample
from tests.support.generation.sampled_groups import PROMPT, SAMPLES, TEMPERATURES
from tests.support.generation.tiny import LearnerView, tiny_config
from trainer.config import RunConfig
from trainer.roles import Role
from trainer.rollouts.batch import shard_batches
from trainer.rollouts.trajectory import Group, Trajectory


@dataclass
class Canary:
    """Largest deviation of an importance ratio from 1, and mismatch KL in nats per token, over some rollouts."""

    deviation: float
    kl: float

    @property
    def sings(self) -> bool:
        """Whether engine and learner agree."""
        return self.deviation < 1e-3 and self.kl < 1e-5


def canary(samples: list[list[Sample]], role: Role, learner: LearnerView) -> Canary:
    """Compare proximal with behaviour log-probabilities, batched and computed as in the learner."""
    config = tiny_config(
        rollout={"prompts_per_step": len(samples), "base_samples": SAMPLES, "adaptive_samples": SAMPLES}
    )
    groups = [as_group(config, role, ordinal, group) for ordinal, group in enumerate(samples)]
    (batch,) = shard_batches(groups, config)
    with torch.no_grad():
        proximal, _ = learner.policy(
            batch.input_ids, batch.prompt_lengths, batch.targets, batch.mask, batch.temperature
        )
    difference = (proximal - batch.behaviour_logprobs)[batch.mask > 0].double()
    ratio = difference.exp()
    return Canary(float((ratio - 1).abs().max()), float((ratio - 1 - difference).mean()))


def as_group(config: RunConfig, role: Role, ordinal: int, samples: list[Sample]) -> Group:
    """The samples as a group, in the form that a generator writes."""
    temperatures = TEMPERATURES[role]
    return Group(
        run_id="canary",
        task=config.task.name,
        problem_id="p",
        role=role,
        ordinal=ordinal,
        sampling_temperature=temperatures.sampling,
        entropy_target_generation=1,
        prompt_tokens=np.asarray(PROMPT, "<i4").tobytes(),
        producer_id="g",
        producer_sequence=ordinal,
        started_at=0.0,
        finished_at=1.0,
        trajectories=[
            Trajectory(
                group_index=index,
                response_tokens=sample.tokens.tobytes(),
                behaviour_logprobs=sample.logprobs.tobytes(),
                loss_mask=np.ones(len(sample.tokens), "u1").tobytes(),
                logprob_temperature=temperatures.reported,
                versions=sample.versions,
                reward=0.0,
                reward_components={},
                verdict="",
                finish_reason=sample.finish_reason,
            )
            for index, sample in enumerate(samples)
        ],
    )
