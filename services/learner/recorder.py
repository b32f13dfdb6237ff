"""Collects the numbers of each step on rank 0 into a `StepRecord` and writes it to the sinks."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from redis import Redis

from services.learner.collector import StepGroups
from services.learner.reward_counts import reward_counts
from services.learner.spec import LearnerSpec
from services.learner.target_in_force import TargetInForce
from services.records.alarms import Alarm, alarm, control_alarm
from services.records.learning_signal import REMEMBERED, LearningSignal
from services.records.loggers import LoggedRun, Loggers
from services.records.redis_records import RedisRecords, read_span
from services.records.sinks import JsonLines, RayMetrics, Sink
from services.records.step_record import StepRecord, mismatch_kl_limit
from services.redis.query import server_time
from services.replay.consumer import ReplayConsumer
from services.run.heartbeats import generators
from services.run.state import evaluations, update_status
from services.weights.publisher import LoadReport
from trainer.entropy_control import Actuators
from trainer.learner.step_metrics import StepMetrics
from trainer.rollouts.curriculum import Curriculum
from trainer.rollouts.rewards import is_uniform

MOST_CAUSES = 5
"""causes of unscored rollouts that a record names"""
LONGEST_CAUSE = 60
"""characters"""
BEAT_STALE_SECONDS = 5.0
"""A generator without a heartbeat for this long counts as not alive."""


class Recorder:
    """Records one step after another: `begin`, the methods that add numbers, `finish`."""

    def __init__(
        self,
        spec: LearnerSpec,
        redis: Redis,
        consumer: ReplayConsumer,
        lineage: int,
        first_step: int,
    ) -> None:
        self._spec, self._redis, self._consumer, self._lineage = spec, redis, consumer, lineage
        run_dir = Path(spec.run_dir)
        # Redis first: it refuses an incarnation that was replaced, before files are written and loggers opened.
        records = RedisRecords(redis, spec.run_id, lineage, first_step)
        self._loggers = Loggers(LoggedRun(spec.run_id, run_dir, spec.config, first_step))
        self._sinks: list[Sink] = [
            records,
            JsonLines(run_dir / "steps.jsonl"),
            RayMetrics(spec.run_id),
            self._loggers,
        ]
        earlier = read_span(redis, spec.run_id, max(0, first_step - REMEMBERED), first_step - 1)
        self._signal = LearningSignal(spec.config, earlier)
        self._before: dict[str, dict[str, Any]] = {}
        self._observed_at = time.monotonic()
        self._values: dict[str, Any] = {}
        self._alarms: list[Alarm] = []
        self._loads: list[LoadReport] = []
        self._alive: dict[str, int] = {}
        self._started = time.monotonic()
        self._evaluated = self._newest_evaluation()

    def begin(self, step: int) -> None:
        """Begin a step; the wait for its batch starts here."""
        self._values = {"step": step, "lineage": self._lineage, "checkpoint_seconds": 0.0}
        self._alarms = []
        self._loads = []
        self._alive = {}
        self._started = time.monotonic()
        self.observe_generators()

    def batch_complete(self) -> None:
        """Note that the wait for groups has ended."""
        self._values["wait_seconds"] = time.monotonic() - self._started

    def batch(self, taken: StepGroups, staleness: Counter[int]) -> None:
        """Add the numbers of the step's rollouts. staleness: rollouts by age in learner steps."""
        groups = [group for _, group in taken.groups.values()]
        rollouts = [t for group in groups for t in group.trajectories]
        unscored = [t.verdict for t in rollouts if not t.scored]
        adaptive = [group.sampling_temperature for group in groups if group.role == "adaptive"]
        self._values |= reward_counts(groups)
        self._values |= {
            "staleness": dict(sorted(staleness.items())),
            "spanning_rollouts": sum(len(t.versions) > 1 for t in rollouts),
            "groups": len(groups),
            "missing_groups": len(taken.missing),
            "uniform_groups": sum(
                group.role == "base" and is_uniform([t.reward for t in group.trajectories if t.scored])
                for group in groups
            ),
            "unscored_rollouts": len(unscored),
            "unscored_causes": _causes(unscored),
            "unscored_example": max(sorted(set(unscored)), key=unscored.count, default=""),
            "sampling_temperature": sum(adaptive) / len(adaptive) if adaptive else None,
            "truncated_share": sum(t.finish_reason == "length" for t in rollouts) / max(len(rollouts), 1),
            "batch_seconds": time.monotonic() - self._started - self._values["wait_seconds"],
        }

    def mixture(self, curriculum: Curriculum) -> None:
        """Add the mixture's shares and pass rates; call it before the curriculum learns from the step."""
        rates = enumerate(curriculum.pass_rates)
        self._values |= {
            "mixture_shares": {str(part): share for part, share in enumerate(curriculum.shares)},
            "mixture_pass_rates": {str(part): rate for part, rate in rates if rate is not None},
        }

    def learned(
        self,
        metrics: StepMetrics,
        seconds: float,
        target: TargetInForce,
        reference: float | None,
        acted: Actuators,
        decided: Actuators,
        strength: float,
    ) -> None:
        """Add the numbers of the update and of the control decision that follows it.

        seconds: duration of the update; reference: the reference of the control law, nats per token; acted,
        strength: actuators and regularizer strength of this step; decided: actuators of the next step.
        """
        controlled = self._spec.config.entropy_control.kind != "none"
        worst_kl = max(metrics.mismatch_kl_base, metrics.mismatch_kl_adaptive)
        limit = mismatch_kl_limit(self._spec.config.pipeline.max_staleness)
        if worst_kl > limit:
            self._alarms.append(alarm("mismatch_kl", kl=worst_kl, limit=limit))
        if not math.isfinite(metrics.entropy):
            self._alarms.append(alarm("entropy_not_finite"))
        if decided.limit != "none":
            floor = self._spec.config.entropy_control.split_range.success_floor
            self._alarms.append(control_alarm(decided.limit, floor))
        self._values |= {
            "entropy": metrics.entropy,
            "entropy_error": metrics.entropy_error if math.isfinite(metrics.entropy_error) else None,
            "generator_entropy": metrics.generator_entropy,
            "entropy_target": target.value,
            "entropy_target_generation": target.generation,
            "starting_entropy": target.starting_entropy,
            "reference": reference,
            "temperature": acted.temperature,
            "alpha": acted.alpha,
            "surprisal_exponent": acted.surprisal_exponent,
            "next_temperature": decided.temperature,
            "next_alpha": decided.alpha,
            "saturated": decided.saturated,
            "regularizer_strength": strength,
            "reward": metrics.reward_base,
            "adaptive_reward": metrics.reward_adaptive if controlled else None,
            "positives": metrics.positives,
            "auxiliary_positives": metrics.auxiliary_positives,
            "auxiliary_effective": metrics.auxiliary_effective,
            "auxiliary_largest_share": metrics.auxiliary_largest_share,
            "auxiliary_length": metrics.auxiliary_length,
            "auxiliary_weighted_length": metrics.auxiliary_weighted_length,
            "response_length": metrics.response_length,
            "surrogate": metrics.surrogate,
            "auxiliary": metrics.auxiliary,
            "clip_fraction": metrics.clip_fraction,
            "clamped_tokens": metrics.clamped_tokens,
            "gradient_norm": metrics.gradient_norm,
            "learning_rate": metrics.learning_rate,
            "reference_kl": metrics.reference_kl,
            "mismatch_kl_base": metrics.mismatch_kl_base,
            "mismatch_kl_adaptive": metrics.mismatch_kl_adaptive,
            "ratio_deviation_base": metrics.ratio_deviation_base,
            "ratio_deviation_adaptive": metrics.ratio_deviation_adaptive,
            "tokens": metrics.tokens,
            "padding_share": metrics.padding_share,
            "token_imbalance": metrics.token_imbalance,
            "learn_seconds": seconds,
            "learner_tokens_per_second": metrics.tokens / seconds,
        }

    def published(self, size: int, seconds: float) -> None:
        """Add size in bytes and duration in seconds of the publication of the step's policy version."""
        self._values |= {"weight_bytes": size, "publish_seconds": seconds}

    def checkpointed(self, seconds: float) -> None:
        """Add the time that the step waited for a checkpoint, seconds."""
        self._values["checkpoint_seconds"] = seconds

    def loads(self, reports: Sequence[LoadReport]) -> None:
        """Add weight loads that generators finished."""
        self._loads += reports

    def observe_generators(self) -> None:
        """Read the heartbeats; the record shows the fewest generators alive at any observation of the step."""
        now = server_time(self._redis)
        beats = generators(self._redis, self._spec.run_id)
        for role in self._spec.config.roles:
            alive = sum(b["role"] == role and now - b["at"] < BEAT_STALE_SECONDS for b in beats.values())
            self._alive[role] = min(alive, self._alive.get(role, alive))

    def finish(self) -> None:
        """Write the step's record to every sink, and to the run's status."""
        self.observe_generators()
        stats = self._consumer.stats()
        self._alarms += self._signal.observe(self._values)
        for load in self._loads:
            if load.error:
                self._alarms.append(
                    alarm(
                        "weights_not_loaded",
                        generator=load.generator_id,
                        version=load.version,
                        error=load.error,
                    )
                )
        for role, alive in self._alive.items():
            if (missing := self._expected(role) - alive) > 0:
                self._alarms.append(alarm("generators_down", missing=missing, role=role))
        for report in self._loggers.reports():
            self._alarms.append(alarm("logger", report=report))
        seconds = [load.seconds for load in self._loads if not load.error]
        record = StepRecord(
            **self._values,
            **self._generator_work(),
            at=time.time(),
            step_seconds=time.monotonic() - self._started,
            queue_unread=stats.unread,
            queue_pending=stats.pending,
            produced=stats.produced,
            acknowledged=stats.acknowledged,
            duplicates=stats.duplicates,
            dead_lettered=stats.dead_lettered,
            weight_load_seconds=sum(seconds) / len(seconds) if seconds else None,
            generators_alive=dict(self._alive),
            learner_restarts=self._spec.restarts,
            evaluation=self._new_evaluation(),
            alarms=[raised.text for raised in self._alarms],
            alarm_kinds=[raised.kind for raised in self._alarms],
        )
        for sink in self._sinks:
            sink.write(record)
        update_status(
            self._redis,
            self._spec.run_id,
            phase="running",
            step=record.step + 1,
            record=msgspec.to_builtins(record, str_keys=True),
            epoch=self._lineage,
        )

    def close(self) -> None:
        """Flush and close the sinks."""
        for sink in self._sinks:
            sink.close()

    def _newest_evaluation(self) -> dict[str, float] | None:
        """The newest held-out result; None before the first and for runs without evaluation during training."""
        if not self._spec.config.evaluation.every_steps:
            return None
        found = evaluations(self._redis, self._spec.run_id)
        if not found:
            return None
        return {"step": found[-1]["step"]} | {f"pass@{k}": v for k, v in found[-1]["pass_at_k"].items()}

    def _new_evaluation(self) -> dict[str, float] | None:
        newest = self._newest_evaluation()
        if newest == self._evaluated:
            return None
        self._evaluated = newest
        return newest

    def _expected(self, role: str) -> int:
        wanted = self._spec.config.generators
        if wanted.elastic:
            return 1
        return wanted.base if role == "base" else wanted.adaptive

    def _generator_work(self) -> dict[str, Any]:
        beats = generators(self._redis, self._spec.run_id)
        elapsed = time.monotonic() - self._observed_at
        shares: dict[str, dict[str, float]] = {"tokens": {}, "sampling_seconds": {}, "loading_seconds": {}}
        generated = refilled = 0.0
        restarts = sum(b["restarts"] for b in beats.values())
        for role in self._spec.config.roles:
            names = [name for name, b in beats.items() if b["role"] == role]
            refilled += sum(
                max(0, beats[n].get("refills", 0) - self._before.get(n, {}).get("refills", 0)) for n in names
            )
            for counter, by_role in shares.items():
                grown = sum(
                    max(0.0, beats[n][counter] - self._before.get(n, {}).get(counter, 0.0)) for n in names
                )
                generated += grown if counter == "tokens" else 0
                by_role[role] = grown / elapsed / (1 if counter == "tokens" else max(len(names), 1))
        self._before, self._observed_at = beats, time.monotonic()
        return {
            "generated_tokens": round(generated),
            "refilled_groups": round(refilled),
            "generator_tokens_per_second": shares["tokens"],
            "generator_busy_share": shares["sampling_seconds"],
            "generator_loading_share": shares["loading_seconds"],
            "generator_restarts": restarts,
        }


def _causes(verdicts: Sequence[str]) -> dict[str, int]:
    """Number of unscored rollouts by cause, the commonest first; of an error only its type. verdicts: their causes."""
    short = Counter(verdict.partition(":")[0].partition(" (")[0][:LONGEST_CAUSE] for verdict in verdicts)
    named = dict(short.most_common(MOST_CAUSES))
    rest = len(verdicts) - sum(named.values())
    return named | ({"other": rest} if rest else {})
