"""Prepares new weights beside the ones that vLLM samples with, so that the engine pauses only for the swap.

vLLM's own reload changes the model in place, layer by layer: on a CPU it allocates, fills and packs every matrix again,
and the engine must be paused for all of it. Here the same reload runs on a *shell* of the model: modules of the same
classes that share everything with the model except their parameter tables. It needs memory for a second copy of the
weights until the swap.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from vllm.model_executor.layers.attention import is_deferred_attention_layer
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
from vllm.model_executor.model_loader.reload import layerwise
from vllm.model_executor.model_loader.reload.meta import (
    SKIP_TENSORS,
    materialize_meta_tensor,
    restore_layer_on_meta,
    to_meta_tensor,
)
from vllm.model_executor.model_loader.reload.sanitize import restore_layer_refs, sanitize_layer_refs

if TYPE_CHECKING:
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

Swap = Callable[[], None]
"""Makes the engine sample with the new weights. The engine must be paused."""

_OWN_TABLES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


def stage(runner: GPUModelRunner, weights: dict[str, Tensor]) -> Swap:
    """Prepare `weights`, by Hugging Face name, and return the function that swaps them in.

    May run on any thread. Compiled models and CUDA graphs hold their parameters by address and cannot be prepared
    separately: for them the returned function does all of the work.
    """
    model: Any = runner.get_model()
    if _can_be_staged(runner):
        return _staged(model, weights)

    def reload() -> None:
        runner.reload_weights(weights_iterator=iter(weights.items()))
        if next(model.parameters()).device.type == "cpu":
            repack_tied_head(model)

    return reload


def repack_tied_head(model: Any) -> None:
    """Refresh the packed copy of a tied output head that the CPU backend keeps; a reload does not refresh it."""
    if getattr(getattr(model, "config", None), "tie_word_embeddings", False):
        dispatch_cpu_unquantized_gemm(model.lm_head, remove_weight=False)


def _can_be_staged(runner: GPUModelRunner) -> bool:
    if runner.device.type != "cpu" or not runner.model_config.enforce_eager:
        return False
    holders = [module for module in runner.get_model().modules() if module._parameters]
    return not any(module._buffers or is_deferred_attention_layer(module) for module in holders)


@torch.no_grad()
def _staged(model: Any, weights: dict[str, Tensor]) -> Swap:
    shells: dict[nn.Module, nn.Module] = {}
    shell_model: Any = _shell(model, shells)
    holders = {module: shell for module, shell in shells.items() if module._parameters}
    for module, shell in holders.items():
        _begin(module, shell)
    shell_model.load_weights(iter(weights.items()))
    renewed: dict[int, nn.Parameter] = {}
    untouched = []
    for module, shell in holders.items():
        info = layerwise.get_layerwise_info(shell)
        if info.can_load() and info.load_numel == 0:
            untouched.append((module, shell))
            continue
        if info.can_load():
            layerwise._layerwise_process(shell, info)
        for name, parameter in module._parameters.items():
            renewed[id(parameter)] = shell._parameters[name]  # pyright: ignore[reportArgumentType]
    for module, shell in untouched:
        # Its parameters are tied to another module's, or are not among the weights.
        shell._parameters.clear()
        shell._parameters.update({n: renewed.get(id(p), p) for n, p in module._parameters.items()})
    repack_tied_head(shell_model)
    exchange = [(module, shell._parameters, _attributes(shell)) for module, shell in holders.items()]
    for module, shell in holders.items():
        for parameter in shell._parameters.values():
            if parameter is not None:
                restore_layer_refs(sanitize_layer_refs(parameter, shell), module)
        del layerwise.LAYERWISE_INFO[shell]
    for shell in shells.values():
        # Shells are in reference cycles: their weights would stay in memory until the next garbage collection.
        shell.__dict__.clear()

    def swap() -> None:
        for module, parameters, attributes in exchange:
            module._parameters.clear()
            module._parameters.update(parameters)
            module.__dict__.update(attributes)
        exchange.clear()

    return swap


def _attributes(shell: nn.Module) -> dict[str, Any]:
    """Attributes that packing may have set, such as the function that multiplies by the packed matrix."""
    return {name: value for name, value in shell.__dict__.items() if name not in _OWN_TABLES}


def _shell(module: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    """Return a module that shares `module`'s attributes except its tables. made: the shells so far, by module."""
    if module not in made:
        shell = made[module] = copy.copy(module)
        for name in _OWN_TABLES:
            shell.__dict__[name] = copy.copy(module.__dict__[name])
        shell._modules.update(
            {name: child and _shell(child, made) for name, child in module._modules.items()}
        )
    return made[module]


def _begin(module: nn.Module, shell: nn.Module) -> None:
    """Prepare a shell for vLLM's reload as vLLM prepares a module, so that no tensor of `module` is written to."""
    info, known = layerwise.get_layerwise_info(shell), layerwise.get_layerwise_info(module)
    # Copies, because these become the shell's parameters, whose weight loaders refer to the shell.
    parameters, buffers = known.restore_metadata
    info.restore_metadata = ({n: to_meta_tensor(p) for n, p in parameters.items()}, buffers)
    info.restore_device = known.restore_device
    restore_layer_on_meta(shell, info)
    for name in SKIP_TENSORS & shell._parameters.keys():
        # vLLM writes into these in place.
        if (parameter := shell._parameters[name]) is not None:
            shell._parameters[name] = materialize_meta_tensor(to_meta_tensor(parameter))  # pyright: ignore[reportArgumentType]
    layerwise.initialize_online_processing(shell)
