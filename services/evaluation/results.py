"""What an evaluation leaves: a JSON line for each problem, and how a killed one finds those that are done."""

from __future__ import annotations

from pathlib import Path

import msgspec

from services.evaluation.plan import EvaluationPlan
from services.records.jsonl import read_lines
from trainer.errors import ScopeError
from trainer.files import write_atomically

PLAN, RESULT, PARTS = "plan.json", "evaluation.json", "parts"


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """One sampled response and what the task says of it."""

    text: str
    tokens: int
    """that the policy sampled, the end token of each turn included"""
    finish: str
    """`stop`, or `length` where it was cut off"""
    reward: float
    verdict: str
    answer: str | None
    """as the task reads it, of several turns in the last, for the majority; None where there is none"""

    @property
    def correct(self) -> bool:
        """Rewarded in full."""
        return self.reward >= 1


class ProblemResult(msgspec.Struct, frozen=True, kw_only=True):
    """One problem."""

    task: str
    index: int
    """among the task's held-out problems"""
    problem_id: str
    prompt: str
    responses: list[Response]

    @property
    def correct(self) -> int:
        """Correct responses."""
        return sum(response.correct for response in self.responses)


class ResultsFolder:
    """The output directory of one evaluation."""

    def __init__(self, path: Path, plan: EvaluationPlan) -> None:
        """Open it for the plan. Raises ScopeError when it belongs to another plan or holds something else."""
        self.path = path
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
        """A file for an engine's results that nobody has written to."""
        (self.path / PARTS).mkdir(exist_ok=True)
        taken = len(list((self.path / PARTS).glob("*.jsonl")))
        part = self.path / PARTS / f"{taken:04d}-engine-{engine}.jsonl"
        part.touch(exist_ok=False)
        return part

    def results(self) -> dict[tuple[str, int], ProblemResult]:
        """Every problem that is done, by task and index. A line that was not finished is left out."""
        files = sorted(self.path.glob("*.jsonl")) + sorted((self.path / PARTS).glob("*.jsonl"))
        return {(r.task, r.index): r for path in files for r in read_results(path)}

    def settle(self, plan: EvaluationPlan) -> None:
        """One file for each task, in order, in place of the parts of engines."""
        found = self.results()
        for task in plan.tasks:
            ours = sorted((r for r in found.values() if r.task == task.label), key=lambda r: r.index)
            lines = b"".join(msgspec.json.encode(r) + b"\n" for r in ours)
            write_atomically(self.path / f"{task.label}.jsonl", lines)
        for part in (self.path / PARTS).glob("*"):
            part.unlink()
        (self.path / PARTS).rmdir()


def read_results(path: Path) -> list[ProblemResult]:
    """The whole lines of a file."""
    return [msgspec.json.decode(line, type=ProblemResult) for line in read_lines(path)]


def _difference(known: EvaluationPlan, plan: EvaluationPlan) -> str:
    """The first thing that differs, in words."""
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
