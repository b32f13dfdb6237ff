"""A sampled rollout with plausible values."""

from __future__ import annotations

from services.records.sampled_rollouts import SampledRollout


def rollout(step: int, **changed) -> SampledRollout:
    fields = {
        "step": step,
        "lineage": 1,
        "role": "base",
        "group_id": f"base:{step}:0",
        "index": 0,
        "problem_id": "p",
        "prompt": "1 2=3:",
        "temperature": 1.0,
        "reward": 1.0,
        "verdict": "correct",
        "finish": "stop",
        "length": 3,
        "tokens": ["1", "+", "2"],
        "logprobs": [-0.1, -2.5, -0.01],
    }
    fields |= changed
    return SampledRollout.model_validate({"correct": fields["reward"] >= 1} | fields)
