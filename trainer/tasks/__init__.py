"""Tasks by name: the first box of the picture. To add one, write its file and add a line to `_TASKS`."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from trainer.config import TaskConfig
from trainer.errors import ScopeError
from trainer.tasks.base import NO_END, Problem, Task, TaskWithSolutions, Verdict, Vocabulary
from trainer.tasks.countdown import Countdown
from trainer.tasks.countdown_cot import CountdownCot

__all__ = ["NO_END", "Problem", "Task", "TaskWithSolutions", "Verdict", "Vocabulary", "make_task"]

_TASKS: dict[str, Callable[[TaskConfig], Task]] = {"countdown": Countdown, "countdown_cot": CountdownCot}


def make_task(config: TaskConfig) -> Task:
    """The task that `config.name` registers; raises ScopeError for a name that is not registered."""
    if config.name not in _TASKS:
        near = difflib.get_close_matches(config.name, _TASKS, n=3, cutoff=0.4) or sorted(_TASKS)
        raise ScopeError(
            f"task.name={config.name!r} is not a task. Nearest valid names: {', '.join(near)}; "
            f"all valid names: {', '.join(sorted(_TASKS))}."
        )
    return _TASKS[config.name](config)
