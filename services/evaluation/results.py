"""The results of an evaluation: a JSON line for each problem, from which an interrupted evaluation continues."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from services.evaluation.plan import EvaluationPlan
from services.records.jsonl import read_lines
from trainer.errors import ScopeError
from trainer.files import write_atomically
from trainer.rollouts.rewards import FULL_REWARD

PLAN, RESULT, PARTS = "plan.json", "evaluation.json", "parts"


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """One sampled response and the task's verdict on it."""

    text: str
    tokens: int
    """tokens that the policy sampled, with the end-of-sequence token of each turn"""
    finish: str
    """`stop`, or `length` when it was truncated"""
    reward: float
    verdict: str
    answer: str | None
    """the final answer as the task reads it (from the last turn), for the majority vote; None without one"""
    unscored: str | None = None
    """why the verifier gave no score; the response is then not correct"""
    success: bool | None = None
    """whether it is a success by `task.positive_from`; None in older files, where a reward of 1 is"""

    @property
    def correct(self) -> bool:
        """Whether it is a success."""
        return self.reward >= FULL_REWARD if self.success is None else self.success


class ProblemResult(msgspec.Struct, frozen=True, kw_only=True):
    """The responses to one problem."""

    task: str
    index: int
    """index among the task's held-out problems"""
    problem_id: str
    prompt: str
    responses: list[Response]

    @property
    def correct(self) -> int:
        """Number of correct responses."""
        return sum(response.correct for response in self.responses)


class ResultsFolder:
    """The output directory of one evaluation."""

    def __init__(self, path: Path, plan: EvaluationPlan) -> None:
        """Open or create it. Raises ScopeError when it belongs to another plan or has other contents."""
        self.path = path
        if os.path.lexists(path) and not path.is_dir():
            raise ScopeError(f"--out {path} is not a directory; choose another --out.")
        stored = path / PLAN
        if stored.is_file():
            try:
                known = msgspec.json.decode(stored.read_bytes(), type=EvaluationPlan)
            except msgspec.DecodeError as error:
                raise ScopeError(f"{stored} cannot be read: {error}. Choose another --out.") from error
            if known != plan:
                raise ScopeError(
                    f"--out {path} holds an evaluation with another {_difference(known, plan)}. "
                    "Choose another --out, or move it aside."
                )
            return
        if path.exists() and any(path.iterdir()):
            raise ScopeError(f"--out {path} is not empty and holds no evaluation; choose another --out.")
        (path / PARTS).mkdir(parents=True, exist_ok=True)
        write_atomically(stored, msgspec.json.encode(plan))

    def new_part(self, engine: int) -> Path:
        """Create a new part file for an engine's results."""
        (self.path / PARTS).mkdir(exist_ok=True)
        taken = len(list((self.path / PARTS).glob("*.jsonl")))
        part = self.path / PARTS / f"{taken:04d}-engine-{engine}.jsonl"
        part.touch(exist_ok=False)
        return part

    def results(self) -> dict[tuple[str, int], ProblemResult]:
        """Return the result of every finished problem, by task and index; ignores an incomplete last line."""
        files = sorted(self.path.glob("*.jsonl")) + sorted((self.path / PARTS).glob("*.jsonl"))
        return {(r.task, r.index): r for path in files for r in read_results(path)}

    def settle(self, plan: EvaluationPlan) -> None:
        """Replace the part files by one file for each task, with its problems in order."""
        found = self.results()
        for task in plan.tasks:
            ours = sorted((r for r in found.values() if r.task == task.label), key=lambda r: r.index)
            lines = b"".join(msgspec.json.encode(r) + b"\n" for r in ours)
            write_atomically(self.path / f"{task.label}.jsonl", lines)
        for part in (self.path / PARTS).glob("*"):
            part.unlink()
        (self.path / PARTS).rmdir()


def read_results(path: Path) -> list[ProblemResult]:
    """Read a results file; an incomplete last line is ignored."""
    return [msgspec.json.decode(line, type=ProblemResult) for line in read_lines(path)]


def _difference(known: EvaluationPlan, plan: EvaluationPlan) -> str:
    """Describe the first difference between two plans."""
    if (known.model, known.model_files) != (plan.model, plan.model_files):
        return f"model ({known.model}, or the same with other files)"
    for name in plan.sampling.__struct_fields__:
        before, now = getattr(known.sampling, name), getattr(plan.sampling, name)
        if before != now:
            return f"{name} ({before}, now {now})"
    labels = [task.label for task in known.tasks]
    if labels != [task.label for task in plan.tasks]:
        return f"list of tasks ({', '.join(labels)})"
    return "configuration of its tasks"
