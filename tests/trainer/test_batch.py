"""Conversion of groups to padded rows: nothing lost or duplicated, and equal shapes on every rank."""

from __future__ import annotations

from dataclasses import fields

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.reference import group_advantages
from trainer.config import RunConfig
from trainer.learner.micro_batches import micro_batches, split_to, token_micro_batches
from trainer.loss.auxiliary_pool import auxiliary_pool
from trainer.roles import Role
from trainer.rollouts.batch import RolloutBatch, balanced_ranks, shard_batches
from trainer.rollouts.trajectory import Group, Trajectory, VersionSpan

BASE_TEMPERATURE = 0.7


def make_config(
    prompts: int, workers: int, minibatches: int, *, base: int = 3, adaptive: int = 2
) -> RunConfig:
    return RunConfig.model_validate(
        {
            "rollout": {"prompts_per_step": prompts, "base_samples": base, "adaptive_samples": adaptive},
            "loss": {"minibatches": minibatches},
            "learner": {"workers": workers},
        }
    )


def make_group(
    role: Role, ordinal: int, samples: int, rng: np.random.Generator, *, masked: bool = False
) -> Group:
    """Random rollouts; the prompt begins with 1000 + ordinal, and each response ends with 100 + index."""
    trajectories = []
    for index in range(samples):
        length = int(rng.integers(1, 8))
        mask = rng.integers(0, 2, length) if masked else np.ones(length)
        trajectories.append(
            Trajectory(
                group_index=index,
                response_tokens=np.append(rng.integers(1, 50, length - 1), 100 + index)
                .astype("<i4")
                .tobytes(),
                behaviour_logprobs=(-rng.random(length)).astype("<f4").tobytes(),
                loss_mask=mask.astype("u1").tobytes(),
                logprob_temperature=BASE_TEMPERATURE if role == "base" else 1.0,
                versions=[VersionSpan(0, 0, 0)],
                reward=float(rng.choice([0.0, 0.1, 0.5, 1.0])),
                reward_components={},
                verdict="",
                finish_reason="stop",
            )
        )
    prompt = np.concatenate([[1000 + ordinal], rng.integers(1, 50, rng.integers(0, 5))])
    return Group(
        run_id="r",
        task="t",
        problem_id=str(ordinal),
        role=role,
        ordinal=ordinal,
        sampling_temperature=1.3,
        entropy_target_generation=1,
        prompt_tokens=prompt.astype("<i4").tobytes(),
        producer_id="p",
        producer_sequence=0,
        started_at=0.0,
        finished_at=0.0,
        trajectories=trajectories,
    )


