"""The learner loop on real ranks over a real queue: asynchronous checkpoints, and a resumption on another topology."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.records.ledger import read_history, surviving
from services.records.sinks import read_records
from services.redis.access import RedisAccess
from tests.support.ports import free_ports
from tests.support.repository import ROOT
from tests.support.runs.incarnations import Incarnations
from trainer.checkpoint.store import CheckpointStore, read_state, verifies

PROMPTS = 2
LONGEST_SECONDS = 280


@pytest.fixture
def incarnations(redis_access: RedisAccess, run_id: str, tmp_path: Path) -> Iterator[Incarnations]:
    incarnations = Incarnations(redis_access, run_id, tmp_path / run_id)
    yield incarnations
    incarnations.close()


def learn(incarnations: Incarnations, model_dir: Path, *, workers: int, stage: int, steps: int) -> None:
    """Run the loop on that many ranks until the last step."""
    config = incarnations.config
    config = config.model_copy(
        update={
            "steps": steps,
            "rollout": config.rollout.model_copy(update={"prompts_per_step": PROMPTS}),
            "learner": config.learner.model_copy(update={"workers": workers, "zero_stage": stage}),
            "checkpoint": config.checkpoint.model_copy(update={"every_steps": 2}),
        }
    )
    spec = replace(incarnations.spec, config=config, model_dir=str(model_dir))
    job = Path(spec.run_dir) / "spec.pickle"
    job.write_bytes(pickle.dumps(spec))
    (port,) = free_ports(1)
    ranks = []
    for rank in range(workers):
        environment: dict[str, Any] = os.environ | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(workers),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        command = [sys.executable, "-m", "tests.support.distributed.loop_rank", str(job)]
        with job.with_name(f"rank-{rank}.log").open("wb") as log:
            ranks.append(
                subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
            )
    deadline = time.monotonic() + LONGEST_SECONDS
    try:
        while any(rank.poll() is None for rank in ranks) and not any(rank.poll() for rank in ranks):
            assert time.monotonic() < deadline, "the ranks deadlocked"
            time.sleep(0.1)
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    logs = "\n".join(path.read_text()[-3000:] for path in sorted(job.parent.glob("rank-*.log")))
    assert [rank.returncode for rank in ranks] == [0] * workers, logs


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_goes_on_under_another_topology_with_every_group_applied_once(
    incarnations: Incarnations, tiny_model_dir: Path
) -> None:
    run_dir = Path(incarnations.spec.run_dir)
    learn(incarnations, tiny_model_dir, workers=2, stage=2, steps=5)
    store = CheckpointStore(run_dir / "checkpoints", keep=3)
    assert [p.name for p in sorted(store.directory.iterdir())] == [f"step-{s:08d}" for s in (2, 4, 5)]
    assert all(verifies(path) for path in store.directory.iterdir())
    groups_a_step = 2 * PROMPTS
    assert incarnations.queue.stats.acknowledged == 4 * groups_a_step
    waits = [record.checkpoint_seconds > 0 for record in read_records(run_dir / "steps.jsonl")]
    assert waits == [False, True, False, True, False]

    learn(incarnations, tiny_model_dir, workers=1, stage=3, steps=7)
    newest = store.newest()
    assert newest is not None
    state = read_state(newest)
    assert (state.step, state.workers, state.zero_stage) == (7, 1, 3)
    assert not list(store.directory.glob(".writing-*")), "the loaded copy must be deleted"
    applied = surviving(read_history(run_dir))
    assert [event.step for event in applied] == list(range(7))
    groups = [group for event in applied for group in event.groups]
    assert sorted(groups) == sorted(f"{r}:{o}:0" for r in ("base", "adaptive") for o in range(7 * PROMPTS))
    assert (run_dir / "model" / "config.json").exists()
