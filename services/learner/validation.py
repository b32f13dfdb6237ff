"""Whether the learner can use an entry of the queue: its group, or the reason why not.

What passes here cannot make a learner rank fail by what it holds: token ids lie in the vocabulary, lengths within what
the run samples.
"""

from __future__ import annotations

from services.replay.entries import Entry
from trainer.config import RunConfig
from trainer.rollouts.trajectory import Group, TrajectoryError, decode_group


class Judge:
    """Judges the entries of one run. vocabulary: token ids lie below it; None where nobody knows."""

    def __init__(self, config: RunConfig, run_id: str, vocabulary: int | None) -> None:
        self._config, self._run_id, self._vocabulary = config, run_id, vocabulary

    def verdict(self, entry: Entry, step: int, next_step: int) -> Group | str:
        """The group of an entry that belongs to learner step `step`, while `next_step` is the next to be taken."""
        try:
            group = decode_group(entry.data, size_cap=self._config.pipeline.entry_bytes)
        except TrajectoryError as error:
            return f"undecodable: {error}"
        if (group.run_id, group.group_id) != (self._run_id, entry.group_id):
            return f"entry {entry.group_id} of run {self._run_id} holds group {group.group_id} of run {group.run_id}"
        if misfit := self._misfit(group):
            return misfit
        if step < next_step:
            return too_late(step)
        age = abs(step - group.oldest_step)
        if age > self._config.pipeline.max_staleness:
            return f"stale: {age} learner steps old, pipeline.max_staleness={self._config.pipeline.max_staleness}"
        return group

    def _misfit(self, group: Group) -> str:
        """Why the group does not fit the configuration or the model; empty if it does."""
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
            return f"token id {token}, the model has {self._vocabulary}"
        return ""


def too_late(step: int) -> str:
    """The reason of a group whose step was taken without it."""
    return f"late: learner step {step} is done"
