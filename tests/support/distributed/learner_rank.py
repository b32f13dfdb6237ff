"""Runs one learner rank as its own process: it executes the cases of a job file and writes the result of each.

`python learner_rank.py JOB` with the usual RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT. All cases share one
process group, so that the tests pay for the imports once.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.distributed as dist

from tests.support.distributed.rank_exit import end_rank
from trainer.config import RunConfig
from trainer.entropy_control import Actuators
from trainer.learner.learner import Learner
from trainer.learner.process_group import join_process_group
from trainer.policy.gather import gather_parameters
from trainer.rollouts.batch import shard_batches
from trainer.rollouts.trajectory import Group, decode_group


def read_groups(path: Path) -> list[Group]:
    """Read the groups from a file of length-prefixed entries."""
    data, groups = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        groups.append(decode_group(data[8 : 8 + size], size_cap=1 << 24))
        data = data[8 + size :]
    return groups


def run_case(case: dict[str, Any], model_dir: Path, work: Path) -> None:
    """Train for some steps; optionally save, continue, and repeat the continuation in a fresh engine."""
    config = RunConfig.model_validate(case["config"])
    rank, steps = dist.get_rank(), case["steps"]
    batch = shard_batches(read_groups(Path(case["groups"])), config)[rank]
    actuators = Actuators(1.0, case["alpha"], case["surprisal_exponent"])
    learner = Learner(config, model_dir)
    result: dict[str, Any] = {"world_size": learner.world_size}
    first = case.get("first", 0)
    if first:
        learner.load(Path(case["from"]), "universal", universal=True)
    result["metrics"] = [
        dataclasses.asdict(learner.step(batch, actuators, strength=case["strength"], step=step))
        for step in range(first, first + steps)
    ]
    result["optimizer_bytes"] = learner.optimizer_bytes()
    group = learner.engine.data_parallel_group._get_backend(learner.device)
    result["collective_timeout"] = group.options._timeout.total_seconds()

    def continue_as(name: str, continued: Learner) -> None:
        metrics = continued.step(batch, actuators, strength=case["strength"], step=steps)
        result[name] = [dataclasses.asdict(metrics)]
        weights = continued.gather_weights()
        if weights is not None:
            safetensors.torch.save_file(weights, work / f"{case['name']}-{name}.safetensors")

    weights, adapter = learner.gather_weights(), learner.gather_adapter()
    if case.get("buckets"):
        model = learner.engine.module.model
        parameters = model.named_parameters()
        again = gather_parameters(parameters, partitioned=config.learner.zero_stage == 3, bucket_bytes=3000)
        result["same_in_buckets"] = (
            again is None
            or weights is None
            or (
                again.keys() == weights.keys()
                and all(torch.equal(again[name], weights[name]) for name in again)
            )
        )
    result["probe"] = learner.probe_logprobs()
    if weights is not None:
        safetensors.torch.save_file(weights, work / f"{case['name']}.safetensors")
        if case.get("export"):
            learner.export(work / case["export"], weights, model_dir, adapter)
    if case.get("continue"):
        snapshot = learner.snapshot(work / case["name"], "kept")
        # The learner takes another step before the snapshot is written.
        continue_as("continued", learner)
        snapshot.write()
        dist.barrier()
        again = Learner(config, model_dir)
        again.load(work / case["name"], "kept")
        continue_as("restored", again)
    (work / f"{case['name']}-{rank}.json").write_text(json.dumps(result))


def main() -> None:
    """Run the cases of the job file."""
    job = json.loads(Path(sys.argv[1]).read_text())
    join_process_group(job["backend"])
    for case in job["cases"]:
        run_case(case, Path(job["model"]), Path(job["work"]))
    end_rank()


if __name__ == "__main__":
    main()
