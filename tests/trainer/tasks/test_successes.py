"""Which responses are successes: by the reward of the verifier, before it is shaped, and by one rule everywhere."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.learner.reward_counts import reward_counts
from services.records.sampled_rollouts import RolloutFilter, SampledRollout
from tests.support.generation.tiny import tiny_config
from tests.support.sampled_rollouts import rollout as sampled_rollout
from trainer.config import RunConfig, TaskConfig
from trainer.config.load import validate_config
from trainer.config.task import MixturePart, RewardConfig
from trainer.loss.auxiliary_pool import auxiliary_pool
from trainer.rollouts.batch import shard_batches
from trainer.rollouts.trajectory import Group, Trajectory, VersionSpan, decode_group, encode_group
from trainer.tasks import NO_END, Problem, Verdict
from trainer.tasks.reward_shaping import shape
from trainer.tasks.verification import Verification

PROBLEM = Problem("p", "prompt", {"part": 1})


class Fixed:
    """A task whose verifier gives one reward."""

    name, train_size, heldout_size = "fixed", 20, 16

    def __init__(self, reward: float) -> None:
        self._reward = reward

    def train_problem(self, i: int) -> Problem:
        return PROBLEM

    def heldout_problem(self, i: int) -> Problem:
        return PROBLEM

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        return Verdict(self._reward, {}, "graded")


def verdict(reward: float, **task: Any) -> Verdict:
    return Verification(Fixed(reward), TaskConfig(**task)).verify(PROBLEM, "a")


@pytest.mark.parametrize(
    ("reward", "threshold", "correct"),
    [
        (1.0, 1.0, True),
        (0.1 + 0.2 + 0.7 - 1e-9, 1.0, True),
        (0.99, 1.0, False),
        (0.6, 0.5, True),
        (0.5, 0.5, True),
        (0.4, 0.5, False),
        (0.0, 0.01, False),
        (0.0, 1e-9, False),
    ],
)
def test_a_response_is_a_success_from_the_reward_that_the_task_states(
    reward: float, threshold: float, correct: bool
) -> None:
    assert verdict(reward, positive_from=threshold).correct == correct


def test_each_part_of_a_mixture_states_its_own() -> None:
    parts = (MixturePart(name="countdown"), MixturePart(name="countdown", positive_from=0.3))
    assert verdict(0.4, name="mixture", mixture=parts, positive_from=0.9).correct


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_a_threshold_that_every_response_or_none_would_pass_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="positive_from"):
        TaskConfig(positive_from=threshold)


@given(st.integers(1, 40), st.sampled_from(["share", "additive"]))
def test_shaping_changes_the_reward_of_a_success_and_not_that_it_is_one(length: int, form: str) -> None:
    reward = RewardConfig.model_validate(
        {"overlong_from": 4, "overlong_form": form, "length_free": 2, "length_penalty": 1.0}
    )
    shaped = shape(verdict(1.0), length, reward, 32)
    assert shaped.correct
    assert shaped.reward < 1 or length <= 2
    assert not shape(verdict(0.0), length, reward, 32).correct
    assert not shape(NO_END, length, reward, 32).correct


def rollout(index: int, **fields: Any) -> Trajectory:
    return Trajectory(
        group_index=index,
        response_tokens=b"\1\0\0\0",
        behaviour_logprobs=b"\0\0\0\0",
        loss_mask=b"\1",
        logprob_temperature=1.0,
        versions=[VersionSpan(0, 0, 0)],
        reward_components={},
        verdict="",
        finish_reason="stop",
        **fields,
    )


def group(config: RunConfig, trajectories: list[Trajectory]) -> Group:
    return Group(
        run_id="r",
        task=config.task.name,
        problem_id="p",
        role="adaptive",
        ordinal=0,
        sampling_temperature=1.0,
        entropy_target_generation=1,
        prompt_tokens=b"\1\0\0\0",
        producer_id="p",
        producer_sequence=0,
        started_at=0.0,
        finished_at=0.0,
        trajectories=trajectories,
    )


def test_the_auxiliary_loss_learns_from_successes_whatever_their_shaped_reward() -> None:
    settings = {"prompts_per_step": 1, "base_samples": 2, "adaptive_samples": 4}
    config = validate_config({"rollout": settings, "loss": {"minibatches": 1}})
    made = [
        rollout(0, reward=0.2, correct=True),
        rollout(1, reward=1.0, correct=False),
        rollout(2, reward=0.0, correct=None, scored=False),
        rollout(3, reward=1.0),
    ]
    data = encode_group(group(config, made), size_cap=10_000)
    (batch,) = shard_batches([decode_group(data, size_cap=10_000)], config)
    pool = auxiliary_pool(batch, torch.full_like(batch.mask, -1.0), 1.0, config.entropy_control)
    assert pool.learned[batch.auxiliary].tolist() == [1.0, 0.0, 0.0, 1.0]


def test_an_entry_of_an_older_version_has_its_successes_by_the_reward() -> None:
    config = tiny_config()
    entry = msgspec.msgpack.decode(
        encode_group(group(config, [rollout(0, reward=1.0), rollout(1, reward=0.5)]), size_cap=10_000)
    )
    for trajectory in entry["trajectories"]:
        del trajectory["correct"]
    found = decode_group(msgspec.msgpack.encode(entry), size_cap=10_000)
    assert [t.succeeded for t in found.trajectories] == [True, False]


def test_a_group_is_solved_by_its_successes_and_failed_without_any_success_or_reward() -> None:
    config = tiny_config()
    right = {"reward": 0.0, "correct": True}
    partial, wrong = ({"reward": reward, "correct": False} for reward in (0.3, 0.0))
    groups = [
        msgspec.structs.replace(
            group(config, [rollout(i, **fields) for i, fields in enumerate(of)]), role="base"
        )
        for of in ([right, right], [right, wrong], [partial, wrong], [wrong, wrong])
    ]
    assert reward_counts(groups) == {"base_groups": 4, "failed_groups": 1, "solved_groups": 1}


def test_a_sampled_rollout_stored_without_its_success_has_it_by_the_reward() -> None:
    fields = [sampled_rollout(1, reward=reward).model_dump(exclude={"correct"}) for reward in (1.0, 0.5)]
    right, wrong = map(SampledRollout.model_validate, fields)
    assert (right.correct, wrong.correct) == (True, False)
    assert RolloutFilter(correct=True).fits(right)
    assert RolloutFilter(correct=True).fits(sampled_rollout(1, reward=0.4, correct=True))
    assert not RolloutFilter(correct=True).fits(sampled_rollout(1, reward=1.0, correct=False))
