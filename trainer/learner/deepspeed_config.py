"""DeepSpeed configurations: partitioning, precision and offloading to host memory."""

from __future__ import annotations

from typing import Any

from trainer.config import RunConfig


def learner_engine_config(config: RunConfig) -> dict[str, Any]:
    """Configuration of the engine that trains the policy."""
    partitioning: dict[str, Any] = {"stage": config.learner.zero_stage, "overlap_comm": False}
    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.optimizer.gradient_clip,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": partitioning,
        "bf16": {"enabled": config.learner.precision == "bf16"},
        "steps_per_print": 1 << 30,
    }
    if config.learner.offload != "none":
        partitioning["offload_optimizer"] = {"device": "cpu"}
        # torch's fused AdamW runs on the host, so DeepSpeed's compiled optimizer is not needed.
        settings["zero_force_ds_cpu_optimizer"] = False
    if config.learner.offload == "all":
        partitioning["offload_param"] = {"device": "cpu"}
    return settings


def reference_engine_config(config: RunConfig) -> dict[str, Any]:
    """Configuration of the reference policy's engine, which only measures; partitioned like the learner's ZeRO-3."""
    partitioning: dict[str, Any] = {"stage": 3}
    if config.learner.offload == "all":
        partitioning["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": partitioning,
        "bf16": {"enabled": config.learner.precision == "bf16"},
        "steps_per_print": 1 << 30,
    }
