"""The evaluations of a run on held-out problems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from trainer.config import EvaluationConfig
from trainer.errors import ScopeError
from trainer.files import write_atomically
from trainer.pass_at_k import pass_at_k

EVALUATIONS = "evaluations.json"


class Evaluation(msgspec.Struct, frozen=True):
    """The evaluation of one policy version on held-out problems."""

    step: int
    samples: int
    ks: list[int]
    correct: list[int]
    """correct responses out of `samples`, int[problems]"""
    missing: int = 0
    """problems not evaluated, which are not in `correct`"""
    oldest: int | None = None
    newest: int | None = None
    """learner steps of the policy versions that sampled the responses; None: only `step`"""
    unscored: int = 0
    """responses to which the verifier gave no score; they are not correct"""

    def at(self, k: int) -> np.ndarray:
        """Unbiased pass@k by problem, float64[P]."""
        return pass_at_k(self.samples, self.correct, k)


class Evaluations:
    """The run's evaluations, in one JSON file, so that a resumed run still has its first one."""

    def __init__(self, path: Path) -> None:
        """Raises ScopeError for a file that cannot be read."""
        self._path = path
        try:
            self._all = msgspec.json.decode(path.read_bytes(), type=list[Evaluation])
        except FileNotFoundError:
            self._all = []
        except (OSError, msgspec.DecodeError) as error:
            raise ScopeError(
                f"The evaluations in {path} cannot be read: {error}. Move the file aside to go on without them."
            ) from error

    def add(
        self,
        step: int,
        correct: Sequence[int],
        config: EvaluationConfig,
        *,
        missing: int = 0,
        versions: tuple[int, int] | None = None,
        unscored: int = 0,
    ) -> Evaluation:
        """Add an evaluation and return it. It replaces an earlier one of the same step.

        versions: learner steps of the oldest and newest policy that sampled the responses; None: only `step`.
        """
        oldest, newest = versions or (None, None)
        added = Evaluation(
            step, config.samples, list(config.ks), list(correct), missing, oldest, newest, unscored
        )
        self._all = sorted([*(e for e in self._all if e.step != step), added], key=lambda e: e.step)
        write_atomically(self._path, msgspec.json.encode(self._all))
        return added

    def line(self, step: int) -> str:
        """The pass@k of the evaluation of `step`, and its responses without a score if there are any, as text."""
        found = next(e for e in self._all if e.step == step)
        line = "held-out " + ", ".join(f"pass@{k} {found.at(k).mean():z.3f}" for k in found.ks)
        return line + (f"; {found.unscored} responses without a score" if found.unscored else "")

    @property
    def all(self) -> list[Evaluation]:
        """Complete evaluations, by step."""
        return [e for e in self._all if not e.missing]

    @property
    def incomplete(self) -> list[Evaluation]:
        """Evaluations with missing problems, by step."""
        return [e for e in self._all if e.missing]
