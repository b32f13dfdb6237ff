"""The learning rate of a learner step: linear warm-up, then constant, linear or cosine.

A pure function of the step, so a run that is resumed or rolled back has the same rates.
"""

from __future__ import annotations

import math

from trainer.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """The learning rate of learner step `step` (from 0) in a run of `steps` steps.

    During the warm-up it is (step + 1) / (warmup_steps + 1) of `learning_rate`. A linear or cosine schedule then falls
    to `final_share` of `learning_rate` at step `decay_steps` (by default `steps`) and stays there.
    """
    warm = config.learning_rate * min(1.0, (step + 1) / (config.warmup_steps + 1))
    if config.schedule == "constant":
        return warm
    end = config.decay_steps or steps
    progress = min(max(step - config.warmup_steps, 0) / (end - config.warmup_steps), 1.0)
    left = 1 - progress if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return warm * (config.final_share + (1 - config.final_share) * left)
