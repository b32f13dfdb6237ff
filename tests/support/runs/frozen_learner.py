"""A learner's rank 0 in its own process, for tests that freeze it: it takes steps, records and checkpoints forever."""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from pathlib import Path

from services.learner.rank_zero import RankZero
from services.learner.spec import LearnerSpec
from services.learner.start_rank_zero import start_rank_zero
from services.redis.fencing import FencedError
from tests.support.runs.incarnations import measured

STEP_SECONDS = 0.01


def step_once(rank_zero: RankZero, step: int, run_dir: Path) -> None:
    """One learner step with its record and a checkpoint."""
    order, _ = rank_zero.next_order(step)
    assert order.kind == "step"
    rank_zero.learned(measured(0.3), 1.0)
    rank_zero._recorder.published(0, 0.0)
    folder = rank_zero.open_checkpoint(step + 1)
    for part in range(4):
        (folder / f"part-{part}").write_bytes(b"w" * 50_000)
        time.sleep(STEP_SECONDS)
    rank_zero.begin_checkpoint(step + 1)()
    rank_zero.settle()
    rank_zero.finish_step()


def learn_until_fenced(spec: LearnerSpec, pipe: Connection) -> None:
    """Report each step's number, and finally how the learner ended."""
    try:
        rank_zero = start_rank_zero(spec)
        step = rank_zero.first_step
        while True:
            step_once(rank_zero, step, Path(spec.run_dir))
            step += 1
            pipe.send(step)
    except BaseException as error:
        pipe.send((isinstance(error, FencedError), repr(error)))
