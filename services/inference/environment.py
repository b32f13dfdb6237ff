"""The environment variables that an engine's process needs."""

from __future__ import annotations

from trainer.config import RunConfig
from trainer.determinism import compute_environment
from trainer.tasks.datasets.rows import reads_hub


def engine_environment(config: RunConfig) -> dict[str, str]:
    """vLLM's and torch's own switches for a generator's processes."""
    return {
        "OMP_NUM_THREADS": str(config.generators.threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": str(config.generators.kv_cache_gib),
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        # On CPUs vLLM runs the worker in a process of its own, to bind its threads, unless this is 0. Without the
        # traffic between worker and engine core a tiny model samples faster (docs/explanation/performance.md).
        "VLLM_ENABLE_V1_MULTIPROCESSING": str(int(config.generators.gpus_per_generator > 0)),
        "HF_HUB_OFFLINE": str(int(not reads_hub(config.task))),
        "TOKENIZERS_PARALLELISM": "false",
    } | compute_environment(strict=config.determinism.strict)
