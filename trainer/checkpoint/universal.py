"""Converts checkpoints to DeepSpeed's universal format, for another number of learner ranks or another ZeRO stage.

DeepSpeed's converter writes the format differently for stages 1 and 2 and for stage 3. This module removes the
differences: how a tensor is wrapped, where the update count is, and the name of the file with the engine's counters.
"""

from __future__ import annotations

import contextlib
import io
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.checkpoint.constants import (
    DS_VERSION,
    FP32_FLAT_GROUPS,
    OPTIMIZER_STATE_DICT,
    PARAM,
    PARAM_GROUPS,
)
from deepspeed.checkpoint.ds_to_universal import main as convert

MOMENTS = ("fp32", "exp_avg", "exp_avg_sq")


def to_universal(source: Path, target: Path) -> None:
    """Convert the DeepSpeed checkpoint in `source` to `target`, loadable by any number of ranks and any ZeRO stage.

    For one process; takes the checkpoint's size on disk once more, and also writes beside `target`. Raises OSError, and
    DeepSpeed's errors.
    """
    target.mkdir(parents=True)
    arguments = Namespace(
        input_folder=str(source),
        output_folder=str(target),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        convert(arguments)
    step = _unify_optimizer(target / "zero" / "optimizer_state.pt", target / "zero")
    for folder in (path for path in (target / "zero").iterdir() if path.is_dir()):
        _unify_parameter(folder, step)
    names = ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_model_states.pt")
    there, missing = sorted((target / name for name in names), key=Path.exists, reverse=True)
    os.link(there, missing)


def _unify_optimizer(path: Path, folder: Path) -> Any:
    """Put parameter groups and update count where every stage looks for them; returns the count."""
    state: dict[str, Any] = _load(path)
    if OPTIMIZER_STATE_DICT in state:
        step = next(iter(state[OPTIMIZER_STATE_DICT]["state"].values()))["step"]
    else:
        step = _load(next(folder.glob("*/step.pt")))
    state.pop(FP32_FLAT_GROUPS, None)  # one rank's share
    state.setdefault(DS_VERSION, deepspeed.__version__)
    state[OPTIMIZER_STATE_DICT] = {"state": {0: {"step": step}}, PARAM_GROUPS: state[PARAM_GROUPS]}
    torch.save(state, path)
    return step


def _unify_parameter(folder: Path, step: Any) -> None:
    for path in (folder / f"{moment}.pt" for moment in MOMENTS):
        # A parameter tied to another one has weights only, no moments.
        if path.exists() and isinstance(value := _load(path), torch.Tensor):
            torch.save({PARAM: value}, path)
    torch.save(step, folder / "step.pt")


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=False)
