"""From a verdict to a reward: the weight of the format, and what responses lose that grow too long."""

from __future__ import annotations

from dataclasses import replace

from trainer.config.task import RewardConfig
from trainer.tasks.base import Verdict


def shape(verdict: Verdict, tokens: int, config: RewardConfig, max_new_tokens: int) -> Verdict:
    """`verdict` with its reward shaped; unchanged where nothing is configured.

    tokens: length of the response. The reward is (1 - w) R + w F for a format component F. With x growing linearly from
    0 at `overlong_from` tokens to 1 at `max_new_tokens`, it then loses x `overlong_penalty`, of itself or as such, and
    `length_penalty` for each 1,000 tokens beyond `length_free`. What is subtracted as such is 1 at most: rewards lie in
    [-1, 1], and in [0, 1] with `overlong_form` "share" and no `length_penalty`.
    """
    weight = config.format_weight if "format" in verdict.components else 0.0
    reward = (1 - weight) * verdict.reward + weight * verdict.components.get("format", 0.0)
    lost = 0.0
    if config.overlong_from is not None and tokens > config.overlong_from:
        room = max(max_new_tokens - config.overlong_from, 1)
        overlong = config.overlong_penalty * min((tokens - config.overlong_from) / room, 1.0)
        if config.overlong_form == "share":
            reward *= 1 - overlong
        else:
            lost += overlong
    if config.length_free is not None and tokens > config.length_free:
        lost += config.length_penalty * (tokens - config.length_free) / 1000
    reward -= min(lost, 1.0)
    return verdict if reward == verdict.reward else replace(verdict, reward=reward)
