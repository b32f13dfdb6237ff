"""Low-rank adapters (arXiv 2106.09685) through peft: adding, merging, saving.

Adapters are injected into the model in place, so the learner's forward pass needs no change. Generators get merged
weights under the model's own names and need not know of adapters; the probe proves the merge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor
from transformers import PreTrainedModel

from trainer.config import LoraConfig
from trainer.errors import ScopeError

if TYPE_CHECKING:
    import peft

ADAPTER = "default"
_PEFT_PREFIX = "base_model.model."


def add_adapters(model: PreTrainedModel, config: LoraConfig, seed: int) -> None:
    """Freeze `model` and add adapters to its linear layers, initialised by `seed` so that the outputs do not change.

    Raises ScopeError for a layer of `learner.lora.targets` that the model does not have.
    """
    import peft

    linear = {
        name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)
    }
    if unknown := sorted(set(config.targets) - linear):
        raise ScopeError(
            f"learner.lora.targets={list(config.targets)}: the model has no linear layer {unknown[0]!r}; "
            f"it has {', '.join(sorted(linear))}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(_peft_config(config), model, adapter_name=ADAPTER)


@contextmanager
def adapters_off(model: PreTrainedModel) -> Iterator[None]:
    """Disable the adapters within the block: the model is then the one that they were added to."""
    layers = list(_layers(model).values())
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


@torch.no_grad()
def merged_weights(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of the model without adapters, by name, with the adapters merged into their layers.

    weights: every parameter of `model`, whole, by name. The sum is computed in float32 and rounded to the layer's type.
    """
    merged = {name: weight for name, weight in weights.items() if not is_adapter(name)}
    for path, layer in _layers(model).items():
        name = f"{path}.base_layer.weight"
        up, down = (weights[f"{path}.lora_{part}.{ADAPTER}.weight"].float() for part in "BA")
        merged[name] = (merged[name].float() + layer.scaling[ADAPTER] * (up @ down)).to(merged[name].dtype)
    return {name.replace(".base_layer.", "."): weight for name, weight in merged.items()}


def is_adapter(name: str) -> bool:
    """Whether the parameter `name` belongs to an adapter."""
    return ".lora_" in name


def adapter_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adapter parameters by peft's names. weights: the same parameters, whole, by the model's names."""
    return {_PEFT_PREFIX + name.replace(f".{ADAPTER}.", "."): weight for name, weight in weights.items()}


def save_adapter(directory: Path, config: LoraConfig, weights: dict[str, Tensor]) -> None:
    """Write a directory for `peft.PeftModel.from_pretrained`. weights: from `adapter_weights`."""
    directory.mkdir(parents=True)
    _peft_config(config).save_pretrained(str(directory))
    safetensors.torch.save_file(weights, directory / "adapter_model.safetensors")


def _peft_config(config: LoraConfig) -> peft.LoraConfig:
    import peft  # takes seconds to import; only runs with adapters need it

    return peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType] - peft divides it, whatever it is
        lora_dropout=0.0,
        target_modules=list(config.targets) or "all-linear",
        task_type="CAUSAL_LM",
    )


def _layers(model: PreTrainedModel) -> dict[str, Any]:
    from peft.tuners.lora import LoraLayer

    return {name: part for name, part in model.named_modules() if isinstance(part, LoraLayer)}
