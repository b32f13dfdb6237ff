"""Decides which entries of the queue the learner can use.

A group that passes cannot make a learner rank fail: its token ids lie in the vocabulary, and its lengths within what
the run samples.
"""

from __future__ import annotations

from services.replay.entries import Entry
from trainer.config import RunConfig
from trainer.rollouts.trajectory import Group, TrajectoryError, decode_group


class GroupValidator:
    """Decodes and checks the entries of one run. vocabulary: token ids must be below it; None: unknown, not checked."""

    def __init__(self, config: RunConfig, run_id: str, vocabulary: int | None) -> None:
        self._config, self._run_id, self._vocabulary = config, run_id, vocabulary

    def validate(self, entry: Entry, step: int, next_step: int) -> Group | str:
        """The group of an entry, or the reason why it cannot be used.

        step: the learner step that the entry belongs to; next_step: the next one that the learner takes.
        """
        try:
            group = decode_group(entry.data, size_cap=self._config.pipeline.entry_bytes)
        except TrajectoryError as error:
            return f"undecodable: {error}"
        if (group.run_id, group.group_id) != (self._run_id, entry.group_id):
            return f"entry {entry.group_id} of run {self._run_id} holds group {group.group_id} of run {group.run_id}"
        if mismatch := self._mismatch(group):
            return mismatch
        if step < next_step:
            return late_reason(step)
        age = abs(step - group.oldest_step)
        if age > self._config.pipeline.max_staleness:
            return f"stale: {age} learner steps old, pipeline.max_staleness={self._config.pipeline.max_staleness}"
        return group

    def _mismatch(self, group: Group) -> str:
        """Why the group does not match the configuration or the model; empty if it does."""
        rollout, longest_prompt = self._config.rollout, self._config.model.max_length
        wanted = rollout.base_samples if group.role == "base" else rollout.adaptive_samples
        if group.role not in self._config.roles or len(group.trajectories) != wanted:
            return f"{len(group.trajectories)} {group.role} rollouts, the configuration asks for {wanted}"
        longest = max(len(trajectory.mask) for trajectory in group.trajectories)
        if longest > rollout.max_new_tokens:
            return f"a response of {longest} tokens, rollout.max_new_tokens={rollout.max_new_tokens}"
        if len(group.prompt) > longest_prompt:
            return f"a prompt of {len(group.prompt)} tokens, model.max_length={longest_prompt}"
        token = max(int(group.prompt.max()), *(int(t.tokens.max()) for t in group.trajectories))
        if self._vocabulary is not None and token >= self._vocabulary:
            return f"token id {token}, model and tokenizer have {self._vocabulary}"
        return ""


def late_reason(step: int) -> str:
    """The reason for a group that arrives after its learner step was taken."""
    return f"late: learner step {step} is done"