@st.composite
def batches(draw):
    """(configuration, groups): a step with any of its groups missing, in any order."""
    minibatches = draw(st.integers(1, 3))
    config = make_config(
        draw(st.integers(minibatches, 9)),
        draw(st.integers(1, 4)),
        minibatches,
        base=draw(st.integers(2, 4)),
        adaptive=draw(st.integers(1, 4)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    prompts, step = config.rollout.prompts_per_step, draw(st.integers(0, 3))
    roles: tuple[tuple[Role, int], ...] = (
        ("base", config.rollout.base_samples),
        ("adaptive", config.rollout.adaptive_samples),
    )
    groups = [
        make_group(role, step * prompts + slot, samples, rng, masked=bool(rng.integers(2)))
        for slot in range(prompts)
        for role, samples in roles
    ]
    kept = rng.random(len(groups)) < draw(st.sampled_from([1.0, 0.7, 0.0]))
    groups = [group for group, keep in zip(groups, kept, strict=True) if keep]
    rng.shuffle(groups)  # pyright: ignore[reportArgumentType]
    return config, groups


def row_key(batch: RolloutBatch, row: int) -> tuple:
    """The fields that identify a rollout, read back from a padded row."""
    prompt = int(batch.prompt_lengths[row])
    return (
        bool(batch.auxiliary[row]),
        tuple(batch.input_ids[row].numpy()[:prompt]),
        tuple(np.trim_zeros(batch.input_ids[row].numpy()[prompt:], "b")),
        tuple(np.trim_zeros(batch.targets[row].numpy(), "b")),
        float(batch.rewards[row]),
        float(batch.temperature[row]),
    )


def group_keys(group: Group) -> list[tuple]:
    return [
        (
            group.role == "adaptive",
            tuple(group.prompt),
            tuple(t.tokens),
            tuple(t.tokens),
            float(np.float32(t.reward)),
            float(np.float32(t.logprob_temperature)),
        )
        for t in group.trajectories
    ]


def is_empty(batch: RolloutBatch, row: int) -> bool:
    return not batch.input_ids[row].any()


@given(batches())
@settings(deadline=None, max_examples=80)
def test_shards_hold_every_rollout_exactly_once(case):
    config, groups = case
    shards = shard_batches(groups, config)
    assert len(shards) == config.learner.workers
    got = [row_key(s, row) for s in shards for row in range(len(s.rewards)) if not is_empty(s, row)]
    assert sorted(got) == sorted(key for group in groups for key in group_keys(group))


@given(batches())
@settings(deadline=None, max_examples=80)
def test_ranks_have_equal_shapes_and_equally_many_rows_in_every_minibatch(case):
    """Otherwise ranks would make different numbers of collective calls and deadlock."""
    config, groups = case
    shards = shard_batches(groups, config)
    for field in fields(RolloutBatch):
        shapes = {getattr(shard, field.name).shape for shard in shards}
        kinds = {getattr(shard, field.name).dtype for shard in shards}
        assert len(shapes) == len(kinds) == 1, field.name
    for minibatch in range(config.loss.minibatches):
        assert len({int((shard.minibatch == minibatch).sum()) for shard in shards}) == 1


@given(batches())
@settings(deadline=None, max_examples=80)
def test_slot_decides_minibatch_and_rank(case):
    config, groups = case
    shards = shard_batches(groups, config)
    for rank, shard in enumerate(shards):
        for row in range(len(shard.rewards)):
            if is_empty(shard, row):
                continue
            slot = (int(shard.input_ids[row, 0]) - 1000) % config.rollout.prompts_per_step
            assert int(shard.minibatch[row]) == slot % config.loss.minibatches
            assert rank == (slot // config.loss.minibatches) % config.learner.workers


@given(batches(), st.sampled_from(["positives", "negatives"]))
@settings(deadline=None, max_examples=80)
def test_advantages_are_relative_to_the_group_and_of_one_size_for_auxiliary_rows(case, samples):
    config, groups = case
    control = config.entropy_control.model_copy(update={"samples": samples})
    config = config.model_copy(update={"entropy_control": control})
    direct = 1.0 if samples == "positives" else -1.0
    expected = {}
    for group in groups:
        adaptive, rewards = group.role == "adaptive", np.array([t.reward for t in group.trajectories])
        values = np.zeros(len(rewards)) if adaptive else group_advantages(rewards, 1e-6)
        for key, value in zip(group_keys(group), values, strict=True):
            expected[key] = (value, direct if adaptive else 0.0, not adaptive)
    for shard in shard_batches(groups, config):
        for row in range(len(shard.rewards)):
            if not is_empty(shard, row):
                advantage, auxiliary, grouped = expected[row_key(shard, row)]
                assert float(shard.advantages[row]) == pytest.approx(advantage, rel=1e-5, abs=1e-6)
                assert float(shard.auxiliary_advantages[row]) == auxiliary
                assert bool(shard.grouped[row]) == grouped


@given(batches())
@settings(deadline=None, max_examples=80)
def test_adaptive_rollouts_that_teach_the_reward_are_compared_with_the_base_rollouts_of_their_problem(case):
    config, groups = case
    control = config.entropy_control.model_copy(update={"reward_from": "all", "positives_from": "all"})
    config = config.model_copy(update={"entropy_control": control})
    places = {(group.role, group.ordinal): group for group in groups}
    expected = {}
    for ordinal in {group.ordinal for group in groups}:
        base, adaptive = places.get(("base", ordinal)), places.get(("adaptive", ordinal))
        together = [group for group in (base, adaptive) if group and base]
        rewards = [t.reward for group in together for t in group.trajectories]
        values = iter(group_advantages(np.array(rewards), 1e-6) if rewards else ())
        for group in filter(None, (base, adaptive)):
            for key in group_keys(group):
                expected[key] = next(values) if group in together else None
    for shard in shard_batches(groups, config):
        for row in range(len(shard.rewards)):
            if not is_empty(shard, row):
                want = expected[row_key(shard, row)]
                assert bool(shard.grouped[row]) == (want is not None)
                assert float(shard.advantages[row]) == pytest.approx(want or 0.0, rel=1e-5, abs=1e-6)
                assert float(shard.auxiliary_advantages[row]) == 1


@given(batches())
@settings(deadline=None, max_examples=50)
def test_masks_and_behaviour_logprobs_follow_the_tokens(case):
    config, groups = case
    tokens = {
        key: t for group in groups for key, t in zip(group_keys(group), group.trajectories, strict=True)
    }
    for shard in shard_batches(groups, config):
        for row in range(len(shard.rewards)):
            if is_empty(shard, row):
                continue
            trajectory = tokens[row_key(shard, row)]
            padding = shard.mask.shape[1] - len(trajectory.tokens)
            mask = np.pad(trajectory.mask, (0, padding))
            logprobs = np.pad(trajectory.logprobs, (0, padding))
            np.testing.assert_array_equal(shard.mask[row].numpy(), mask)
            np.testing.assert_array_equal(shard.behaviour_logprobs[row].numpy(), logprobs * mask)


def test_a_missing_group_becomes_empty_rows_of_its_role():
    config, rng = make_config(2, 1, 1), np.random.default_rng(0)
    (shard,) = shard_batches([make_group("base", 0, 3, rng), make_group("adaptive", 1, 2, rng)], config)
    empty = [row for row in range(len(shard.rewards)) if is_empty(shard, row)]
    assert shard.auxiliary[empty].tolist() == [True] * 2 + [False] * 3
    for name in ("mask", "advantages", "rewards", "targets", "behaviour_logprobs"):
        assert not getattr(shard, name)[empty].any(), name
    assert (shard.prompt_lengths >= 1).all()


def test_a_step_without_any_group_still_gives_every_rank_its_rows():
    shards = shard_batches([], make_config(4, 2, 2))
    assert [len(shard.rewards) for shard in shards] == [10, 10]
    assert not any(shard.mask.any() for shard in shards)


def test_without_a_regularizer_only_base_rows_are_laid_out():
    config = RunConfig.model_validate(
        {"rollout": {"prompts_per_step": 2, "base_samples": 3}, "entropy_control": {"kind": "none"}}
    )
    rng = np.random.default_rng(0)
    (shard,) = shard_batches([make_group("base", slot, 3, rng) for slot in range(2)], config)
    assert len(shard.rewards) == 6
    assert not shard.auxiliary.any()


@pytest.mark.parametrize("intruder", ["a second group in the slot", "a role that is not used"])
def test_a_group_that_has_no_slot_is_refused_rather_than_dropped(intruder):
    rng = np.random.default_rng(0)
    if intruder == "a role that is not used":
        config = RunConfig.model_validate(
            {"rollout": {"prompts_per_step": 2, "base_samples": 3}, "entropy_control": {"kind": "none"}}
        )
        groups = [make_group("base", 0, 3, rng), make_group("adaptive", 0, 2, rng)]
    else:
        config = make_config(2, 1, 1)
        groups = [make_group("base", 0, 3, rng), make_group("base", 2, 3, rng)]
    with pytest.raises(ValueError, match="do not fit into one step"):
        shard_batches(groups, config)


def test_a_group_of_the_wrong_size_is_refused():
    with pytest.raises(ValueError, match="holds 4 rollouts, expected 3"):
        shard_batches([make_group("base", 0, 4, np.random.default_rng(0))], make_config(2, 1, 1))


@given(st.integers(0, 40), st.integers(1, 100), st.integers(1, 500))
def test_micro_batches_keep_the_order_and_the_token_budget(rows, length, budget):
    parts = micro_batches(torch.arange(rows), length, budget)
    assert torch.cat(parts).tolist() == list(range(rows))
    assert all(len(part) == 1 or len(part) * length <= budget for part in parts if len(part))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 300), st.integers(0, 50))
def test_token_micro_batches_hold_every_row_once_within_the_budget(lengths, budget, count):
    rows = torch.arange(len(lengths)) + 100
    parts = token_micro_batches(rows, lengths, lengths, budget)
    sizes = [[lengths[int(row) - 100] for row in part] for part in parts]
    assert all(len(part) == 1 or len(part) * max(part) <= budget for part in sizes)
    assert sum(len(part) * max(part) for part in sizes) <= len(lengths) * max(lengths)
    divided = split_to(parts, count)
    assert sorted(torch.cat(divided).tolist()) == rows.tolist()
    assert len(divided) == max(len(parts), min(count, len(lengths)))


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.data())
def test_balanced_ranks_have_equal_slots_of_each_minibatch_and_nearly_equal_tokens(
    workers, minibatches, each, data
):
    slots = workers * minibatches * each
    tokens = data.draw(st.lists(st.integers(0, 1000), min_size=slots, max_size=slots))
    ranks = balanced_ranks(tokens, workers, minibatches)
    totals = [0] * workers
    for slot, rank in enumerate(ranks):
        totals[rank] += tokens[slot]
    for minibatch in range(minibatches):
        members = ranks[minibatch::minibatches]
        assert [members.count(rank) for rank in range(workers)] == [each] * workers
    assert max(totals) - min(totals) <= minibatches * max(tokens)


