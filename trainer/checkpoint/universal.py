"""Checkpoints of one number of learner ranks and ZeRO stage, made loadable by another: DeepSpeed's universal format.

DeepSpeed converts; what differs between its stages 1 and 2 and its stage 3 in that format is evened out here: how a
tensor is wrapped, where the count of updates is, and the name of the file with the engine's counters.
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
    """Write the DeepSpeed checkpoint in `source` to `target` in a form for any number of ranks and any stage.

    One process does it, and needs the disk once more; it also writes beside `target`. Raises OSError, or what
    DeepSpeed raises.
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
    step = _even_out_optimizer(target / "zero" / "optimizer_state.pt", target / "zero")
    for folder in (path for path in (target / "zero").iterdir() if path.is_dir()):
        _even_out_parameter(folder, step)
    names = ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_model_states.pt")
    there, missing = sorted((target / name for name in names), key=Path.exists, reverse=True)
    os.link(there, missing)


def _even_out_optimizer(path: Path, folder: Path) -> Any:
    """Put the groups and the count of updates where either stage looks for them; returns the count."""
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


def _even_out_parameter(folder: Path, step: Any) -> None:
    for path in (folder / f"{moment}.pt" for moment in MOMENTS):
        # A parameter that is tied to another one has its weights only.
        if path.exists() and isinstance(value := _load(path), torch.Tensor):
            torch.save({PARAM: value}, path)
    torch.save(step, folder / "step.pt")


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=False)
