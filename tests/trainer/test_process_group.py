"""The learner's collective calls time out if a rank does not join."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.ports import free_ports
from tests.support.repository import ROOT
from trainer.config.load import default_config
from trainer.errors import ScopeError


def test_a_rank_that_waits_for_another_gives_up_after_the_configured_time() -> None:
    (port,) = free_ports(1)
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-m", "tests.support.distributed.late_rank", "2"]
    ranks = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = ranks[0].communicate(timeout=120)[0].splitlines()[-1]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    waited, _, why = said.partition(" ")
    assert 1.9 < float(waited) < 20
    assert "Timed out" in why


def test_ranks_that_wait_for_the_first_outlast_its_wait_for_a_batch() -> None:
    settings = ["learner.workers=2", "pipeline.batch_timeout_seconds=7200"]
    with pytest.raises(ScopeError, match=r"collective_timeout_seconds=1800 must be above .*=7200"):
        default_config(settings)
    default_config([*settings, "learner.collective_timeout_seconds=7201"])
    default_config(settings[1:])
