"""How long a checkpoint makes the learner wait between two steps: synchronous against asynchronous writing.

.venv/bin/python benchmarks/checkpoint.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(REPOSITORY)]

import torch  # noqa: E402
from transformers import Qwen3Config, Qwen3ForCausalLM  # noqa: E402

from services.learner.checkpoint_writer import CheckpointWriter, exchange_over_gloo  # noqa: E402
from tests.support.replay_harness import make_group  # noqa: E402
from trainer.checkpoint.store import CheckpointStore, LearnerState  # noqa: E402
from trainer.config import RunConfig  # noqa: E402
from trainer.entropy_control import Actuators  # noqa: E402
from trainer.learner.learner import Learner  # noqa: E402
from trainer.learner.process_group import join_process_group  # noqa: E402
from trainer.rollouts.batch import RolloutBatch, shard_batches  # noqa: E402

LAYERS, WIDTH, INNER, VOCABULARY = 9, 768, 2048, 64
"""64 million parameters"""
MODES = ("synchronous", "asynchronous")


def main() -> None:
    """Measure both modes alternately in one process, print the table and write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoints", type=int, default=4, help="checkpoints in each mode")
    parser.add_argument("--steps-between", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "checkpoint.json")
    options = parser.parse_args()
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"MASTER_PORT": "0", "DS_ACCELERATOR": "cpu"}
    join_process_group("gloo")
    with tempfile.TemporaryDirectory(prefix="scope-checkpoint-") as folder:
        document = measure(Path(folder), options)
    table(document)
    options.out.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written to {options.out}")


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Wait times and step times of both modes, in seconds."""
    model_dir = make_model(folder / "model")
    subjects = {mode: Subject(folder / mode, model_dir, mode, options.threads) for mode in MODES}
    found: dict[str, dict[str, list[float]]] = {mode: {"wait": [], "step": []} for mode in MODES}
    calm: list[float] = []
    for subject in subjects.values():
        subject.step()
    for _ in range(options.checkpoints):
        for mode, subject in subjects.items():
            calm.append(timed(subject.step))
            found[mode]["wait"].append(timed(subject.checkpoint))
            found[mode]["step"].append(timed(subject.step))
            for _ in range(options.steps_between - 1):
                subject.step()
            # The modes do not overlap: each has the disk and the processor to itself.
            subject.writer.wait()
    size = sum(path.stat().st_size for path in (folder / MODES[0]).glob("step-*/**/*") if path.is_file())
    size //= len(list((folder / MODES[0]).glob("step-*")))
    ways = {
        mode: {
            "wait_seconds": values["wait"],
            "median_wait_seconds": statistics.median(values["wait"]),
            "median_next_step_seconds": statistics.median(values["step"]),
        }
        for mode, values in found.items()
    }
    waits = {mode: way["median_wait_seconds"] for mode, way in ways.items()}
    return {
        "parameters": subjects[MODES[0]].parameters,
        "checkpoint_bytes": size,
        "median_calm_step_seconds": statistics.median(calm),
        "ways": ways,
        "synchronous_over_asynchronous": waits["synchronous"] / waits["asynchronous"],
        "threads": options.threads,
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg(), "platform": platform.platform()},
    }


class Subject:
    """A learner of one rank that writes checkpoints in one of the two modes."""

    def __init__(self, folder: Path, model_dir: Path, mode: str, threads: int) -> None:
        config = RunConfig.model_validate(
            {
                "rollout": {"prompts_per_step": 1, "base_samples": 2, "adaptive_samples": 2},
                "loss": {"minibatches": 1},
                "learner": {"threads": threads},
                "checkpoint": {"asynchronous": mode == "asynchronous"},
            }
        )
        self._store = CheckpointStore(folder, keep=2)
        self._asynchronous = config.checkpoint.asynchronous
        self._learner = Learner(config, model_dir)
        self.parameters = sum(p.numel() for p in self._learner.model.parameters())
        self.writer = CheckpointWriter(exchange_over_gloo(config.learner.collective_timeout_seconds))
        self._batch, self._done = make_batch(config), 0

    def step(self) -> None:
        """One learner step."""
        self._learner.step(self._batch, Actuators(1.0, 0.5, 1.0), strength=0.0, step=self._done)
        self._done += 1

    def checkpoint(self) -> None:
        """What the learner does between two steps when a checkpoint is due."""
        self.writer.wait()
        folder = self._store.writing(self._done, 1)
        snapshot = self._learner.snapshot(folder, "engine")
        state = LearnerState(
            step=self._done,
            lineage=1,
            config_hash="",
            workers=1,
            zero_stage=2,
            controller={},
            regularizer={},
            entropy_target_generation=1,
            consumed=[],
        )
        self.writer.begin(folder, snapshot.write, lambda: self._commit(state))
        if not self._asynchronous:
            self.writer.wait()

    def _commit(self, state: LearnerState) -> None:
        self._store.commit(state, lambda: None)


def make_model(path: Path, *, layers: int = LAYERS, positions: int = 32) -> Path:
    """Save a model with random weights and return its directory."""
    torch.manual_seed(1)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=layers,
        num_attention_heads=12,
        num_key_value_heads=12,
        head_dim=64,
        max_position_embeddings=positions,
        tie_word_embeddings=False,
    )
    Qwen3ForCausalLM(config).save_pretrained(path)
    return path


def make_batch(config: RunConfig) -> RolloutBatch:
    """Rollouts of one step: four short ones, so that the weight update takes most of the step."""
    return shard_batches([make_group("base", 0), make_group("adaptive", 0)], config)[0]


def timed(work: Callable[[], None]) -> float:
    """Seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def table(document: dict[str, Any]) -> None:
    """Print the wait times and step times of both modes."""
    print(
        f"{document['parameters']:,} parameters, {document['checkpoint_bytes'] / 2**20:,.0f} MiB per checkpoint"
    )
    print(f"step without a checkpoint in flight: {document['median_calm_step_seconds']:.2f} s")
    print(f"{'':14}{'learner waits, s':>22}{'next step takes, s':>24}")
    for mode, way in document["ways"].items():
        print(f"{mode:14}{way['median_wait_seconds']:>22.2f}{way['median_next_step_seconds']:>24.2f}")
    print(f"synchronous / asynchronous: {document['synchronous_over_asynchronous']:.1f}")


if __name__ == "__main__":
    main()