def test_long_prompts_are_shared_out_over_ranks_and_columns_that_nobody_needs_are_cut():
    config = make_config(4, 2, 1)
    learner = config.learner.model_copy(update={"micro_batching": "tokens"})
    rng = np.random.default_rng(4)
    groups = [make_group("base", slot, 3, rng) for slot in range(4)]
    shards = shard_batches(groups, config.model_copy(update={"learner": learner}))
    keys = [row_key(s, row) for s in shards for row in range(len(s.rewards)) if not is_empty(s, row)]
    assert sorted(keys) == sorted(key for group in groups for key in group_keys(group))
    shard = shards[0]
    short = shard.select(shard.lengths.argsort()[:2]).trimmed()
    assert short.input_ids.shape[1] == int(short.lengths.max()) < shard.input_ids.shape[1]
    assert short.mask.shape == short.targets.shape == short.behaviour_logprobs.shape
    assert short.mask.shape[1] == max(1, int((short.lengths - short.prompt_lengths).max()))


def test_select_keeps_every_field_in_the_order_asked_for():
    rng = np.random.default_rng(1)
    (shard,) = shard_batches([make_group("base", slot, 3, rng) for slot in range(2)], make_config(2, 1, 1))
    rows = torch.tensor([6, 0, 1])
    chosen = shard.select(rows)
    for field in fields(RolloutBatch):
        assert torch.equal(getattr(chosen, field.name), getattr(shard, field.name)[rows])


