"""Tasks: prompts, verifiers and rewards, chosen by `task.name`. To add one, add its class to `_TASKS`.

A task of your own needs neither: `task.name` may be `module:object`, for anything that makes a `Task` of its
configuration, and `task.folder` is where the module is.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from trainer.config.task import SingleTaskConfig, TaskConfig
from trainer.errors import ScopeError
from trainer.tasks.base import (
    NO_END,
    Environment,
    Problem,
    Task,
    TaskWithAnswers,
    TaskWithNotes,
    TaskWithSolutions,
    Verdict,
    Vocabulary,
)
from trainer.tasks.calculator import Calculator
from trainer.tasks.countdown.chain_of_thought import CountdownCot
from trainer.tasks.countdown.task import Countdown
from trainer.tasks.datasets.task import Dataset
from trainer.tasks.import_reference import load_reference
from trainer.tasks.mixture import Mixture
from trainer.tasks.number_guess import NumberGuess
from trainer.tasks.reasoning_gym import ReasoningGym

__all__ = [
    "NO_END",
    "Environment",
    "Problem",
    "Task",
    "TaskWithAnswers",
    "TaskWithNotes",
    "TaskWithSolutions",
    "Verdict",
    "Vocabulary",
    "make_task",
]

_TASKS: dict[str, Callable[[Any], Task]] = {
    "calculator": Calculator,
    "countdown": Countdown,
    "countdown_cot": CountdownCot,
    "dataset": Dataset,
    "number_guess": NumberGuess,
    "reasoning_gym": ReasoningGym,
}


def make_task(config: TaskConfig) -> Task:
    """The task that `config.name` says; raises ScopeError for one that there is not, or that cannot be made."""
    if config.name == "mixture":
        parts = [_single(part) for part in config.mixture]
        if any(isinstance(part, Environment) for part in parts):
            raise ScopeError(
                "a part of task.mixture takes several turns (number_guess, calculator, or one of your own); "
                "such a task runs alone, as task.name."
            )
        return Mixture(parts, [part.weight for part in config.mixture])
    return _single(config)


def _single(config: SingleTaskConfig) -> Task:
    if ":" in config.name:
        task = load_reference(config.name, config.folder, "task.name")(config)
        if not isinstance(task, Task):
            raise ScopeError(
                f"task.name={config.name!r} made a {type(task).__name__}, which is no task: a task has name, "
                "train_size, heldout_size, train_problem, heldout_problem and verify (trainer/tasks/base.py)."
            )
        return task
    if config.name not in _TASKS:
        known = [*_TASKS, "mixture"]
        near = difflib.get_close_matches(config.name, known, n=3, cutoff=0.4) or sorted(known)
        raise ScopeError(
            f"task.name={config.name!r} is not a task. Nearest valid names: {', '.join(near)}; "
            f"all valid names: {', '.join(sorted(known))}, or module:object for one of your own."
        )
    return _TASKS[config.name](config)
