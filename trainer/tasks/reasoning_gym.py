"""Generated problems of reasoning-gym: any of its data sets.

Problems are generated, and responses scored, in the processes of a `BoundedPool`. Some data sets iterate over sets of
texts, whose order depends on the hash seed of the process; in a pool it is fixed, so problems are the same everywhere.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Set
from typing import Any, Literal

from trainer.config.task import GymConfig, SingleTaskConfig
from trainer.errors import ScopeError
from trainer.tasks.base import Problem, Verdict, graded
from trainer.tasks.bounded_pool import BoundedError, BoundedPool, NotLoadedError
from trainer.tasks.failure import NoScore, as_number, cause_of

MOST_SKIPPED = 100
"""problems in a row that are held out or cannot be generated, after which the run ends"""

Split = Literal["train", "heldout"]


class ReasoningGym:
    """The task. A training problem that is held out, or cannot be generated, is replaced by the next one."""

    name = "reasoning_gym"

    def __init__(self, config: SingleTaskConfig) -> None:
        """Raises ScopeError for an unknown data set or invalid options."""
        gym, bounds = config.reasoning_gym, config.verifier
        # The seeds of the splits must be far apart: problem i of a data set comes from seed + i.
        seed = config.seed * 2_000_003
        self._sets: dict[Split, tuple[int, int]] = {
            "train": (seed, gym.size),
            "heldout": (seed + 1_000_000_007, config.heldout),
        }
        self._gym, self._instruction, self._seconds = gym, gym.instruction, bounds.load_seconds
        self.train_size, self.heldout_size = gym.size, config.heldout
        self._pool = BoundedPool(
            work,
            # One more than responses are scored at once, so that no problem waits for a response.
            workers=bounds.workers + 1,
            seconds=bounds.timeout_seconds,
            memory_mib=bounds.memory_mib,
            warm_up=("import", gym),
            load_seconds=bounds.load_seconds,
        )
        try:
            self._heldout = self._entries("heldout", range(config.heldout))
            self._entries("train", range(1))
        except BoundedError as error:
            raise ScopeError(
                f"task.reasoning_gym.options={gym.options} are not valid for {gym.dataset}: {error}"
            ) from error
        self.heldout_ids = frozenset(self._identity(entry["question"]) for entry in self._heldout)
        self._known = self.heldout_ids

    def leave_out(self, ids: Set[str]) -> None:
        """Skip these training problems as well."""
        self._known |= ids

    def train_problem(self, i: int) -> Problem:
        """Training problem at position `i`; raises IndexError for a negative one."""
        if i < 0:
            raise IndexError(f"training position {i} is negative")
        fault = "they are held out"
        for position in range(i, i + min(self.train_size, MOST_SKIPPED)):
            try:
                (entry,) = self._entries("train", [position % self.train_size])
            except BoundedError as error:
                fault = str(error)
                continue
            problem = self._problem(entry)
            if problem.id not in self._known:
                return problem
        raise ScopeError(
            f"task.reasoning_gym.dataset={self._gym.dataset!r} has no problem to train on from position {i} on: "
            f"{fault}. Use harder task.reasoning_gym.options, or a smaller task.heldout."
        )

    def heldout_problem(self, i: int) -> Problem:
        """Held-out problem `i`; raises IndexError outside [0, heldout_size)."""
        if not 0 <= i < self.heldout_size:
            raise IndexError(f"held-out problem {i} is not in 0..{self.heldout_size - 1}")
        return self._problem(self._heldout[i])

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        """The data set's score of the last <answer>, in [0, 1]. Raises NoScore if it gives none."""
        try:
            score = self._call("score", self._gym, problem.data["entry"], response_text)
        except BoundedError as error:
            raise NoScore(str(error)) from error
        if score is None:
            return Verdict(0.0, {"correct": 0.0, "format": 0.0}, "no answer")
        return graded(score, {"correct": min(max(score, 0.0), 1.0), "format": 1.0})

    def final_answer(self, problem: Problem, response_text: str) -> str | None:
        """The last <answer>, in lower case and with single spaces."""
        from reasoning_gym.utils import extract_answer

        answer = extract_answer(response_text)
        return None if answer is None else " ".join(answer.lower().split())

    def _entries(self, split: Split, numbers: Any) -> list[dict[str, Any]]:
        seed, size = self._sets[split]
        return self._call("problems", self._gym, seed, size, list(numbers), seconds=self._seconds)

    def _call(self, *arguments: Any, seconds: float | None = None) -> Any:
        try:
            return self._pool.call(*arguments, seconds=seconds)
        except NotLoadedError as error:
            raise ScopeError(
                f"task.reasoning_gym.dataset={self._gym.dataset!r} cannot be made ready in its own process: {error}. "
                "task.verifier.load_seconds is the longest time that it may take."
            ) from error

    def _problem(self, entry: dict[str, Any]) -> Problem:
        question = entry["question"]
        return Problem(self._identity(question), question + self._instruction, {"entry": entry})

    @staticmethod
    def _identity(question: str) -> str:
        return hashlib.blake2b(question.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()


_made: dict[tuple[str, int, int], Any] = {}
"""in a process of the pool: the data sets by configuration, seed and size"""


def work(action: Literal["import", "problems", "score"], gym: GymConfig, *arguments: Any) -> Any:
    """What a process of the pool does: `problems` generates, `score` grades, `import` only imports.

    Raises ScopeError for an unknown data set, and what reasoning-gym raises.
    """
    require_known(gym)
    if action == "problems":
        seed, size, numbers = arguments
        return [_entry(dataset_of(gym, seed, size), number) for number in numbers]
    return score(gym, *arguments) if action == "score" else None


def require_known(gym: GymConfig) -> None:
    """Raise ScopeError if reasoning-gym is not installed or does not have the data set."""
    try:
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise ScopeError(
            "task.name='reasoning_gym' needs the package reasoning-gym: pip install 'scope-rl-service[cpu]', or [gpu] "
            f"({cause_of(error)})"
        ) from error
    if gym.dataset not in DATASETS:
        near = difflib.get_close_matches(gym.dataset, DATASETS, n=3, cutoff=0.3) or sorted(DATASETS)[:3]
        raise ScopeError(
            f"task.reasoning_gym.dataset={gym.dataset!r} is not one of reasoning-gym's {len(DATASETS)} data sets. "
            f"Nearest: {', '.join(near)}."
        )


def dataset_of(gym: GymConfig, seed: int, size: int) -> Any:
    """The data set, made once. Raises what reasoning-gym raises for its options."""
    import reasoning_gym

    key = gym.model_dump_json(), seed, size
    if key not in _made:
        _made[key] = reasoning_gym.create_dataset(gym.dataset, seed=seed, size=size, **gym.options)
    return _made[key]


def score(gym: GymConfig, entry: dict[str, Any], response: str) -> float | None:
    """The score of a response; None without an <answer>. Raises what the data set raises, and for no finite number."""
    from reasoning_gym.utils import extract_answer

    answer = extract_answer(response)
    if answer is None:
        return None
    return as_number(dataset_of(gym, 0, 1).score_answer(answer, entry))


def _entry(dataset: Any, number: int) -> dict[str, Any]:
    entry = dataset[number]
    if not isinstance(entry.get("question"), str):
        raise TypeError(f"question {number} is no text")
    return entry
