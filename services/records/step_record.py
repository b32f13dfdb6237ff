"""The step record: what a learner step reports to `steps.jsonl`, Redis, `ray.util.metrics`, loggers and the page.

The field names are the same in all of them. Quantities are per learner step unless stated otherwise; seconds are wall
clock; log-probabilities, entropies and KL divergences are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args, get_origin

import msgspec

from services.records.alarms import AlarmKind

MISMATCH_KL_ALARM = 0.02
STALE_KL_ALLOWANCE = 0.1
"""nats per token: on-policy, engine and trainer agree up to the first; each step of staleness adds the second"""


def mismatch_kl_limit(max_staleness: int) -> float:
    """The mismatch KL above which a step record carries an alarm, nats per token."""
    return MISMATCH_KL_ALARM + STALE_KL_ALLOWANCE * max_staleness


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One learner step."""

    step: int
    """index from 0; its update produces policy version `step + 1`"""
    lineage: int
    at: float
    """seconds since the epoch, at the end of the step"""

    entropy: float
    """policy entropy before the update: exact, at temperature 1, on base rollouts, nats per token"""
    entropy_error: float | None = None
    """standard error of `entropy` over prompts, nats per token; None with fewer than two"""
    generator_entropy: float
    """negative mean behaviour log-probability of base rollouts, nats per token"""
    entropy_target: float | None
    """target in force at this step, nats per token; None without entropy control, or until `auto` is measured"""
    entropy_target_generation: int
    starting_entropy: float | None = None
    """entropy at the run's first learner step, nats per token; the same in every record"""
    reference: float | None
    """reference of the control law: the entropy target with its ramp, nats per token"""
    temperature: float
    alpha: float
    surprisal_exponent: float
    """actuators of this step's loss and of rollouts that begin before its end"""
    sampling_temperature: float | None
    """mean temperature at which this step's adaptive rollouts were sampled"""
    next_temperature: float
    next_alpha: float
    saturated: bool
    """whether the control law was at the limit of its actuators"""
    regularizer_strength: float
    """main parameter of the regularizer in this step's loss: coefficient, share, half-width or error"""

    reward: float
    """mean reward of base rollouts"""
    adaptive_reward: float | None
    positives: int
    """rewarded adaptive rollouts, whose log-probability the auxiliary loss raises"""
    auxiliary_positives: int = 0
    """rollouts that the auxiliary loss learns from, base ones among them with `entropy_control.positives_from` = all"""
    auxiliary_effective: float = 0.0
    """their effective number, (sum w)^2 / sum w^2 over their weights w"""
    auxiliary_largest_share: float = 0.0
    """share of the largest weight in the sum"""
    auxiliary_length: float = 0.0
    auxiliary_weighted_length: float = 0.0
    """their mean length, tokens: plain, and weighted as in the loss; 0 without any"""
    response_length: float
    truncated_share: float
    """share of rollouts truncated at the length limit"""

    surrogate: float
    auxiliary: float
    clip_fraction: float
    clamped_tokens: int = 0
    """tokens of which a log-ratio in the loss is beyond ±20 nats, summed over the updates"""
    gradient_norm: float
    learning_rate: float | None = None
    """learning rate of the step's updates"""
    reference_kl: float | None = None
    """KL(policy ‖ starting policy) on base tokens before the update, nats per token; None without a reference"""
    mismatch_kl_base: float
    mismatch_kl_adaptive: float
    ratio_deviation_base: float
    ratio_deviation_adaptive: float
    """largest |proximal / behaviour - 1| over tokens"""

    staleness: dict[int, int]
    """staleness (learner steps between a rollout's oldest token and this step) → number of rollouts"""
    spanning_rollouts: int
    """rollouts sampled from more than one policy version"""
    missing_groups: int
    """groups missing from this step because they were dead-lettered"""
    uniform_groups: int = 0
    """base groups of this step with equal rewards, which give no gradient"""
    unscored_rollouts: int = 0
    """rollouts of this step to which the verifier gave no score; they count in no statistic and no loss"""
    unscored_causes: dict[str, int] = {}
    """why, in short → number of rollouts; at most `services.learner.recorder.MOST_CAUSES` and `other`"""
    unscored_example: str = ""
    """the commonest cause in full; empty where every rollout has a score"""
    refilled_groups: int = 0
    """base groups replaced by one of another problem since the last step, from generator heartbeats"""
    mixture_shares: dict[str, float] = {}
    mixture_pass_rates: dict[str, float] = {}
    """for each task of a mixture with a curriculum, before this step's rewards: its share of the prompts drawn from
    then on, and its smoothed pass rate"""
    queue_unread: int
    queue_pending: int
    groups: int
    """groups consumed by this step"""
    base_groups: int = 0
    """of these, the groups of base rollouts"""
    failed_groups: int = 0
    solved_groups: int = 0
    """base groups in which no scored rollout is rewarded, and in which every one is right"""
    produced: int
    acknowledged: int
    duplicates: int
    dead_lettered: int
    """groups dead-lettered since the run began"""

    tokens: int
    """response tokens consumed"""
    generated_tokens: int
    """response tokens that generators of every role sampled since the last step, from heartbeats, trained on or not"""
    padding_share: float
    """share of padding in the learner's forward-pass tokens, without prompt sharing"""
    token_imbalance: float = 1.0
    """tokens of the learner rank with the most, divided by the mean over ranks"""
    step_seconds: float
    wait_seconds: float
    """time that rank 0 waited for a complete batch"""
    batch_seconds: float
    learn_seconds: float
    publish_seconds: float
    checkpoint_seconds: float
    learner_tokens_per_second: float
    weight_bytes: int
    weight_load_seconds: float | None
    """mean over the weight loads that generators finished during the step"""
    generators_alive: dict[str, int]
    """role → generators with a recent heartbeat, the minimum during the step"""
    generator_restarts: int
    """restarts of generators since the driver started"""
    learner_restarts: int = 0
    """restarts of the learner since the driver started"""
    generator_tokens_per_second: dict[str, float]
    """role → response tokens per second since the last step"""
    generator_busy_share: dict[str, float]
    """role → share of time with rollouts in flight"""
    generator_loading_share: dict[str, float]
    evaluation: dict[str, float] | None = None
    """`step` and `pass@k` of an online evaluation that finished during this step; None without one"""
    alarms: list[str]
    """sentences about values out of their usual range"""
    alarm_kinds: list[AlarmKind] = []
    """the kind of each alarm, in the same order"""


MAPS_OF_COUNTS = frozenset(
    field.name
    for field in msgspec.structs.fields(StepRecord)
    if get_origin(field.type) is dict and get_args(field.type)[1] is int
)
"""fields that map to counts: a missing key is 0"""


def flatten(record: Mapping[str, Any]) -> dict[str, float]:
    """Finite numeric fields by name; entries of maps as `name/key`."""
    flat: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{key}": float(entry) for key, entry in value.items()}
        elif isinstance(value, bool | int | float) and math.isfinite(value):
            flat[name] = float(value)
    return flat
