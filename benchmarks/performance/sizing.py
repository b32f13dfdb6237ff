"""Print the sizing table of docs/explanation/performance.md: the estimated needs of three models on 80 GB GPUs.

.venv/bin/python benchmarks/performance/sizing.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY)]

from services.checks import sizing  # noqa: E402
from trainer.config import RunConfig  # noqa: E402

COMMON: dict[str, Any] = {"max_position_embeddings": 32768, "head_dim": 128}
MODELS: dict[str, dict[str, Any]] = {
    "1.5B": {
        "hidden_size": 1536,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "intermediate_size": 8960,
        "vocab_size": 151_936,
        "tie_word_embeddings": True,
    },
    "7B": {
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18944,
        "vocab_size": 152_064,
    },
    "32B": {
        "hidden_size": 5120,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "intermediate_size": 27648,
        "vocab_size": 152_064,
    },
}
RANKS = {"1.5B": 1, "7B": 4, "32B": 16}
PARALLEL = {"1.5B": 1, "7B": 1, "32B": 2}
DEVICE = sizing.DEVICES["h100"]


def configuration(name: str) -> RunConfig:
    """bf16, sequences of 8,192 tokens, micro-batches of 8,192 tokens, gradient checkpointing."""
    return RunConfig.model_validate(
        {
            "model": {"max_length": 8192},
            "rollout": {"max_new_tokens": 7168, "prompts_per_step": 128},
            "checkpoint": {"every_steps": 1},
            "pipeline": {"unacked_bytes": 1 << 40},
            "learner": {
                "workers": RANKS[name],
                "zero_stage": 3 if RANKS[name] > 1 else 2,
                "precision": "bf16",
                "gpus_per_worker": 1,
                "micro_batch_tokens": 8192,
                "micro_batching": "tokens",
                "gradient_checkpointing": True,
            },
            "generators": {
                "dtype": "bfloat16",
                "gpus_per_generator": PARALLEL[name],
                "tensor_parallel": PARALLEL[name],
            },
        }
    )


def table() -> str:
    """The table in Markdown; 1 GB is 10^9 bytes."""
    columns = {name: column(name) for name in MODELS}
    rows = [f"| | {' | '.join(MODELS)} |", "|---" * (1 + len(MODELS)) + "|"]
    rows += [f"| {row} | {' | '.join(cells[row] for cells in columns.values())} |" for row in columns["1.5B"]]
    return "\n".join(rows)


def column(name: str) -> dict[str, str]:
    """The cells of one model, by row."""
    shape, config = sizing.model_shape(COMMON | MODELS[name]), configuration(name)
    rank, engine = sizing.rank_memory(shape, config), sizing.generator_memory(shape, config)
    checkpoint = sizing.checkpoint_bytes(shape, config)
    sizes = {
        "weights of a rank": rank.weights,
        "gradients of a rank": rank.gradients,
        "optimizer of a rank": rank.optimizer,
        "activations of a rank": rank.activations,
        "head of a rank": rank.head,
        "gathered by a rank": rank.gathered,
        "a rank in all": rank.device,
        "host copies of rank 0": rank.host_copies,
        "host memory of each rank while it starts": rank.loading,
        "engine's weights, each GPU": engine.weights,
        "a checkpoint": checkpoint,
    }
    decode = sizing.decode_tokens_per_second(shape, config, DEVICE)
    return {
        "parameters": f"{shape.parameters / 1e9:.2f} B",
        "learner ranks, ZeRO stage": f"{config.learner.workers}, {config.learner.zero_stage}",
        **{what: f"{size / 1e9:,.1f} GB" for what, size in sizes.items()},
        "GPUs of an engine": f"{config.generators.tensor_parallel}",
        "sequences of full length at once": f"{sizing.sequences_at_once(shape, config, DEVICE)}",
        "tokens/s of an engine": f"{decode:,.0f}",
        "tokens/s of the learner": f"{sizing.train_tokens_per_second(shape, config, DEVICE):,.0f}",
    }


if __name__ == "__main__":
    print(table())
