"""Runs one rank of the learner loop as its own process, without Ray or generators.

`python loop_rank.py SPEC`, a pickled `LearnerSpec`, with the usual RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from services.learner.loop import LearnerLoop
from services.weights import publisher
from tests.support.distributed.rank_exit import end_rank
from trainer.learner.process_group import join_process_group

if __name__ == "__main__":
    publisher.ray.put = lambda blob: None
    join_process_group("gloo")
    LearnerLoop(pickle.loads(Path(sys.argv[1]).read_bytes())).run()
    end_rank()
