"""From a verdict to a reward: the weight of the format, and the loss of responses that grow too long."""

from __future__ import annotations

from dataclasses import replace

from trainer.config_task import RewardConfig
from trainer.tasks.base import Verdict


def shape(verdict: Verdict, tokens: int, config: RewardConfig, max_new_tokens: int) -> Verdict:
    """`verdict` with its reward shaped; unchanged where nothing is configured.

    tokens: length of the response. The reward is (1 - w) R + w F for a format component F, then falls linearly from
    `overlong_from` tokens to 1 - `overlong_penalty` of itself at `max_new_tokens`.
    """
    weight = config.format_weight if "format" in verdict.components else 0.0
    reward = (1 - weight) * verdict.reward + weight * verdict.components.get("format", 0.0)
    if config.overlong_from is not None and tokens > config.overlong_from:
        room = max(max_new_tokens - config.overlong_from, 1)
        reward *= 1 - config.overlong_penalty * min((tokens - config.overlong_from) / room, 1.0)
    return verdict if reward == verdict.reward else replace(verdict, reward=reward)
