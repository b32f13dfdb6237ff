"""A random sample of each step's rollouts, which rank 0 keeps as text for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from redis import Redis

from services.learner.spec import LearnerSpec
from services.records.sampled_rollouts import RolloutFile, SampledRollout, add_rollouts
from trainer.rollouts.trajectory import Group, Trajectory


class RolloutSample:
    """Draws, decodes and stores rollouts; for runs with `rollout_samples.per_step` above 0."""

    def __init__(self, spec: LearnerSpec, redis: Redis, lineage: int) -> None:
        from transformers import AutoTokenizer

        self._config, self._seed = spec.config.rollout_samples, spec.config.seed
        self._redis, self._run_id, self._lineage = redis, spec.run_id, lineage
        self._tokenizer: Any = AutoTokenizer.from_pretrained(spec.model_dir)
        self._file = RolloutFile(Path(spec.run_dir), self._config.file_mib << 20)

    def keep(self, step: int, groups: Sequence[Group]) -> None:
        """Store some rollouts of a step, drawn by the run's seed and the step."""
        rollouts = [(group, trajectory) for group in groups for trajectory in group.trajectories]
        rng = np.random.default_rng([self._seed, step])
        chosen = rng.permutation(len(rollouts))[: self._config.per_step]
        kept = [self._shown(step, *rollouts[i]) for i in sorted(chosen)]
        self._file.append(kept)
        add_rollouts(self._redis, self._run_id, kept, self._config.kept)

    def _shown(self, step: int, group: Group, trajectory: Trajectory) -> SampledRollout:
        most = self._config.most_tokens
        tokens, logprobs = trajectory.tokens[:most].tolist(), trajectory.logprobs[:most].tolist()
        mask = trajectory.mask[:most].tolist()
        return SampledRollout(
            step=step,
            lineage=self._lineage,
            role=group.role,
            group_id=group.group_id,
            index=trajectory.group_index,
            problem_id=group.problem_id,
            prompt=str(self._tokenizer.decode(group.prompt[-most:].tolist())),
            temperature=group.sampling_temperature,
            reward=trajectory.reward,
            scored=trajectory.scored,
            correct=trajectory.succeeded,
            verdict=trajectory.verdict,
            finish=trajectory.finish_reason,
            length=len(trajectory.tokens),
            tokens=_pieces(self._tokenizer, tokens),
            logprobs=[
                round(logprob, 4) if own else None for logprob, own in zip(logprobs, mask, strict=True)
            ],
        )


def _pieces(tokenizer: Any, tokens: Sequence[int]) -> list[str]:
    """The text that each token adds to those before it; a character of several tokens belongs to the last one.

    A window of the last tokens is decoded with and without the new one, because spaces depend on what comes before.
    """
    pieces, start, known = [], 0, 0
    for end in range(1, len(tokens) + 1):
        before = tokenizer.decode(tokens[start:known])
        now = tokenizer.decode(tokens[start:end])
        if now.endswith("\N{REPLACEMENT CHARACTER}") and end < len(tokens):
            pieces.append("")
            continue
        pieces.append(now[len(before) :])
        start, known = known, end
    return pieces