@given(
    rewards=st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=2, max_size=6),
    data=st.data(),
    aggregation=st.sampled_from(["sequence_mean", "dr_grpo"]),
)
@settings(max_examples=40, deadline=None)
def test_a_group_with_rollouts_without_a_score_is_learned_from_as_without_them(
    rewards: list[float], data: st.DataObject, aggregation: str
) -> None:
    scored = data.draw(st.lists(st.booleans(), min_size=len(rewards), max_size=len(rewards)))
    rng = np.random.default_rng(len(rewards))
    whole = make_group("base", 0, len(rewards), rng)
    rollouts = [
        msgspec.structs.replace(t, reward=reward if has else 0.0, scored=has)
        for t, reward, has in zip(whole.trajectories, rewards, scored, strict=True)
    ]

    def rows(trajectories: list[Trajectory]) -> RolloutBatch:
        config = make_config(1, 1, 1, base=len(trajectories))
        config = config.model_copy(
            update={"loss": config.loss.model_copy(update={"aggregation": aggregation})}
        )
        (batch,) = shard_batches([msgspec.structs.replace(whole, trajectories=trajectories)], config)
        return batch.select((~batch.auxiliary).nonzero().squeeze(-1))

    batch = rows(rollouts)
    has_score = torch.tensor(scored)
    assert not batch.mask[~has_score].any()
    assert not batch.advantages[~has_score].any()
    assert batch.rewards[~has_score].sum() == 0
    if sum(scored) == 1:
        assert not batch.advantages.any()
    elif any(scored):
        alone = rows([t for t in rollouts if t.scored])
        assert torch.equal(batch.advantages[has_score], alone.advantages)
        width = alone.mask.shape[1]
        assert torch.equal(batch.mask[has_score][:, :width], alone.mask)
        assert torch.equal(batch.behaviour_logprobs[has_score][:, :width], alone.behaviour_logprobs)


@pytest.mark.parametrize(("samples", "reward"), [("positives", 1.0), ("negatives", 0.0)])
def test_an_adaptive_rollout_without_a_score_is_no_positive_and_no_failure(samples: str, reward: float):
    config = make_config(1, 1, 1)
    law = config.entropy_control.model_copy(update={"samples": samples})
    config = config.model_copy(update={"entropy_control": law})
    group = make_group("adaptive", 0, 2, np.random.default_rng(0))
    rollouts = [
        msgspec.structs.replace(group.trajectories[0], reward=reward),
        msgspec.structs.replace(group.trajectories[1], reward=0.0, scored=False),
    ]
    (batch,) = shard_batches([msgspec.structs.replace(group, trajectories=rollouts)], config)
    learned = auxiliary_pool(batch, torch.full_like(batch.mask, -1.0), 0.0, law).learned
    assert learned[batch.auxiliary].tolist() == [1.0, 0.0]
