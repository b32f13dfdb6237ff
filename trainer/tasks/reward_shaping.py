"""Reward shaping: the weight of the format, and penalties on long responses."""

from __future__ import annotations

from dataclasses import replace

from trainer.config.task import RewardConfig
from trainer.tasks.base import Verdict


def shape(verdict: Verdict, tokens: int, config: RewardConfig, max_new_tokens: int) -> Verdict:
    """`verdict` with the shaped reward; unchanged without a score, and if no shaping is configured.

    tokens: length of the response. The reward is (1 - w) R + w F with weight w of the format component F. Let x grow
    linearly from 0 at `overlong_from` tokens to 1 at `max_new_tokens`: the reward then loses x `overlong_penalty`, as a
    share ("share") or absolutely ("additive"), and `length_penalty` per 1,000 tokens beyond `length_free`. Absolute
    losses are at most 1 in total, so rewards are in [-1, 1], and in [0, 1] with "share" and no `length_penalty`.
    """
    if verdict.unscored is not None:
        return verdict
    weight = config.format_weight if "format" in verdict.components else 0.0
    reward = (1 - weight) * verdict.reward + weight * verdict.components.get("format", 0.0)
    lost = 0.0
    if config.overlong_from is not None and tokens > config.overlong_from:
        span = max(max_new_tokens - config.overlong_from, 1)
        overlong = config.overlong_penalty * min((tokens - config.overlong_from) / span, 1.0)
        if config.overlong_form == "share":
            reward *= 1 - overlong
        else:
            lost += overlong
    if config.length_free is not None and tokens > config.length_free:
        lost += config.length_penalty * (tokens - config.length_free) / 1000
    reward -= min(lost, 1.0)
    return verdict if reward == verdict.reward else replace(verdict, reward=reward)
