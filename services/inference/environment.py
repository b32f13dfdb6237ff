"""Environment variables of an engine's process."""

from __future__ import annotations

from trainer.config import RunConfig
from trainer.determinism import compute_environment
from trainer.rendezvous import OVER_LOOPBACK
from trainer.tasks.datasets.sources import reads_hub


def engine_environment(config: RunConfig) -> dict[str, str]:
    """Environment variables of vLLM and torch for a generator's processes.

    Without `ray.address` they communicate over loopback only.
    """
    variables = {
        "OMP_NUM_THREADS": str(config.generators.threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": str(config.generators.kv_cache_gib),
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        # On CPUs vLLM runs the worker in its own process beside the engine core, to bind its threads, unless this is 0.
        # One process for both samples faster with a tiny model (docs/explanation/performance.md).
        "VLLM_ENABLE_V1_MULTIPROCESSING": str(int(config.generators.gpus_per_generator > 0)),
        "HF_HUB_OFFLINE": str(int(not reads_hub(config.task))),
        "TOKENIZERS_PARALLELISM": "false",
    } | compute_environment(strict=config.determinism.strict)
    if config.ray.address is not None:
        return variables
    return variables | OVER_LOOPBACK | {"VLLM_HOST_IP": "127.0.0.1"}
