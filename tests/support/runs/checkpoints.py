"""Checkpoints in the form that a learner writes."""

from __future__ import annotations

from pathlib import Path

from trainer.checkpoint.store import CheckpointStore, LearnerState


def state(step: int, consumed: list[tuple[str, str]] | None = None, *, lineage: int = 1) -> LearnerState:
    return LearnerState(
        step=step,
        lineage=lineage,
        config_hash="h",
        workers=1,
        zero_stage=2,
        controller={"integral": 0.1 * step},
        regularizer={"coefficient": 0.005 * step},
        entropy_target_generation=2,
        consumed=consumed or [],
    )


def write(store: CheckpointStore, step: int, *, lineage: int = 1) -> Path:
    """Write two files as the ranks do, then commit."""
    folder = store.writing(step, lineage)
    (folder / "engine").mkdir()
    (folder / "engine" / "rank-0.pt").write_bytes(bytes([step]) * 1000)
    (folder / "engine" / "rank-1.pt").write_bytes(bytes([step + 1]) * 1000)
    return store.commit(state(step, lineage=lineage), lambda: None)
