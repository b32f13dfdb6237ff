"""`scope doctor`: all checks in order, and the estimate."""

from __future__ import annotations

from services.checks import machine, model, sizing
from services.checks.findings import Finding, failed, found
from services.checks.preflight import PROMPTS, preflight_checks
from services.checks.sizing import ModelShape
from services.host.environment import package_versions
from trainer.config import RunConfig
from trainer.errors import ScopeError
from trainer.starting_model.find import cached_starting_model


def examine(config: RunConfig) -> tuple[list[Finding], ModelShape | None]:
    """Every finding, and the model's shape if it is known. Starts and changes nothing."""
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    findings = found("packages", versions, lambda: machine.check_packages(config), "installed")
    preflight: list[Finding] = []
    for check in preflight_checks(config, download=False):
        # Without a task or a model there are no prompts.
        if check.field != PROMPTS or not failed(preflight):
            preflight += found(check.field, check.value, check.run, check.passed)
    findings += preflight
    if any(f.level == "error" and f.field in ("task.name", "model.path") for f in preflight):
        return findings, None
    wanted = f"{machine.gpus_wanted(config):g}"
    findings += found("GPUs", wanted, lambda: machine.check_gpus(config), "available")
    starting = cached_starting_model(config.model)
    if config.model.path is not None and starting is None:
        return findings, None
    directory = None if starting is None else starting.directory
    try:
        shape = model.shape_of(config, directory)
    except ScopeError as error:
        return [*findings, Finding("warning", "model.path", str(config.model.path), str(error))], None
    path, runs_dir, host = config.model.path, config.runs_dir, config.control_plane.host
    cached = f", in {directory}" if starting is not None and starting.hub_id is not None else ""
    findings += found(
        "model.path",
        path,
        lambda: model.check_weights(directory),
        f"{shape.parameters:,} parameters{cached}",
    )
    findings += found(
        "model.path",
        path,
        lambda: model.check_tokenizer(config, directory),
        f"vocabulary {shape.vocabulary:,}",
    )
    need = machine.host_bytes(shape, config)
    findings += found(
        "memory", f"{need:,}", lambda: machine.check_memory(shape, config), "bytes fit into memory"
    )
    findings += found("runs_dir", runs_dir, lambda: machine.check_disk(shape, config), "enough disk space")
    if config.control_plane.enabled:
        findings += found(
            "control_plane.host",
            host,
            lambda: machine.check_exposure(config),
            "reachable from this machine only",
        )
    return findings, shape


def estimate(shape: ModelShape, config: RunConfig, device: sizing.Device | None) -> dict[str, int | float]:
    """The estimate by name, bytes; with a device also speeds (tokens per second) and concurrent sequences."""
    rank, engine = sizing.rank_memory(shape, config), sizing.generator_memory(shape, config)
    unread, unacknowledged = sizing.queue_bytes(config)
    sizes: dict[str, int | float] = {
        "parameters": shape.parameters,
        "learner_rank_weights_bytes": rank.weights,
        "learner_rank_gradients_bytes": rank.gradients,
        "learner_rank_optimizer_bytes": rank.optimizer,
        "learner_rank_activations_bytes": rank.activations,
        "learner_rank_head_bytes": rank.head,
        "learner_rank_gathered_bytes": rank.gathered,
        "learner_rank_device_bytes": rank.device,
        "learner_rank_0_host_copies_bytes": rank.host_copies,
        "learner_rank_host_loading_bytes": rank.loading,
        "learner_rank_offloaded_bytes": rank.offloaded,
        "generator_weights_bytes": engine.weights,
        "generator_key_values_wanted_bytes": engine.key_values_wanted,
        "checkpoint_bytes": sizing.checkpoint_bytes(shape, config),
        "disk_bytes": sizing.disk_bytes(shape, config),
        "queue_unread_bytes": unread,
        "queue_unacknowledged_bytes": unacknowledged,
    }
    if device is not None:
        sizes["generator_sequences_at_once"] = sizing.sequences_at_once(shape, config, device)
        sizes["generator_tokens_per_second"] = sizing.decode_tokens_per_second(shape, config, device)
        sizes["learner_tokens_per_second"] = sizing.train_tokens_per_second(shape, config, device)
    return sizes


def fits_device(shape: ModelShape, config: RunConfig, device: sizing.Device) -> list[Finding]:
    """Whether a learner rank and a generator each fit on one GPU of this type."""

    def learner() -> list[str]:
        need = sizing.rank_memory(shape, config).device
        if need > device.memory:
            raise ScopeError(
                f"a rank needs about {need / 1e9:,.0f} GB, and {device.name} has {device.memory / 1e9:,.0f} GB: raise "
                "learner.workers with learner.zero_stage=3, set learner.gradient_checkpointing=true or "
                "learner.offload, or lower learner.micro_batch_tokens"
            )
        return []

    def generator() -> list[str]:
        if sizing.sequences_at_once(shape, config, device) == 0:
            raise ScopeError(
                f"weights and one sequence of {config.model.max_length:,} tokens do not fit on {device.name}: "
                "raise generators.tensor_parallel"
            )
        return []

    workers, parallel = config.learner.workers, config.generators.tensor_parallel
    return [
        *found("learner.workers", workers, learner, f"a rank fits on {device.name}"),
        *found("generators.tensor_parallel", parallel, generator, f"an engine fits on {device.name}"),
    ]
