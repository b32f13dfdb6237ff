"""The problem of each ordinal of the data cursor: in the stream's order, at a refill, or from a curriculum's mix.

Pure functions of the configuration and the curriculum's mixes, so that every generator, in every incarnation, samples
the same problem for an ordinal.
"""

from __future__ import annotations

from trainer.config import RunConfig
from trainer.rollouts.curriculum import StepMix
from trainer.tasks import Problem, Task
from trainer.tasks.mixture import Mixture


def problem_at(
    task: Task,
    config: RunConfig,
    ordinal: int,
    attempt: int = 0,
    mix: StepMix | None = None,
    *,
    further: int = 0,
) -> Problem:
    """The training problem of `ordinal` at refill `attempt` of its group; 0: the first problem.

    mix: of the ordinal's learner step, where `task.curriculum` decides it; further: how many problems to go on from
    there, within the part of a mixture. Refills take problems of the same stream (with a curriculum, of the same part),
    each an equal share of the stream further on. So first problems come in the same order with and without refills, and
    no problem repeats before the cursor has passed that share.

    Raises TypeError for a mix with a task that is not a mixture.
    """
    start = config.data_position(0)
    if mix is None:
        place = start + ordinal + refill_offset(attempt, config.rollout.refills, task.train_size)
        if further and isinstance(task, Mixture):
            part, within = task.place(place)
            return task.part_problem(part, within + further)
        return task.train_problem(place + further)
    if not isinstance(task, Mixture):
        raise TypeError(f"a curriculum needs a mixture, not {task.name}")
    part, within = mix.place(ordinal % config.rollout.prompts_per_step)
    offset = refill_offset(attempt, config.rollout.refills, task.part_size(part))
    return task.part_problem(part, start + within + offset + further)


def refill_offset(attempt: int, refills: int, size: int) -> int:
    """Distance to refill `attempt` of an ordinal's problem, in a stream of `size` problems with at most `refills`."""
    return attempt * -(-size // (refills + 1))
