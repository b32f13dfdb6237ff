"""A unit in one process: `python -m services.compare.in_process REQUEST.json` trains, evaluates and writes the result.

Each unit has its own process with one torch thread, so that parallel units do not change each other's numbers and share
no library state.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec
import torch

from services.compare.request import EVALUATIONS_FILE, STEPS_FILE, Request
from services.compare.results import (
    FORMAT,
    EvaluationPoint,
    StepPoint,
    UnitResult,
    measured,
    write_result,
)
from services.compare.unit_saves import UnitSaves
from services.host.environment import machine, package_versions
from services.host.terminal import write_line
from trainer.config import RunConfig
from trainer.config.load import config_hash, validate_config
from trainer.errors import ScopeError
from trainer.in_process.run import InProcessRun, InProcessStep
from trainer.starting_model.find import find_starting_model
from trainer.starting_model.warm_start import ensure_warm_start
from trainer.starting_model.warm_start_result import WarmStartProgress

SAVE_SECONDS = 300.0
"""A unit that is stopped loses at most this much of its work, and a step. A large model takes seconds to save."""


def starting_model(config: RunConfig, on_progress: Callable[[WarmStartProgress], None]) -> Path:
    """Return the directory of the model that every unit starts from; warm-starts the built-in one if needed."""
    if (model := find_starting_model(config.model)) is not None:
        return model.directory
    return ensure_warm_start(config, Path(config.warm_start.cache_dir).expanduser(), on_progress).path


def run_unit(request_path: Path, save_seconds: float = SAVE_SECONDS) -> None:
    """Train and evaluate as requested, from the last save of the same request if there is one.

    Writes `result.json` next to the request at the very end. save_seconds: wall clock between two saves.
    """
    directory = request_path.parent
    request = msgspec.json.decode(request_path.read_bytes(), type=Request)
    config = validate_config(request.config)
    run = InProcessRun(config, starting_model(config, lambda _: None))
    saves = UnitSaves(directory, request.config, request.evaluate_every)
    saves.cut_files()
    made = saves.resume(run)
    with (directory / STEPS_FILE).open("ab") as lines, (directory / EVALUATIONS_FILE).open("ab") as evaluated:

        def evaluate(step: int, samples: int) -> None:
            made.evaluations.append(_evaluate(run, step, samples))
            _write_line(evaluated, made.evaluations[-1])

        if not made.evaluations:
            evaluate(0, config.evaluation.samples)
        saved_at = time.monotonic()
        for step in run.steps():
            point = step_point(step, config)
            _write_line(lines, point)
            made.steps.append(point)
            done = point.step + 1
            if request.evaluate_every and done % request.evaluate_every == 0 and done < config.steps:
                evaluate(done, min(config.evaluation.samples, request.samples_between))
            if time.monotonic() - saved_at >= save_seconds:
                saves.save(run, made)
                saved_at = time.monotonic()
        evaluate(config.steps, config.evaluation.samples)
    result = UnitResult(
        format=FORMAT,
        control=request.control,
        preset=request.preset,
        seed=request.seed,
        settings=request.settings,
        source="in-process",
        evaluate_every=request.evaluate_every,
        parallel=request.parallel,
        config=request.config,
        config_hash=config_hash(config),
        versions=package_versions(),
        machine=machine(),
        finished_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        train_seconds=sum(point.seconds for point in made.steps),
        evaluation_seconds=sum(e.seconds or 0.0 for e in made.evaluations),
        steps=made.steps,
        evaluations=made.evaluations,
    )
    write_result(directory, result)
    saves.remove()


def step_point(step: InProcessStep, config: RunConfig) -> StepPoint:
    """Reduce an in-process step to the fields that both kinds of units have."""
    return StepPoint(
        step=step.step,
        entropy=measured(step.entropy),
        entropy_target=step.entropy_target,
        reference=measured(step.reference),
        temperature=step.temperature,
        alpha=step.alpha,
        surprisal_exponent=step.surprisal_exponent,
        saturated=step.saturated,
        limit=step.limit,
        reward=step.reward,
        adaptive_reward=step.adaptive_reward if "adaptive" in config.roles else None,
        positives=step.positives,
        auxiliary_positives=step.auxiliary_positives,
        auxiliary_effective=step.auxiliary_effective,
        auxiliary_largest_share=step.auxiliary_largest_share,
        auxiliary_length=step.auxiliary_length,
        auxiliary_weighted_length=step.auxiliary_weighted_length,
        response_length=step.response_length,
        clip_fraction=step.clip_fraction,
        gradient_norm=step.gradient_norm,
        generated_tokens=step.generated_tokens,
        seconds=step.sample_seconds + step.learn_seconds,
    )


def _write_line(file: BinaryIO, record: msgspec.Struct) -> None:
    file.write(msgspec.json.encode(record) + b"\n")
    file.flush()


def _evaluate(run: InProcessRun, step: int, samples: int) -> EvaluationPoint:
    started = time.process_time()
    found = run.evaluate(step, samples=samples)
    return EvaluationPoint(
        step=step, samples=found.samples, correct=found.correct, seconds=time.process_time() - started
    )


def main() -> int:
    """Run one unit; returns exit status 2 for an error that the user can fix."""
    torch.set_num_threads(1)
    try:
        run_unit(Path(sys.argv[1]))
    except ScopeError as error:
        write_line(f"scope: {error}", sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
