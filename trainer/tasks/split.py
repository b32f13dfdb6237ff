"""Training stream and held-out set of a task that can list all its problems."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from trainer.tasks.base import Problem


class Split:
    """The problem methods of `Task`, from two lists of problems."""

    def __init__(self, train: Sequence[Problem], heldout: Sequence[Problem]) -> None:
        self._train = train
        self._heldout = heldout

    @property
    def train_size(self) -> int:
        """Positions after which the training stream repeats."""
        return len(self._train)

    @property
    def heldout_size(self) -> int:
        """Number of held-out problems."""
        return len(self._heldout)

    def train_problem(self, i: int) -> Problem:
        """Training problem at position `i` of the endless stream; raises IndexError for a negative one."""
        if i < 0:
            raise IndexError(f"training position {i} is negative")
        return self._train[i % len(self._train)]

    def heldout_problem(self, i: int) -> Problem:
        """Held-out problem `i`; raises IndexError outside [0, heldout_size)."""
        if not 0 <= i < len(self._heldout):
            raise IndexError(f"held-out problem {i} is not in 0..{len(self._heldout) - 1}")
        return self._heldout[i]


def seeded_rank(seed: int, identity: str) -> bytes:
    """A sort key for an order by seed, independent of any library's random stream."""
    return hashlib.blake2b(f"{seed}:{identity}".encode(), digest_size=16).digest()
