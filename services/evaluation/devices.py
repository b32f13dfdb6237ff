"""Assigns GPUs to the engines of an evaluation: each is a process, and all of them would use the first GPUs."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from trainer.config import GeneratorConfig
from trainer.errors import ScopeError

VARIABLE = "CUDA_VISIBLE_DEVICES"


def visible_devices() -> list[str]:
    """Return the GPUs visible to this process, as `CUDA_VISIBLE_DEVICES` names them; none on a CPU machine."""
    import torch

    count, named = torch.cuda.device_count(), os.environ.get(VARIABLE)
    names = list(map(str, range(count))) if named is None else [name.strip() for name in named.split(",")]
    return names[:count]


def share_devices(engines: int, config: GeneratorConfig, visible: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the devices of each engine: `tensor_parallel` devices, or one shared device for a fraction of a GPU.

    Engines that share devices are spread over all of them. Without GPUs, and if the configuration requests none, every
    engine has no device. Raises ScopeError when there are fewer devices than the engines need.
    """
    if not visible:
        if config.gpus_per_generator:
            raise ScopeError(
                f"generators.gpus_per_generator={config.gpus_per_generator:g} is not allowed here, only 0: this "
                f"machine shows no GPU (--set generators.gpus_per_generator=0 samples on the CPU)."
            )
        return [()] * engines
    each = config.tensor_parallel
    if each > len(visible):
        raise ScopeError(
            f"generators.tensor_parallel={each} is not allowed here: from 1 to {len(visible)}, the number of "
            f"visible GPUs ({', '.join(visible)})."
        )
    # Tolerates rounding: 1 / 0.1 must give ten.
    sharing = math.floor(1 / config.gpus_per_generator + 1e-9) if config.shares_gpu else 1
    most = len(visible) // each * sharing
    if engines > most:
        takes = f"{config.gpus_per_generator:g} of a GPU" if config.shares_gpu else f"{each} GPU(s)"
        field = "gpus_per_generator" if config.shares_gpu else "tensor_parallel"
        raise ScopeError(
            f"--engines={engines} is not allowed here: from 1 to {most}. An engine takes {takes} "
            f"(generators.{field}), and {len(visible)} are visible ({', '.join(visible)})."
        )
    places = [tuple(visible[first : first + each]) for first in range(0, len(visible) - each + 1, each)]
    return [places[engine % len(places)] for engine in range(engines)]
