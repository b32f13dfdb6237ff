"""A mixture of tasks, whose prompts are interleaved by weight."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.tasks.base import (
    Problem,
    Task,
    TaskWithAnswers,
    TaskWithIdentities,
    TaskWithNotes,
    Verdict,
)


class Mixture:
    """Each position of the training stream belongs to the part that is furthest behind its share; deterministic.

    Held-out problems are those of the first part, then of the second, and so on. No part trains on held-out problems of
    another, if both are `TaskWithIdentities`.
    """

    name = "mixture"

    def __init__(self, tasks: Sequence[Task], weights: Sequence[float]) -> None:
        """Raises ScopeError if held-out problems of the other parts leave a part without training problems."""
        self._tasks = tasks
        _separate(tasks)
        self._round = _round(weights)
        self._before = [
            [sum(1 for earlier in self._round[:i] if earlier == part) for part in range(len(tasks))]
            for i in range(len(self._round) + 1)
        ]
        self.train_size = len(self._round) * max(
            -(-task.train_size // max(self._round.count(part), 1)) for part, task in enumerate(tasks)
        )
        self.heldout_size = sum(task.heldout_size for task in tasks)

    @property
    def notes(self) -> Sequence[str]:
        """The notes of the parts."""
        return [
            f"part {part} of task.mixture: {note}"
            for part, task in enumerate(self._tasks)
            if isinstance(task, TaskWithNotes)
            for note in task.notes
        ]

    def train_problem(self, i: int) -> Problem:
        """Training problem at position `i`; raises IndexError for a negative one."""
        return self.part_problem(*self.place(i))

    def place(self, i: int) -> tuple[int, int]:
        """The part of position `i`, and the position in its stream; raises IndexError for a negative one."""
        if i < 0:
            raise IndexError(f"training position {i} is negative")
        rounds, place = divmod(i, len(self._round))
        part = self._round[place]
        return part, rounds * self._before[-1][part] + self._before[place][part]

    @property
    def parts(self) -> Sequence[Task]:
        """The tasks that are mixed."""
        return self._tasks

    def part_problem(self, part: int, i: int) -> Problem:
        """Training problem at position `i` of the stream of a part."""
        return self._of(part, self._tasks[part].train_problem(i))

    def part_size(self, part: int) -> int:
        """Positions after which the training stream of a part repeats."""
        return self._tasks[part].train_size

    @staticmethod
    def part_of(problem_id: str) -> int:
        """The part of a problem, from its id; -1 if the id is not of a mixture."""
        part = problem_id.partition(":")[0]
        return int(part) if part.isascii() and part.isdigit() and len(part) < 6 else -1

    def heldout_problem(self, i: int) -> Problem:
        """Held-out problem `i`; raises IndexError outside [0, heldout_size)."""
        if i >= 0:
            left = i
            for part, task in enumerate(self._tasks):
                if left < task.heldout_size:
                    return self._of(part, task.heldout_problem(left))
                left -= task.heldout_size
        raise IndexError(f"held-out problem {i} is not in 0..{self.heldout_size - 1}")

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        """The verdict of the problem's part."""
        inner: Problem = problem.data["problem"]
        return self._tasks[problem.data["part"]].verify(inner, response_text)

    def final_answer(self, problem: Problem, response_text: str) -> str | None:
        """The answer according to the problem's part; None if the part cannot extract answers."""
        task, inner = self._tasks[problem.data["part"]], problem.data["problem"]
        return task.final_answer(inner, response_text) if isinstance(task, TaskWithAnswers) else None

    @staticmethod
    def _of(part: int, problem: Problem) -> Problem:
        data = {"part": part, "problem": problem}
        return Problem(f"{part}:{problem.id}", problem.prompt, data, problem.messages)


def _separate(tasks: Sequence[Task]) -> None:
    """Remove from each part's training problems what other parts hold out."""
    knowing = [task for task in tasks if isinstance(task, TaskWithIdentities)]
    heldout = [frozenset(task.heldout_ids) for task in knowing]
    for i, task in enumerate(knowing):
        task.leave_out(frozenset().union(*heldout[:i], *heldout[i + 1 :]))


ROUND = 100
"""prompts per round, in which every part has its share to within one"""


def _round(weights: Sequence[float]) -> list[int]:
    """The part of each position in a round: the one furthest behind its share, the first on a tie."""
    total, given, order = sum(weights), [0] * len(weights), []
    for place in range(1, ROUND + 1):
        behind = [place * weight / total - count for weight, count in zip(weights, given, strict=True)]
        part = behind.index(max(behind))
        given[part] += 1
        order.append(part)
    return order
