"""The learner on one GPU: tokens per second and peak memory of real steps, next to the estimates of `scope doctor`.

python benchmarks/performance/learner_gpu.py [--shapes 0.5B 1.5B]

Random bfloat16 weights in the shapes of Qwen2.5. Random rollouts: 32 prompts of 128 tokens with one group of 2 each,
and responses of up to 1,024 tokens, all of which are trained on. The second of two steps is timed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.performance.shared import keep
from services.checks.sizing import DEVICES, model_shape, rank_memory, train_tokens_per_second
from trainer.config import RunConfig
from trainer.entropy_control import Actuators
from trainer.learner.learner import Learner
from trainer.learner.process_group import join_process_group
from trainer.rollouts.batch import RolloutBatch

SHAPES: dict[str, dict[str, Any]] = {
    "0.5B": {
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "intermediate_size": 4864,
    },
    "1.5B": {
        "hidden_size": 1536,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "intermediate_size": 8960,
    },
}
PROMPT, RESPONSE, PROMPTS, SAMPLES = 128, 1024, 32, 2
WAYS: dict[str, dict[str, Any]] = {
    "ZeRO-2": {},
    "layers computed again": {"gradient_checkpointing": True},
    "prompts shared": {"share_prompts": True},
    "token budget": {"micro_batching": "tokens"},
    "ZeRO-3": {"zero_stage": 3},
    "optimizer on the host": {"offload": "optimizer"},
    "LoRA of rank 32": {"lora": {"rank": 32}},
}


def main() -> None:
    """Measure each shape in each way, print the table, and write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["0.5B", "1.5B"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--device", choices=DEVICES, default="h100", help="device of the estimates")
    options = parser.parse_args()
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"MASTER_PORT": "29533", "DS_ACCELERATOR": "cuda"}
    join_process_group("nccl")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    print(
        f"{'':34}{'tokens/s':>10}{'estimate':>10}{'GB peak':>10}{'estimate':>10}{'measure s':>11}{'update s':>10}"
    )
    cases = []
    for shape in options.shapes:
        with tempfile.TemporaryDirectory(prefix="scope-learner-") as folder:
            model_dir = make_model(Path(folder) / "model", shape)
            for way in options.ways:
                found = measure(model_dir, WAYS[way], options.device)
                cases.append({"shape": shape, "way": way, **found})
                print(row(cases[-1]), flush=True)
    keep("learner-gpu", {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "cases": cases})


def row(case: dict[str, Any]) -> str:
    """One row of the table."""
    speed = f"{case['tokens_per_second']:>10,.0f}{case['estimated_tokens_per_second']:>10,.0f}"
    memory = f"{case['peak_bytes'] / 1e9:>10.1f}{case['estimated_bytes'] / 1e9:>10.1f}"
    seconds = f"{case['measure_seconds']:>11.2f}{case['update_seconds']:>10.2f}"
    return f"{case['shape'] + ', ' + case['way']:34}{speed}{memory}{seconds}"


def make_model(path: Path, shape: str) -> Path:
    """Save a model with random weights, made on the GPU, and return its directory."""
    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=151_936,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        dtype="bfloat16",
        **SHAPES[shape],
    )
    with torch.device("cuda"):
        model: Any = Qwen2ForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(path)
    return path


def measure(model_dir: Path, way: dict[str, Any], device: str) -> dict[str, float]:
    """Figures of the second step of a new learner."""
    learner_config = {
        "precision": "bf16",
        "micro_batch_tokens": 8 * (PROMPT + RESPONSE),
        "gpus_per_worker": 1,
    }
    config = RunConfig.model_validate(
        {
            "model": {"path": str(model_dir), "max_length": PROMPT + RESPONSE},
            "rollout": {"prompts_per_step": PROMPTS, "base_samples": SAMPLES, "max_new_tokens": RESPONSE},
            "loss": {"minibatches": 1},
            "learner": {"threads": 8, "zero_stage": 2, "share_prompts": False, "cpus_per_worker": 2}
            | learner_config
            | way,
        }
    )
    held = torch.cuda.memory_allocated()  # what DeepSpeed keeps of earlier engines
    learner = Learner(config, model_dir)
    batch = make_batch()
    torch.cuda.reset_peak_memory_stats()
    for step in range(2):
        metrics = learner.step(batch, Actuators(1.0, 0.5, 1.0), strength=0.0, step=step)
    started = time.perf_counter()
    weights = learner.gather_weights()
    gathered = time.perf_counter() - started
    assert weights is not None
    seconds = metrics.proximal_seconds + metrics.update_seconds
    tokens = int(batch.lengths.sum())
    shape = model_shape(json.loads((model_dir / "config.json").read_text()))
    found = {
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "estimated_tokens_per_second": train_tokens_per_second(shape, config, DEVICES[device]),
        "measure_seconds": metrics.proximal_seconds,
        "update_seconds": metrics.update_seconds,
        "gather_seconds": gathered,
        "peak_bytes": torch.cuda.max_memory_allocated() - held,
        "estimated_bytes": rank_memory(shape, config).device,
        "entropy": metrics.entropy,
        "gradient_norm": metrics.gradient_norm,
    }
    learner.engine.destroy()
    del learner, weights
    gc.collect()
    torch.cuda.empty_cache()
    return found


def make_batch() -> RolloutBatch:
    """Rollouts of one role, groups of two with opposite advantages."""
    rng = np.random.default_rng(3)
    rows = PROMPTS * SAMPLES
    prompts = np.repeat(rng.integers(0, 151_000, (PROMPTS, PROMPT)), SAMPLES, axis=0)
    responses = rng.integers(0, 151_000, (rows, RESPONSE))
    mask = np.arange(RESPONSE) < rng.integers(RESPONSE // 2, RESPONSE + 1, rows)[:, None]
    rewards = torch.tensor([1.0, 0.0] * PROMPTS)
    return RolloutBatch(
        input_ids=torch.from_numpy(np.concatenate([prompts, responses * mask], axis=1)),
        prompt_lengths=torch.full((rows,), PROMPT),
        targets=torch.from_numpy(responses * mask),
        mask=torch.from_numpy(mask.astype(np.float32)),
        behaviour_logprobs=torch.full((rows, RESPONSE), -11.9) * torch.from_numpy(mask),
        temperature=torch.ones(rows),
        sampling_temperature=torch.ones(rows),
        advantages=2 * rewards - 1,
        grouped=torch.ones(rows, dtype=torch.bool),
        auxiliary_advantages=torch.zeros(rows),
        rewards=rewards,
        positive=rewards,
        auxiliary=torch.zeros(rows, dtype=torch.bool),
        minibatch=torch.zeros(rows, dtype=torch.int64),
        slot=torch.arange(rows),
    )


if __name__ == "__main__":
    main()
