"""A unit as a run of the full system: its command line, and its result, read from the run directory."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from services.compare.plan import Plan, Unit
from services.compare.results import FORMAT, EvaluationPoint, StepPoint, UnitResult, measured
from services.host.environment import machine, package_versions
from services.records.sinks import read_records
from services.records.step_record import StepRecord
from services.results.evaluations import Evaluations
from services.run.directory import CONFIG_FILE, check_format
from trainer.config.load import config_hash, dump_yaml, load_config
from trainer.errors import ScopeError


def run_directory(plan: Plan, unit: Unit) -> Path:
    """The run directory of a unit."""
    return plan.out / "runs" / unit.name


def command(plan: Plan, unit: Unit, directory: Path) -> list[str]:
    """Return the command line that starts the unit's run, or continues it if it was started before.

    directory: the unit's, into which its resolved configuration is written. Raises ScopeError when the started run has
    another configuration.
    """
    scope = [sys.executable, "-m", "services.cli", "train"]
    started = run_directory(plan, unit)
    if (started / CONFIG_FILE).exists():
        _refuse_other_configuration(started, unit)
        return [*scope, "--resume", str(started)]
    path = directory / CONFIG_FILE
    path.write_text(dump_yaml(unit.config))
    return [*scope, str(path), "--run-id", unit.name]


def is_complete(plan: Plan, unit: Unit) -> bool:
    """Whether the unit's run has trained every step and evaluated its start and end."""
    return _missing(run_directory(plan, unit), unit.config.steps) == ""


def collect(plan: Plan, unit: Unit) -> UnitResult:
    """Read the result of a finished run. Raises ScopeError when it is incomplete or has another configuration."""
    directory = run_directory(plan, unit)
    _refuse_other_configuration(directory, unit)
    missing = _missing(directory, unit.config.steps)
    if missing:
        raise ScopeError(f"The run {directory} is unfinished: it has {missing}.")
    records = read_records(directory / "steps.jsonl")
    steps = [step_point(record) for record in records]
    return UnitResult(
        format=FORMAT,
        control=unit.label,
        preset=unit.preset,
        seed=unit.seed,
        settings=list(unit.settings),
        source="full system",
        evaluate_every=plan.evaluate_every,
        parallel=plan.parallel,
        config=unit.config.model_dump(mode="json"),
        config_hash=config_hash(unit.config),
        versions=package_versions(),
        machine=machine(),
        finished_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(records[-1].at)),
        train_seconds=sum(point.seconds for point in steps),
        evaluation_seconds=None,
        steps=steps,
        evaluations=[
            EvaluationPoint(step=e.step, samples=e.samples, correct=e.correct, seconds=None)
            for e in Evaluations(directory / "evaluations.json").all
        ],
    )


def step_point(record: StepRecord) -> StepPoint:
    """Reduce a step record to the fields that both kinds of units have."""
    return StepPoint(
        step=record.step,
        entropy=measured(record.entropy),
        entropy_target=record.entropy_target,
        reference=measured(record.reference),
        temperature=record.temperature,
        alpha=record.alpha,
        surprisal_exponent=record.surprisal_exponent,
        saturated=record.saturated,
        reward=record.reward,
        adaptive_reward=measured(record.adaptive_reward),
        positives=record.positives,
        auxiliary_positives=record.auxiliary_positives,
        auxiliary_effective=record.auxiliary_effective,
        auxiliary_largest_share=record.auxiliary_largest_share,
        auxiliary_length=record.auxiliary_length,
        auxiliary_weighted_length=record.auxiliary_weighted_length,
        response_length=record.response_length,
        clip_fraction=record.clip_fraction,
        gradient_norm=record.gradient_norm,
        generated_tokens=record.generated_tokens,
        seconds=record.step_seconds,
    )


def _refuse_other_configuration(directory: Path, unit: Unit) -> None:
    if config_hash(load_config(directory / CONFIG_FILE)) != config_hash(unit.config):
        raise ScopeError(
            f"The run {directory} has another configuration than this comparison (see its {CONFIG_FILE}). Choose "
            "another --out, or move that directory aside."
        )


def _missing(directory: Path, steps: int) -> str:
    """Describe what a run directory lacks for a result; empty when it is complete."""
    if (directory / CONFIG_FILE).exists():
        check_format(directory)
    records = read_records(directory / "steps.jsonl")
    if len(records) != steps:
        return f"{len(records)} of {steps} step records"
    evaluated = {e.step for e in Evaluations(directory / "evaluations.json").all}
    if not {0, steps} <= evaluated:
        return f"no evaluation of step {min({0, steps} - evaluated)}"
    return ""
