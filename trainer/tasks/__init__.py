"""Tasks: prompts, verifiers and rewards, chosen by `task.name`.

To add a built-in task, write its module and add a line to `_TASKS`. For your own task, set `task.name` to
`module:object`, a callable that makes a `Task` from its configuration, and `task.folder` to the module's folder.
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
    Message,
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
from trainer.tasks.failure import cause_of
from trainer.tasks.import_reference import load_reference
from trainer.tasks.mixture import Mixture
from trainer.tasks.number_guess import NumberGuess
from trainer.tasks.reasoning_gym import ReasoningGym

__all__ = [
    "NO_END",
    "Environment",
    "Message",
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
    """The task named `config.name`. Raises ScopeError if there is none, or if it cannot be created."""
    if config.name == "mixture":
        parts = [_single(part) for part in config.mixture]
        if any(isinstance(part, Environment) for part in parts):
            raise ScopeError(
                "a part of task.mixture is a task of several turns (number_guess, calculator, or your own), which "
                "cannot be part of a mixture: set it as task.name."
            )
        return Mixture(parts, [part.weight for part in config.mixture])
    return _single(config)


def _single(config: SingleTaskConfig) -> Task:
    if ":" in config.name:
        make = load_reference(config.name, config.folder, "task.name")
        try:
            task = make(config)
        except ScopeError:
            raise
        except Exception as error:
            raise ScopeError(f"task.name={config.name!r} cannot be made: {cause_of(error)}") from error
        if not isinstance(task, Task):
            raise ScopeError(
                f"task.name={config.name!r} gives a {type(task).__name__}, which is not a task: a task has name, "
                "train_size, heldout_size, train_problem, heldout_problem and verify (trainer/tasks/base.py)."
            )
        return task
    if config.name not in _TASKS:
        known = [*_TASKS, "mixture"]
        near = difflib.get_close_matches(config.name, known, n=3, cutoff=0.4) or sorted(known)
        raise ScopeError(
            f"task.name={config.name!r} is not a task. Nearest valid names: {', '.join(near)}; "
            f"all valid names: {', '.join(sorted(known))}, or module:object for your own task."
        )
    return _TASKS[config.name](config)
