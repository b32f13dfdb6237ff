"""A rank whose peer never joins: prints how many seconds a collective call waited, and its error."""

from __future__ import annotations

import sys
import time

import torch
import torch.distributed as dist

from tests.support.distributed.rank_exit import end_rank
from trainer.learner.process_group import join_process_group


def main() -> None:
    """`python late_rank.py SECONDS` with the usual RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT."""
    join_process_group("gloo", float(sys.argv[1]))
    if dist.get_rank():
        time.sleep(100)
    started = time.monotonic()
    try:
        dist.all_reduce(torch.ones(1))
    except RuntimeError as error:
        print(time.monotonic() - started, error, flush=True)
    end_rank()


if __name__ == "__main__":
    main()
