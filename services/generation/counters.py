"""Counters of a generator's work and of its time in each state, for its heartbeat."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field

from trainer.rollouts.trajectory import Group


@dataclass
class GeneratorWork:
    """Totals since the generator started; times are in seconds."""

    groups: int = 0
    duplicates: int = 0
    """groups that the queue had already"""
    tokens: int = 0
    refills: int = 0
    """groups whose rewards were all equal, so that they were discarded and made again from another problem"""
    left_out_problems: int = 0
    """problems that could not be prompts, so that the next ones of the stream took their places"""
    spanning_rollouts: int = 0
    """rollouts sampled from more than one policy version"""
    sampling_seconds: float = 0.0
    waiting_seconds: float = 0.0
    loading_seconds: float = 0.0
    changed_at: float = field(default_factory=time.monotonic)

    def account(self, state: str) -> None:
        """Add the time since the last call to `state`."""
        now = time.monotonic()
        match state:
            case "sampling":
                self.sampling_seconds += now - self.changed_at
            case "loading":
                self.loading_seconds += now - self.changed_at
            case _:
                self.waiting_seconds += now - self.changed_at
        self.changed_at = now

    def count(self, group: Group, *, duplicate: bool) -> None:
        """Count a group that is in the queue."""
        self.groups += 1
        self.duplicates += duplicate
        self.tokens += sum(int(trajectory.mask.sum()) for trajectory in group.trajectories)
        self.spanning_rollouts += sum(len(trajectory.versions) > 1 for trajectory in group.trajectories)

    def counters(self) -> dict[str, float]:
        """The totals by name."""
        return {name: value for name, value in asdict(self).items() if name != "changed_at"}
