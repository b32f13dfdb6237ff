"""Run the quickstart on one GPU that the learner and both engines share, with engines in bfloat16.

    python benchmarks/one_gpu.py
    python benchmarks/one_gpu.py --run RUN_DIR --about "one H200, torch 2.11, vLLM 0.26"

The second command reports on a run directory copied from another machine. Prints the tracking error of entropy, the
times of steps and weight transfers, and held-out pass@k, and writes benchmarks/results/one-gpu.json. Needs vLLM's GPU
build.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean, median
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(REPOSITORY)]

import numpy as np  # noqa: E402

from benchmarks.performance.shared import keep  # noqa: E402
from services.compare.statistics import moving_average  # noqa: E402
from services.records.sinks import read_records  # noqa: E402
from services.records.step_record import StepRecord  # noqa: E402
from trainer.pass_at_k import pass_at_k  # noqa: E402

CONFIG = REPOSITORY / "deploy" / "configs" / "countdown-cpu.yaml"
SETTINGS = [
    "learner.gpus_per_worker=0.4",
    "learner.threads=4",
    "generators.gpus_per_generator=0.3",
    "generators.gpu_memory_fraction=0.1",
    "generators.kv_cache_gib=4",
    "generators.dtype=bfloat16",
    "generators.enforce_eager=true",
    "entropy_control.split_range.gain_memory=0",
    "ray.dashboard=false",
    "control_plane.enabled=false",
]
LAST = 60
WARM_UP = 5


def main() -> None:
    """Train, unless `--run` names a finished run, then report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, metavar="DIR", help="a finished run to report on")
    parser.add_argument("--about", default="this machine", help="hardware and versions of that run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scope-one-gpu-") as folder:
        run = options.run or train(Path(folder))
        document = report(read_records(run / "steps.jsonl"))
        document["held_out"] = passes(json.loads((run / "evaluations.json").read_text()))
    for name, value in document.items():
        print(f"{name:<34} {value if isinstance(value, int | list) else format(value, '.4f')}")
    keep("one-gpu", document | {"ran_on": options.about, "settings": SETTINGS})


def train(folder: Path) -> Path:
    """Train and return the run's directory. Raises CalledProcessError if the run fails."""
    sets = [part for setting in [*SETTINGS, f"runs_dir={folder}"] for part in ("--set", setting)]
    command = [sys.executable, "-m", "services.cli", "train", str(CONFIG), "--run-id", "gpu", *sets]
    subprocess.run(command, check=True, cwd=REPOSITORY)
    return folder / "gpu"


def report(records: list[StepRecord]) -> dict[str, Any]:
    """Summarise a run: entropy and mismatch in nats per token, times in seconds, and counts."""
    late = [r.entropy - r.entropy_target for r in records[-LAST:] if r.entropy_target is not None]
    warm = records[WARM_UP:]
    seconds = {
        name: median(value for r in warm if (value := getattr(r, name)) is not None)
        for name in (
            "step_seconds",
            "wait_seconds",
            "learn_seconds",
            "publish_seconds",
            "weight_load_seconds",
        )
    }
    return {
        "steps": len(records),
        "entropy_mean_error": fmean(late),
        "entropy_rms_of_moving_average": float(np.sqrt(np.mean(moving_average(np.array(late)) ** 2))),
        "saturated_steps": sum(r.saturated for r in records[-LAST:]),
        "seconds_per_step": (warm[-1].at - warm[0].at) / (len(warm) - 1),
        **{f"median_{name}": value for name, value in seconds.items()},
        "median_mismatch_kl_base": median(r.mismatch_kl_base for r in warm if r.mismatch_kl_base is not None),
        "versions_loaded": sum(r.weight_load_seconds is not None for r in records),
        "rollouts_over_two_versions": sum(r.spanning_rollouts for r in records),
        "groups": sum(r.groups for r in records),
        "duplicates": records[-1].duplicates,
        "dead_lettered": records[-1].dead_lettered,
        "restarts": records[-1].generator_restarts + records[-1].learner_restarts,
    }


def passes(evaluations: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Held-out pass@k of each evaluation."""
    return [
        {"step": e["step"]}
        | {f"pass@{k}": fmean(pass_at_k(e["samples"], right, k) for right in e["correct"]) for k in e["ks"]}
        for e in evaluations
    ]


if __name__ == "__main__":
    main()
