"""Generated problems of reasoning-gym: any of its data sets."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Set
from typing import Any

from trainer.config.task import GymConfig, SingleTaskConfig
from trainer.errors import ScopeError
from trainer.tasks.base import Problem, Verdict, graded
from trainer.tasks.bounded_pool import BoundedError, BoundedPool


class ReasoningGym:
    """The task. Problems are generated on demand; a training problem that is held out is replaced by the next one."""

    name = "reasoning_gym"

    def __init__(self, config: SingleTaskConfig) -> None:
        """Raises ScopeError for an unknown data set or invalid options."""
        gym = config.reasoning_gym
        # The seeds of the splits must be far apart: problem i of a data set comes from seed + i.
        self._train = make_dataset(gym, seed=config.seed * 2_000_003, size=gym.size)
        self._heldout = make_dataset(gym, seed=config.seed * 2_000_003 + 1_000_000_007, size=config.heldout)
        self._instruction, self.heldout_size = gym.instruction, config.heldout
        self.train_size = gym.size
        self.heldout_ids = frozenset(
            self._identity(self._heldout[i]["question"]) for i in range(config.heldout)
        )
        self._known = self.heldout_ids
        bounds = config.verifier
        self._pool = BoundedPool(
            grade,
            workers=bounds.workers,
            seconds=bounds.timeout_seconds,
            memory_mib=bounds.memory_mib,
            warm_up=(gym.dataset, gym.options, self._heldout[0], ""),
        )
        self._gym = gym

    def leave_out(self, ids: Set[str]) -> None:
        """Skip these training problems as well."""
        self._known |= ids

    def train_problem(self, i: int) -> Problem:
        """Training problem at position `i`; raises IndexError for a negative one."""
        if i < 0:
            raise IndexError(f"training position {i} is negative")
        for position in range(i, i + self.train_size):
            problem = self._problem(self._train[position % self.train_size])
            if problem.id not in self._known:
                return problem
        raise ScopeError(
            f"task.reasoning_gym.dataset={self._gym.dataset!r} has only problems that are held out: "
            "use harder task.reasoning_gym.options, or a smaller task.heldout."
        )

    def heldout_problem(self, i: int) -> Problem:
        """Held-out problem `i`; raises IndexError outside [0, heldout_size)."""
        if not 0 <= i < self.heldout_size:
            raise IndexError(f"held-out problem {i} is not in 0..{self.heldout_size - 1}")
        return self._problem(self._heldout[i])

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        """The data set's score of the last <answer>, in [0, 1]."""
        try:
            score = self._pool.call(
                self._gym.dataset, self._gym.options, problem.data["entry"], response_text
            )
        except BoundedError as error:
            return Verdict(0.0, {"correct": 0.0, "format": 1.0}, str(error))
        if score is None:
            return Verdict(0.0, {"correct": 0.0, "format": 0.0}, "no answer")
        return graded(score, {"correct": min(max(score, 0.0), 1.0), "format": 1.0})

    def final_answer(self, problem: Problem, response_text: str) -> str | None:
        """The last <answer>, in lower case and with single spaces."""
        from reasoning_gym.utils import extract_answer

        answer = extract_answer(response_text)
        return None if answer is None else " ".join(answer.lower().split())

    def _problem(self, entry: dict[str, Any]) -> Problem:
        question = entry["question"]
        return Problem(self._identity(question), question + self._instruction, {"entry": entry})

    @staticmethod
    def _identity(question: str) -> str:
        return hashlib.blake2b(question.encode(), digest_size=10).hexdigest()


def make_dataset(gym: GymConfig, *, seed: int, size: int) -> Any:
    """The data set. Raises ScopeError for an unknown one or invalid options."""
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise ScopeError(
            "task.name='reasoning_gym' needs the package reasoning-gym: pip install 'scope-rl-service[cpu]', or [gpu]"
        ) from error
    if gym.dataset not in DATASETS:
        near = difflib.get_close_matches(gym.dataset, DATASETS, n=3, cutoff=0.3) or sorted(DATASETS)[:3]
        raise ScopeError(
            f"task.reasoning_gym.dataset={gym.dataset!r} is not one of reasoning-gym's {len(DATASETS)} data sets. "
            f"Nearest: {', '.join(near)}."
        )
    try:
        return reasoning_gym.create_dataset(gym.dataset, seed=seed, size=size, **gym.options)
    except (TypeError, ValueError, AssertionError) as error:
        raise ScopeError(
            f"task.reasoning_gym.options={gym.options} are not valid for {gym.dataset}: {error}"
        ) from error


_graders: dict[str, Any] = {}


def grade(dataset: str, options: dict[str, Any], entry: dict[str, Any], response: str) -> float | None:
    """The score of a response; None without an <answer>. Runs in a `BoundedPool`, which caches the data set."""
    from reasoning_gym.utils import extract_answer

    if dataset not in _graders:
        _graders[dataset] = make_dataset(GymConfig(dataset=dataset, options=options), seed=0, size=1)
    answer = extract_answer(response)
    return None if answer is None else float(_graders[dataset].score_answer(answer, entry))
