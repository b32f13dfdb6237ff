"""Strict runs with real parts: two runs agree bit for bit, even if one was killed and resumed."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from services.records.ledger import read_history, surviving
from services.records.step_record import StepRecord
from tests.chaos.processes import processes
from tests.support.ports import free_ports
from tests.support.runs.run_harness import Run, left_running, new_run

pytestmark = [pytest.mark.chaos, pytest.mark.cluster, pytest.mark.timeout(2400)]

STEPS = 6
EASY = (
    "task.max_number=6",
    "task.max_target=40",
    "task.heldout=32",
    "model.hidden_size=64",
    "model.layers=2",
    "model.heads=2",
    "model.ffn_size=128",
    "warm_start.steps=150",
    "warm_start.learning_rate=6e-3",
    "warm_start.batch_size=64",
    "warm_start.softening=1.0",
)
"""A model that solves some of its problems, so that rewards vary."""
MEASURED = (
    "entropy",
    "generator_entropy",
    "entropy_target",
    "reference",
    "temperature",
    "alpha",
    "surprisal_exponent",
    "sampling_temperature",
    "next_temperature",
    "next_alpha",
    "reward",
    "adaptive_reward",
    "positives",
    "response_length",
    "truncated_share",
    "surrogate",
    "auxiliary",
    "clip_fraction",
    "gradient_norm",
    "mismatch_kl_base",
    "mismatch_kl_adaptive",
    "ratio_deviation_base",
    "ratio_deviation_adaptive",
    "staleness",
    "spanning_rollouts",
    "missing_groups",
    "groups",
    "tokens",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the runs of this module."""
    return tmp_path_factory.mktemp("strict") / "runs"


def strict_run(folder: Path, name: str) -> Run:
    return new_run(
        folder,
        name,
        [
            f"steps={STEPS}",
            "determinism.strict=true",
            "pipeline.max_staleness=0",
            "pipeline.lease_seconds=4",
            "checkpoint.every_steps=2",
            "optimizer.learning_rate=1e-3",
            *EASY,
            "control_plane.enabled=false",
            "ray.dashboard=false",
            f"ray.dashboard_port={free_ports(1)[0]}",
        ],
    )


@pytest.fixture(scope="module")
def first(folder: Path) -> Run:
    """A run without faults."""
    run = strict_run(folder, "first")
    assert run.start().wait(1000) == 0, run.log
    return run


def losses(run: Run) -> dict[int, list[object]]:
    """The measurements of each step of the surviving lineage, by step."""
    values = {record.step: msgspec.to_builtins(record) for record in run.records()}
    assert set(MEASURED) <= set(StepRecord.__struct_fields__)
    return {step: [record[name] for name in MEASURED] for step, record in values.items()}


def applied(run: Run) -> list[tuple[int, Sequence[str]]]:
    """The groups of each step, in order."""
    return [(event.step, event.groups) for event in surviving(read_history(run.directory))]


def model(run: Run) -> str:
    """Hash of the run's final weights."""
    return hashlib.sha256((run.directory / "model" / "model.safetensors").read_bytes()).hexdigest()


def test_two_strict_runs_learn_from_the_same_groups_with_the_same_losses_bit_for_bit(
    first: Run, folder: Path
) -> None:
    second = strict_run(folder, "second")
    assert second.start().wait(1000) == 0, second.log
    assert [step for step, _ in applied(first)] == list(range(STEPS))
    assert applied(second) == applied(first)
    assert losses(second) == losses(first)
    assert model(second) == model(first)
    assert second.json("evaluations.json") == first.json("evaluations.json")
    records = first.records()
    assert sum(record.gradient_norm > 0 for record in records) >= STEPS // 2, "nothing was learned"
    assert sum(record.positives for record in records) > 0
    assert {age for record in records for age in record.staleness} == {0}


def test_a_strict_run_whose_learner_and_driver_were_killed_ends_as_one_that_was_not(
    first: Run, folder: Path
) -> None:
    run = strict_run(folder, "killed")
    process = run.start()
    run.wait_for("steps past a checkpoint", lambda: len(run.records()) >= 3, process, 1000)
    (rank,) = processes(process.pid, "learner")
    os.kill(rank, signal.SIGKILL)
    run.wait_for("the next learner", lambda: run.records()[-1].lineage == 2, process, 1000)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert run.start(resume=True).wait(1000) == 0, run.log
    assert not left_running(run)
    assert applied(run) == applied(first)
    kept, undisturbed = losses(run), losses(first)
    assert kept == {step: undisturbed[step] for step in kept}
    assert len(kept) >= STEPS - 2, "each death may cost at most one record"
    assert model(run) == model(first)
    assert {event.lineage for event in read_history(run.directory)} == {1, 2, 3}
