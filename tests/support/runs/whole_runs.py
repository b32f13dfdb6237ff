"""Two complete runs that tests share: one that has ended, and one that tests watch, change, disrupt and stop."""

from __future__ import annotations

from pathlib import Path

from services.results.export import export
from tests.chaos.subject import Subject
from tests.support.ports import free_ports
from tests.support.runs.run_harness import Run, left_running, new_run

START_SECONDS = 600.0
CANARY_STEPS = 5


def canary_run(folder: Path) -> Run:
    """Five steps at learning rate 0, base temperature 0.7, two ZeRO-2 ranks, and a weight sync after every step."""
    run = new_run(
        folder,
        "canary",
        [
            f"steps={CANARY_STEPS}",
            "optimizer.learning_rate=0",
            "rollout.base_temperature=0.7",
            "learner.workers=2",
            "learner.zero_stage=2",
            "entropy_control.kind=paper",
            "evaluation.every_steps=2",
            "rollout_samples.per_step=2",
            "control_plane.enabled=false",
            "ray.dashboard=false",
        ],
    )
    process = run.start()
    assert process.wait(840) == 0, run.log
    assert not left_running(run)
    return run


def live_run(canary: Run) -> Subject:
    """A controlled run in progress, started from the canary run's last checkpoint after export."""
    folder = canary.directory.parent
    exported = folder.parent / "exported"
    export(canary.directory, CANARY_STEPS, exported)
    control_plane, dashboard = free_ports(2)
    run = new_run(
        folder,
        "live",
        [
            "steps=100000",
            f"model.path={exported}",
            "task.name=tests.support.runs.slow_countdown:SlowCountdown",
            "learner.workers=2",
            "pipeline.lease_seconds=4",
            "pipeline.ledger=true",
            "redis.appendfsync=always",
            "weights.transport=collective",
            "weights.timeout_seconds=10",  # shorter than the restart of an engine
            "checkpoint.every_steps=5",
            "rollout.max_new_tokens=40",
            f"control_plane.port={control_plane}",
            f"ray.dashboard_port={dashboard}",
        ],
    )
    subject = Subject(run)
    subject.await_step(3, START_SECONDS)
    return subject
