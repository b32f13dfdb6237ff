"""The held-out evaluations of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from trainer.config import EvaluationConfig
from trainer.files import write_atomically
from trainer.pass_at_k import pass_at_k

EVALUATIONS = "evaluations.json"


class Evaluation(msgspec.Struct, frozen=True):
    """Held-out results of one policy version."""

    step: int
    samples: int
    ks: list[int]
    correct: list[int]
    """for each problem, answers out of `samples` that were right"""
    missing: int = 0
    """problems that were to be evaluated and are not in `correct`"""
    oldest: int | None = None
    newest: int | None = None
    """learner steps of the policy versions that sampled; None: `step` alone did"""

    def at(self, k: int) -> np.ndarray:
        """Unbiased pass@k of each problem, float64[P]."""
        return pass_at_k(self.samples, self.correct, k)


class Evaluations:
    """The run's evaluations, kept in one JSON file so that a resumed run still knows how it began."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._all = msgspec.json.decode(path.read_bytes(), type=list[Evaluation]) if path.exists() else []

    def add(
        self,
        step: int,
        correct: Sequence[int],
        config: EvaluationConfig,
        *,
        missing: int = 0,
        versions: tuple[int, int] | None = None,
    ) -> Evaluation:
        """Add one and return it; an earlier one of the same step is replaced.

        versions: oldest and newest learner step whose policy sampled; None: `step` alone.
        """
        oldest, newest = versions or (None, None)
        added = Evaluation(step, config.samples, list(config.ks), list(correct), missing, oldest, newest)
        self._all = sorted([*(e for e in self._all if e.step != step), added], key=lambda e: e.step)
        write_atomically(self._path, msgspec.json.encode(self._all))
        return added

    def line(self, step: int) -> str:
        """One sentence about the evaluation of `step`."""
        found = next(e for e in self._all if e.step == step)
        return "held-out " + ", ".join(f"pass@{k} {found.at(k).mean():.3f}" for k in found.ks)

    @property
    def all(self) -> list[Evaluation]:
        """Those of every problem, by step."""
        return [e for e in self._all if not e.missing]

    @property
    def incomplete(self) -> list[Evaluation]:
        """Those that ended before every problem was done, by step."""
        return [e for e in self._all if e.missing]
