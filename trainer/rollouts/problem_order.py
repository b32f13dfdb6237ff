"""Which problem each place of the data cursor gets: in the stream's order, refilled, or from a mixture that changes.

All pure functions of the configuration and of what the learner measured before, so that every generator, in every
incarnation, makes a group of the same problem.
"""

from __future__ import annotations

from trainer.config import RunConfig
from trainer.rollouts.curriculum import StepMix
from trainer.tasks import Problem, Task
from trainer.tasks.mixture import Mixture


def problem_at(
    task: Task, config: RunConfig, ordinal: int, attempt: int = 0, mix: StepMix | None = None
) -> Problem:
    """The training problem of `ordinal`, at the `attempt`-th refill of its group; attempt 0 is the first.

    mix: of the ordinal's learner step, where `task.curriculum` decides it. Refills come from the same stream (with a
    curriculum of the same part), an equal share of it further on for each: the order of first attempts is the same
    with refills and without, and no problem comes twice before the stream has come that far.
    """
    start = config.data_position(0)
    if mix is None:
        size, place = task.train_size, start + ordinal
        return task.train_problem(place + refill_offset(attempt, config.rollout.refills, size))
    if not isinstance(task, Mixture):
        raise TypeError(f"a curriculum needs a mixture, not {task.name}")
    part, within = mix.place(ordinal % config.rollout.prompts_per_step)
    offset = refill_offset(attempt, config.rollout.refills, task.part_size(part))
    return task.part_problem(part, start + within + offset)


def refill_offset(attempt: int, refills: int, size: int) -> int:
    """How far from a place in a stream of `size` problems its `attempt`-th refill lies, of at most `refills`."""
    return attempt * -(-size // (refills + 1))
