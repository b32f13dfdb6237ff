"""Which GPUs each engine of an evaluation sees: every engine is a process, and each would take the first ones."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from trainer.config import GeneratorConfig
from trainer.errors import ScopeError

VARIABLE = "CUDA_VISIBLE_DEVICES"


def visible_devices() -> list[str]:
    """The GPUs that a process started here may use, as `CUDA_VISIBLE_DEVICES` names them; none on a CPU machine."""
    import torch

    count, named = torch.cuda.device_count(), os.environ.get(VARIABLE)
    names = list(map(str, range(count))) if named is None else [name.strip() for name in named.split(",")]
    return names[:count]


def share_devices(engines: int, config: GeneratorConfig, visible: Sequence[str]) -> list[tuple[str, ...]]:
    """The devices of each engine: `tensor_parallel` of its own, or one that it shares where it has a fraction of it.

    Engines that share are spread over the devices first. No device for any engine where none is visible and the
    configuration asks for none. Raises ScopeError where there are fewer devices than engines need.
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
    # A little more than 1 / 0.1 must be ten.
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
