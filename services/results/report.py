"""The report of a run: `report.json` and `report.png`, from its step records and evaluations."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from redis import Redis

from services.records.sinks import read_records
from services.records.step_record import StepRecord
from services.replay.stats import queue_stats
from services.results.entropy_held import entropy_held
from services.results.evaluations import Evaluation, Evaluations
from trainer.pass_at_k import Interval, bootstrap_difference, bootstrap_mean

if TYPE_CHECKING:
    from services.run.directory import RunDirectory

BOOTSTRAP_SEED = 0


def write_report(
    directory: RunDirectory, evaluations: Evaluations, redis: Redis, *, steps_done: int, wall_seconds: float
) -> dict[str, Any]:
    """Write both files, and return the document. wall_seconds: wall clock of this incarnation of the driver."""
    from services.host.environment import package_versions
    from services.results.report_plot import plot

    # Leave out steps that a learner rolled back before it was stopped.
    records = [r for r in read_records(directory.path / "steps.jsonl") if r.step < steps_done]
    stats = queue_stats(redis, directory.run_id)
    document = {
        "run_id": directory.run_id,
        "config_hash": directory.config_hash,
        "versions": package_versions(),
        "written_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "steps": records[-1].step + 1 if records else 0,
        "steps_configured": directory.config.steps,
        "wall_seconds": wall_seconds,
        "evaluation": _evaluation(evaluations.all) | _course(evaluations),
        "entropy": _entropy(records),
        "tokens": {
            "sampled": sum(r.generated_tokens for r in records),
            "trained": sum(r.tokens for r in records),
        },
        "throughput": _throughput(records),
        "time_shares": _time_shares(records),
        "staleness": {
            str(k): v for k, v in sorted(sum((Counter(r.staleness) for r in records), Counter()).items())
        },
        "spanning_rollouts": sum(r.spanning_rollouts for r in records),
        "queue": {
            "produced": stats.produced,
            "consumed": sum(r.groups for r in records),
            "acknowledged": stats.acknowledged,
            "duplicates_refused": stats.duplicates,
            "dead_lettered": stats.dead_lettered,
            "leases_taken_over": stats.releases,
        },
        "generator_restarts": records[-1].generator_restarts if records else 0,
        "alarms": dict(Counter(alarm for r in records for alarm in r.alarms).most_common(20)),
    }
    directory.write_json("report.json", document)
    if records:
        plot(directory.path / "report.png", directory.run_id, records, evaluations.all)
    return document


def _evaluation(evaluations: list[Evaluation]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, found in (("start", evaluations[:1]), ("end", evaluations[1:][-1:])):
        for e in found:
            out[name] = {"step": e.step, "problems": len(e.correct), "samples": e.samples} | {
                f"pass@{k}": _interval(bootstrap_mean(e.at(k), seed=BOOTSTRAP_SEED)) for k in e.ks
            }
    if "end" in out:
        first, last = evaluations[0], evaluations[-1]
        same = len(first.correct) == len(last.correct)
        out["difference"] = {
            f"pass@{k}": _interval(bootstrap_difference(first.at(k), last.at(k), seed=BOOTSTRAP_SEED))
            for k in last.ks
            if k in first.ks and same
        }
        if same:
            before, after = np.array(first.correct) > 0, np.array(last.correct) > 0
            out["solved"] = {"gained": int(sum(~before & after)), "lost": int(sum(before & ~after))}
    return out


def _course(evaluations: Evaluations) -> dict[str, Any]:
    """Every evaluation by step, if there were any during training."""
    if len(evaluations.all) < 3 and not evaluations.incomplete:
        return {}
    course = [
        {"step": e.step, "oldest": e.oldest, "newest": e.newest}
        | {f"pass@{k}": _interval(bootstrap_mean(e.at(k), seed=BOOTSTRAP_SEED)) for k in e.ks}
        for e in evaluations.all
    ]
    incomplete = [
        {"step": e.step, "problems": len(e.correct), "missing": e.missing} for e in evaluations.incomplete
    ]
    return {"course": course, "incomplete": incomplete}


def _interval(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low95": interval.low, "high95": interval.high}


def _entropy(records: list[StepRecord]) -> dict[str, Any]:
    """A summary over the steps whose entropy was measured, nats per token."""
    records = [r for r in records if math.isfinite(r.entropy)]
    if not records:
        return {}
    last = records[-max(1, len(records) // 3) :]
    values = np.array([r.entropy for r in last])
    out = {
        "start": records[0].entropy,
        "end": records[-1].entropy,
        "lowest": min(r.entropy for r in records),
        "last_third_mean": float(values.mean()),
        "last_third_std": float(values.std()),
    }
    held = [(r.entropy, r.entropy_target, r.saturated) for r in last if r.entropy_target is not None]
    if held:
        entropies, targets, saturated = (np.array(column, dtype=float) for column in zip(*held, strict=True))
        out |= {
            "entropy_target": float(targets[-1]),
            "entropy_target_over_start": float(targets[-1] / out["start"]),
            "last_third_mean_error": float((entropies - targets).mean()),
            "last_third_mean_over_entropy_target": float(entropies.mean() / targets.mean()),
            "last_third_saturated_share": float(saturated.mean()),
            "held": entropy_held(records),
        }
    return out


def _throughput(records: list[StepRecord]) -> dict[str, Any]:
    seconds = sum(r.step_seconds for r in records)
    if not seconds:
        return {}
    roles = sorted({role for r in records for role in r.generator_tokens_per_second})
    steady = records[len(records) // 10 :]
    return {
        "median_step_seconds": float(np.median([r.step_seconds for r in steady])),
        "trained_tokens_per_second": sum(r.tokens for r in records) / seconds,
        "learner_tokens_per_second": sum(r.tokens for r in records) / sum(r.learn_seconds for r in records),
        "generator_tokens_per_second": {
            role: float(np.mean([r.generator_tokens_per_second.get(role, 0.0) for r in steady]))
            for role in roles
        },
    }


def _time_shares(records: list[StepRecord]) -> dict[str, Any]:
    """Shares of wall clock by process and activity, after the first tenth of the run."""
    steady = records[len(records) // 10 :]
    seconds = sum(r.step_seconds for r in steady)
    if not seconds:
        return {}
    learner = {
        name: sum(getattr(r, f"{name}_seconds") for r in steady) / seconds
        for name in ("wait", "batch", "learn", "publish", "checkpoint")
    }
    generators = {
        f"{role}-generator": {
            "sampling": float(np.mean([r.generator_busy_share.get(role, 0.0) for r in steady])),
            "loading": float(np.mean([r.generator_loading_share.get(role, 0.0) for r in steady])),
        }
        for role in sorted({role for r in steady for role in r.generator_busy_share})
    }
    return {"learner": learner, **generators}
