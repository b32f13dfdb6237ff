"""The step record: defined once, written to JSONL, `ray.util.metrics`, loggers and the run's status.

Field names here are the names everywhere. Quantities are per learner step unless they say otherwise; seconds are
wall clock; log-quantities are nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args, get_origin

import msgspec

MISMATCH_KL_ALARM = 0.02
STALE_KL_ALLOWANCE = 0.1
"""Nats per token. On-policy, engine and trainer must agree; each step of staleness adds the policy's own movement."""


def mismatch_kl_limit(max_staleness: int) -> float:
    """Mismatch KL in nats per token, above which a step record carries an alarm."""
    return MISMATCH_KL_ALARM + STALE_KL_ALLOWANCE * max_staleness


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One learner step."""

    step: int
    """index of the step, from 0; its update makes policy version `step + 1`"""
    lineage: int
    at: float
    """seconds since the epoch, at the end of the step"""

    entropy: float
    """policy entropy before the update: exact, temperature 1, base rollouts, nats per token"""
    generator_entropy: float
    """-mean behaviour log-probability of base rollouts, nats per token"""
    entropy_target: float | None
    """in force at this step, nats per token; None where nothing steers towards it, and while `auto` is not measured"""
    entropy_target_generation: int
    starting_entropy: float | None = None
    """of the run's first learner step, nats per token; the same in every record"""
    reference: float | None
    """what the law steers towards: the entropy target after its ramp, nats per token"""
    temperature: float
    alpha: float
    surprisal_exponent: float
    """actuators in force for this step's loss and for rollouts that began before its end"""
    sampling_temperature: float | None
    """mean temperature that this step's adaptive rollouts were really sampled at"""
    next_temperature: float
    next_alpha: float
    saturated: bool
    """the law asked for more than its actuators have"""
    regularizer_strength: float
    """main parameter of the regularizer in this step's loss: coefficient, share, half-width or error, see its file"""

    reward: float
    """mean reward of base rollouts"""
    adaptive_reward: float | None
    positives: int
    """rewarded adaptive rollouts"""
    response_length: float
    truncated_share: float
    """share of rollouts cut off at the length limit"""

    surrogate: float
    auxiliary: float
    clip_fraction: float
    gradient_norm: float
    learning_rate: float | None = None
    """in force for the step's updates"""
    reference_kl: float | None = None
    """KL(policy ‖ starting policy) on base tokens before the update, nats per token; None without a reference"""
    mismatch_kl_base: float
    mismatch_kl_adaptive: float
    ratio_deviation_base: float
    ratio_deviation_adaptive: float
    """largest |proximal / behaviour - 1| over tokens"""

    staleness: dict[int, int]
    """learner steps between a rollout's oldest token and this step → rollouts"""
    spanning_rollouts: int
    """rollouts sampled from more than one policy version"""
    missing_groups: int
    """groups of this step that were dead-lettered"""
    uniform_groups: int = 0
    """base groups of this step whose rewards are all equal: they have no gradient"""
    refilled_groups: int = 0
    """base groups that generators made again of another problem since the last step, by their heartbeats"""
    mixture_shares: dict[str, float] = {}
    mixture_pass_rates: dict[str, float] = {}
    """by part of a mixture with a curriculum, before this step was measured: share of the prompts that are decided
    from there on, and smoothed pass rate"""
    queue_unread: int
    queue_pending: int
    groups: int
    """groups this step consumed"""
    produced: int
    acknowledged: int
    duplicates: int
    dead_lettered: int
    """groups, totals since the run began"""

    tokens: int
    """response tokens consumed"""
    generated_tokens: int
    """response tokens of every role that generators sampled since the last step, by their heartbeats; used or not"""
    padding_share: float
    """share of the learner's forward-pass tokens that were padding, before prompts are shared"""
    token_imbalance: float = 1.0
    """tokens of the learner rank that has most over the mean of the ranks"""
    step_seconds: float
    wait_seconds: float
    """rank 0 waiting for a full batch"""
    batch_seconds: float
    learn_seconds: float
    publish_seconds: float
    checkpoint_seconds: float
    learner_tokens_per_second: float
    weight_bytes: int
    weight_load_seconds: float | None
    """mean over the loads that generators finished during the step"""
    generators_alive: dict[str, int]
    """role → generators with a recent heartbeat, least seen during the step"""
    generator_restarts: int
    """since the driver started"""
    learner_restarts: int = 0
    """since the driver started"""
    generator_tokens_per_second: dict[str, float]
    """role → response tokens a second, over the time since the last step"""
    generator_busy_share: dict[str, float]
    """role → share of time with rollouts in flight"""
    generator_loading_share: dict[str, float]
    evaluation: dict[str, float] | None = None
    """`step` and `pass@k` of the evaluation during training whose results came in during this step; None: none came"""
    alarms: list[str]


MAPS_OF_COUNTS = frozenset(
    field.name
    for field in msgspec.structs.fields(StepRecord)
    if get_origin(field.type) is dict and get_args(field.type)[1] is int
)
"""Maps of the record in which a key that is absent counts 0."""


def flatten(record: Mapping[str, Any]) -> dict[str, float]:
    """Numeric fields by name, maps as `name/key`; what has no value is left out."""
    flat: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{key}": float(entry) for key, entry in value.items()}
        elif isinstance(value, bool | int | float) and math.isfinite(value):
            flat[name] = float(value)
    return flat
