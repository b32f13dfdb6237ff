"""Turns one step's groups into padded tensors, divided over minibatches and learner ranks.

Group j of a role goes to minibatch j mod M and, within it, to rank (j div M) mod W; with `learner.micro_batching` at
`tokens`, to the rank that has the fewest tokens so far. Both roles of a prompt are therefore on one rank and in one
minibatch. Missing groups become empty rows, and empty slots are added up to a multiple of M W, so that every rank has
equally many rows in every minibatch and collective calls match.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from trainer.config import RunConfig
from trainer.rollouts.rewards import group_advantages
from trainer.rollouts.trajectory import Group, Trajectory


@dataclass(frozen=True)
class RolloutBatch:
    """Rollouts of one rank for one step. N rows; L padded sequence tokens; T padded response tokens."""

    input_ids: Tensor
    """int64[N, L], prompt then response, right-padded with 0; no token that counts attends to padding"""
    prompt_lengths: Tensor
    """int64[N]"""
    targets: Tensor
    """int64[N, T], response tokens"""
    mask: Tensor
    """float32[N, T], 1 where a response token counts; 0 in an unscored rollout"""
    behaviour_logprobs: Tensor
    """float32[N, T], nats at `temperature`, 0 where the mask is 0"""
    temperature: Tensor
    """float32[N], of the behaviour log-probabilities: the sampling temperature for base rows, 1 for auxiliary rows"""
    advantages: Tensor
    """float32[N]; for auxiliary rows 1, or -1 where the loss lowers failures; 0 for empty rows and unscored rollouts"""
    rewards: Tensor
    """float32[N]"""
    auxiliary: Tensor
    """bool[N]"""
    minibatch: Tensor
    """int64[N]"""
    slot: Tensor
    """int64[N], place of the row's problem in the step; rows of one place are on one rank"""

    def select(self, rows: Tensor) -> RolloutBatch:
        """The batch of the given rows, in their order. rows: int64[n]."""
        return RolloutBatch(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @property
    def lengths(self) -> Tensor:
        """Tokens of prompt and response up to the last that counts, int64[N]."""
        width = torch.arange(1, self.mask.shape[1] + 1, device=self.mask.device)
        return self.prompt_lengths + ((self.mask != 0) * width).amax(1)

    def trimmed(self) -> RolloutBatch:
        """The batch without trailing columns in which no row has a token that counts; one response column stays."""
        longest = int(self.lengths.max())
        response = max(int((self.lengths - self.prompt_lengths).max()), 1)
        widths = {"input_ids": longest} | dict.fromkeys(("targets", "mask", "behaviour_logprobs"), response)
        return replace(self, **{name: getattr(self, name)[:, :width] for name, width in widths.items()})


def shard_batches(groups: Sequence[Group], config: RunConfig) -> list[RolloutBatch]:
    """One `RolloutBatch` for each rank, all of equal shape.

    Rows of missing (dead-lettered) groups are empty: mask 0 and advantage 0. Unscored rollouts have both too, and the
    advantages of their groups are those of the group without them. Raises ValueError for two groups with the
    same place in the step, for a role that the run does not use, and for a group with the wrong number of rollouts.
    """
    workers, minibatches = config.learner.workers, config.loss.minibatches
    by_slot = {(g.role, g.ordinal % config.rollout.prompts_per_step): g for g in groups}
    if len(by_slot) != len(groups) or any(role not in config.roles for role, _ in by_slot):
        raise ValueError(
            f"groups {sorted(g.group_id for g in groups)} do not fit into one step of {config.roles}"
        )
    cycle = workers * minibatches
    slots = math.ceil(config.rollout.prompts_per_step / cycle) * cycle
    sequence = max((len(g.prompt) + max(len(t.tokens) for t in g.trajectories) for g in groups), default=2)
    response = max((len(t.tokens) for g in groups for t in g.trajectories), default=1)
    rank_of = [(slot // minibatches) % workers for slot in range(slots)]
    if config.learner.micro_batching == "tokens":
        tokens = [0] * slots
        for (_, slot), group in by_slot.items():
            tokens[slot] += sum(len(group.prompt) + len(t.tokens) for t in group.trajectories)
        rank_of = balanced_ranks(tokens, workers, minibatches)
    shards = []
    for rank in range(workers):
        builder = _Rows(sequence, response)
        for slot in range(slots):
            if rank_of[slot] != rank:
                continue
            for role in config.roles:
                samples = config.rollout.base_samples if role == "base" else config.rollout.adaptive_samples
                builder.add_group(
                    by_slot.get((role, slot)),
                    samples,
                    auxiliary=role == "adaptive",
                    minibatch=slot % minibatches,
                    slot=slot,
                    config=config,
                )
        shards.append(builder.batch())
    return shards


def balanced_ranks(tokens: Sequence[int], workers: int, minibatches: int) -> list[int]:
    """Assign slots to ranks: equally many of every minibatch to each rank, and about equally many tokens.

    tokens: of each slot; their number is a multiple of workers * minibatches. Largest slots first, each to the rank
    with the fewest tokens that still takes one (Graham's longest-processing-time rule). Returns the rank of each slot.
    """
    ranks = [0] * len(tokens)
    totals = [0] * workers
    for minibatch in range(minibatches):
        members = range(minibatch, len(tokens), minibatches)
        left = [len(members) // workers] * workers
        for slot in sorted(members, key=lambda slot: -tokens[slot]):
            rank = min((r for r in range(workers) if left[r]), key=lambda r: totals[r])
            ranks[slot] = rank
            left[rank] -= 1
            totals[rank] += tokens[slot]
    return ranks


class _Rows:
    """Accumulates padded rows. sequence, response: widths L and T of `RolloutBatch`."""

    def __init__(self, sequence: int, response: int) -> None:
        self._sequence, self._response = sequence, response
        self._columns: dict[str, list[np.ndarray | float | int | bool]] = {
            f.name: [] for f in fields(RolloutBatch)
        }

    def add_group(
        self,
        group: Group | None,
        samples: int,
        *,
        auxiliary: bool,
        minibatch: int,
        slot: int,
        config: RunConfig,
    ) -> None:
        shared = {"auxiliary": auxiliary, "minibatch": minibatch, "slot": slot}
        if group is None:
            for _ in range(samples):
                self._append(self._empty_row() | shared)
            return
        if len(group.trajectories) != samples:
            raise ValueError(
                f"group {group.group_id} holds {len(group.trajectories)} rollouts, expected {samples}"
            )
        rewards = np.array([t.reward for t in group.trajectories])
        scored = np.array([t.scored for t in group.trajectories])
        advantages = np.zeros(samples)
        if auxiliary:
            advantages[scored] = 1.0 if config.entropy_control.samples == "positives" else -1.0
        elif scored.any():
            standardized = config.loss.aggregation != "dr_grpo"
            advantages[scored] = group_advantages(
                rewards[scored], config.loss.advantage_epsilon, standardized=standardized
            )
        for trajectory, advantage in zip(group.trajectories, advantages, strict=True):
            self._append(self._row(group, trajectory, float(advantage)) | shared)

    def batch(self) -> RolloutBatch:
        kinds = {
            "input_ids": torch.int64,
            "prompt_lengths": torch.int64,
            "targets": torch.int64,
            "minibatch": torch.int64,
            "slot": torch.int64,
            "auxiliary": torch.bool,
        }
        return RolloutBatch(
            **{
                name: torch.from_numpy(np.array(column)).to(kinds.get(name, torch.float32))
                for name, column in self._columns.items()
            }
        )

    def _append(self, row: Mapping[str, np.ndarray | float | int | bool]) -> None:
        for name, column in self._columns.items():
            column.append(row[name])

    def _row(
        self, group: Group, trajectory: Trajectory, advantage: float
    ) -> dict[str, np.ndarray | float | int | bool]:
        prompt, tokens = group.prompt, trajectory.tokens
        mask = trajectory.mask * np.uint8(trajectory.scored)
        return {
            "input_ids": _padded(np.concatenate([prompt, tokens]), self._sequence, np.int64),
            "prompt_lengths": len(prompt),
            "targets": _padded(tokens, self._response, np.int64),
            "mask": _padded(mask, self._response, np.float32),
            "behaviour_logprobs": _padded(trajectory.logprobs * mask, self._response, np.float32),
            "temperature": trajectory.logprob_temperature,
            "advantages": advantage,
            "rewards": trajectory.reward if trajectory.scored else 0.0,
        }

    def _empty_row(self) -> dict[str, np.ndarray | float | int | bool]:
        return {
            "input_ids": np.zeros(self._sequence, np.int64),
            "prompt_lengths": 1,
            "targets": np.zeros(self._response, np.int64),
            "mask": np.zeros(self._response, np.float32),
            "behaviour_logprobs": np.zeros(self._response, np.float32),
            "temperature": 1.0,
            "advantages": 0.0,
            "rewards": 0.0,
        }


def _padded(values: np.ndarray, length: int, dtype: type) -> np.ndarray:
    out = np.zeros(length, dtype)
    out[: len(values)] = values
    return out
