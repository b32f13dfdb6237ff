"""Starts learner ranks as separate processes that run the cases of a job file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.support.gpu import NEEDS_GPU
from tests.support.ports import free_ports
from tests.support.repository import ROOT
from trainer.rollouts.trajectory import Group, encode_group


def write_groups(path: Path, groups: list[Group]) -> str:
    entries = [encode_group(group, size_cap=1 << 24) for group in groups]
    path.write_bytes(b"".join(len(e).to_bytes(8, "little") + e for e in entries))
    return str(path)


def launch(
    work: Path, world_size: int, model_dir: Path, cases: list[dict[str, Any]], backend: str = "gloo"
) -> Path:
    """Run the cases on `world_size` ranks and write their files to `work`. backend: "nccl" on GPUs, or "gloo"."""
    job = work / "job.json"
    job.write_text(
        json.dumps({"model": str(model_dir), "work": str(work), "cases": cases, "backend": backend})
    )
    (port,) = free_ports(1)
    ranks = []
    for rank in range(world_size):
        environment = os.environ | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "DS_ACCELERATOR": "cpu" if backend == "gloo" else "cuda",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        with (work / f"rank-{rank}.log").open("wb") as log:
            command = [sys.executable, "-m", "tests.support.distributed.learner_rank", str(job)]
            ranks.append(
                subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
            )
    deadline = time.monotonic() + 240
    try:  # after a rank fails, the others would wait for it
        while any(r.poll() is None for r in ranks) and not any(r.poll() for r in ranks):
            assert time.monotonic() < deadline, "the ranks deadlocked"
            time.sleep(0.1)
        codes = [rank.poll() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    logs = "\n".join((work / f"rank-{rank}.log").read_text()[-3000:] for rank in range(world_size))
    assert codes == [0] * world_size, logs
    return work


PLACES = [
    pytest.param((1, "gloo"), id="one rank"),
    pytest.param((2, "gloo"), id="two ranks"),
    pytest.param((1, "nccl"), id="a GPU", marks=NEEDS_GPU),
]


def result(runs: Path, name: str, rank: int = 0) -> dict[str, Any]:
    return json.loads((runs / f"{name}-{rank}.json").read_text())


def weights(runs: Path, name: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(runs / f"{name}.safetensors")
