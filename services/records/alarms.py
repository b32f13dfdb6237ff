"""Alarms of step records: each kind with its sentence, what to do, and what is said when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

AlarmKind = Literal[
    "heating_at_limit",
    "cooling_at_limit",
    "mismatch_kl",
    "entropy_not_finite",
    "all_truncated",
    "verifier_failing",
    "all_uniform",
    "no_positives",
    "starved",
    "one_positive",
    "weights_not_loaded",
    "generators_down",
    "logger",
]


class Alarm(NamedTuple):
    """One alarm of a step record."""

    kind: AlarmKind
    text: str
    """a sentence, with what to do where a person has to do something"""


class _Words(NamedTuple):
    """What is said about one kind; names in braces are values that `alarm` is given."""

    sentence: str
    remedy: str
    """fields to change; empty where the system recovers by itself"""
    end: str


_WORDS: dict[AlarmKind, _Words] = {
    "heating_at_limit": _Words(
        "entropy control heats at the limit of its actuators",
        "lower the target, or raise surprisal_exponent_max or alpha_max",
        "entropy control heats within the limit of its actuators again",
    ),
    "cooling_at_limit": _Words(
        "entropy control cools at the limit of its actuators",
        "raise the target, or lower t_min",
        "entropy control cools within the limit of its actuators again",
    ),
    "mismatch_kl": _Words(
        "mismatch KL {kl:.3g} nats per token above {limit:g}",
        "engine and learner do not run the same policy; compare generators.dtype with learner.precision, look for "
        "weights that did not load, or lower pipeline.max_staleness",
        "the mismatch KL is within its usual range again",
    ),
    "entropy_not_finite": _Words(
        "entropy is not finite, and the temperature is held",
        "resume from an earlier checkpoint with a lower optimizer.learning_rate, or set learner.precision=fp32",
        "entropy is finite again",
    ),
    "all_truncated": _Words(
        "nearly every rollout of the last {steps} steps is cut off at the length limit and so has no reward",
        "raise rollout.max_new_tokens, which is {limit}, or ask for shorter answers in model.system_prompt",
        "rollouts end before the length limit again",
    ),
    "verifier_failing": _Words(
        "the verifier gave no score to {unscored} of {rollouts} rollouts, most often because of: {cause}",
        "mend the verifier that task.verifier names; rollouts without a score teach nothing",
        "the verifier scores rollouts again",
    ),
    "all_uniform": _Words(
        "every base group of the last {steps} steps has equal rewards{which}, so base rollouts give no gradient",
        "{advice}",
        "base groups have different rewards again",
    ),
    "no_positives": _Words(
        "no adaptive rollout of the last {steps} steps is correct, so SCOPE's term has no effect",
        "make sure that the verifier can give task.positive_from, take easier problems, or raise "
        "rollout.adaptive_samples",
        "adaptive rollouts are correct again",
    ),
    "starved": _Words(
        "entropy control would heat, but {few} adaptive rollouts are correct, so it cannot raise entropy",
        "take easier problems, or lower the entropy target or entropy_control.{field}",
        "enough adaptive rollouts are correct for entropy control again",
    ),
    "one_positive": _Words(
        "one rollout has {share:.0%} of the weight of the {positives} that entropy control learns from, for {steps} "
        "steps",
        "set entropy_control.surprisal=answer_mean, lower surprisal_exponent_max, or take easier problems",
        "entropy control learns from several rollouts again",
    ),
    "weights_not_loaded": _Words(
        "{generator} did not load {version}: {error}",
        "",
        "generators load every policy version again",
    ),
    "generators_down": _Words(
        "{missing} {role} generator(s) down",
        "",
        "every generator is up again",
    ),
    "logger": _Words(
        "{report}",
        "",
        "the loggers take every record again",
    ),
}

LIMITS: tuple[AlarmKind, ...] = ("heating_at_limit", "cooling_at_limit")
"""the kinds that say that entropy control is at the limit of its actuators"""


def alarm(kind: AlarmKind, **values: object) -> Alarm:
    """The alarm of this kind. values: what its sentence and remedy name."""
    words = _WORDS[kind]
    parts = [part.format(**values) for part in (words.sentence, words.remedy) if part]
    return Alarm(kind, ": ".join(parts))


def control_alarm(limit: Literal["heating", "cooling", "starved"], success_floor: float) -> Alarm:
    """The alarm of a control law at its limit. success_floor: share of adaptive rollouts that the law asks for."""
    match limit:
        case "heating":
            return alarm("heating_at_limit")
        case "cooling":
            return alarm("cooling_at_limit")
        case "starved":
            return alarm(
                "starved", few=f"fewer than {success_floor:.1%} of the", field="split_range.success_floor"
            )


def end_text(kind: AlarmKind) -> str:
    """One sentence that says that an alarm has ended."""
    return _WORDS[kind].end


def limit_of(record: Mapping[str, Any]) -> AlarmKind | None:
    """The direction in which entropy control is at the limit of its actuators; None where it is not."""
    return next((kind for kind in LIMITS if kind in record.get("alarm_kinds", ())), None)


def limit_text(record: Mapping[str, Any]) -> str | None:
    """One sentence on entropy control at the limit of its actuators, with what to do; None where it is not."""
    if (kind := limit_of(record)) is None:
        return None
    heats = kind == "heating_at_limit"
    verb = "heat" if heats else "cool"
    entropy, target = record["entropy"], record["entropy_target"]
    if entropy is None or target is None or (entropy < target) != heats:
        state = f"the actuators {verb} at their limit"
    else:
        away = f"{'below' if heats else 'above'} the target {target:z.3f}"
        state = f"entropy {entropy:z.3f} is {away} although the actuators {verb} at their limit"
    return f"{state}: {_WORDS[kind].remedy}"
