"""`scope export`: a run's final policy, or a checkpoint, as a Hugging Face directory with a model card."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

from services.records.sinks import read_records
from services.results.evaluations import EVALUATIONS, Evaluations
from services.results.model_card import Exported, write_card
from services.run.directory import CONFIG_FILE, MODEL_FILE, check_format
from trainer.checkpoint.store import MANIFEST, PREFIX, CheckpointStore, verifies
from trainer.config import RunConfig
from trainer.config.load import config_hash, load_config
from trainer.config.paths import expanded
from trainer.errors import ScopeError
from trainer.files import new_model_directory
from trainer.prompts.codec import PromptCodec
from trainer.prompts.end_tokens import keep_end_tokens


def export(run: Path, step: int | None, out: Path, *, replace: bool = False) -> Exported:
    """Write `out`, whole or not at all, and return the data of the card.

    step: of a checkpoint; None: the policy in the run's `model/`. replace: as in `new_model_directory`. Raises
    ScopeError when `out` is not empty, or the run has no such policy.
    """
    with new_model_directory(out, replace=replace) as writing:
        return _write(run, step, writing)


def _write(run: Path, step: int | None, writing: Path) -> Exported:
    config = load_config(run / CONFIG_FILE)
    check_format(run)
    checkpoint = None if step is None else _checkpoint(run, step)
    if checkpoint is None and not (run / "model" / "config.json").is_file():
        raise ScopeError(
            f"{run} has no model/ yet: a run writes it when it ends or stops. Choose a checkpoint with --step; there "
            f"are: {_steps(run)}."
        )
    if checkpoint is None:
        shutil.copytree(run / "model", writing)
    else:
        write_checkpoint(checkpoint, _source(run, config), writing, config)
    records = read_records(run / "steps.jsonl")
    done = step if step is not None else (records[-1].step + 1 if records else 0)
    exported = Exported(
        run_id=run.name,
        step=done,
        config=config,
        config_hash=config_hash(config),
        records=[record for record in records if record.step < done],
        evaluations=[e for e in Evaluations(run / EVALUATIONS).all if e.step <= done],
        commit=_record(run, MODEL_FILE).get("commit"),
    )
    write_card(writing, exported)
    return exported


def _checkpoint(run: Path, step: int) -> Path:
    found = run / "checkpoints" / f"{PREFIX}{step:08d}"
    if not (found / MANIFEST).is_file():
        raise ScopeError(f"--step={step}: {run} has no such checkpoint. It has: {_steps(run)}.")
    if not verifies(found):
        raise ScopeError(
            f"{found} fails verification: files are missing or damaged. The run has: {_steps(run)}."
        )
    return found


def _steps(run: Path) -> str:
    return ", ".join(map(str, CheckpointStore(run / "checkpoints", keep=1).steps)) or "none"


def _source(run: Path, config: RunConfig) -> Path:
    """The starting model: architecture and tokenizer of the checkpoints, and the base model of adapters."""
    if (directory := _record(run, MODEL_FILE).get("directory")) is not None:
        return Path(directory)
    if config.model.path is not None:
        return expanded(config.model.path)
    if not config.learner.lora.rank and (run / "model" / "config.json").is_file():
        return run / "model"
    return Path(_record(run, "warm_start.json").get("path", run / "model"))


def _record(run: Path, name: str) -> dict[str, Any]:
    file = run / name
    return json.loads(file.read_text()) if file.is_file() else {}


def write_checkpoint(checkpoint: Path, source: Path, target: Path, config: RunConfig) -> None:
    """Write the policy of a checkpoint of any ZeRO stage as a Hugging Face directory; merges the shards in host memory.

    source: the run's starting model. Adapters are merged into it, and also written to `adapter/`. Raises ScopeError if
    it is gone.
    """
    import torch
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
    from transformers import AutoConfig, AutoModelForCausalLM

    from trainer.checkpoint.store import ENGINE_TAG
    from trainer.policy.lora import adapter_weights, add_adapters, merged_weights, save_adapter

    lora = config.learner.lora
    if not (source / "config.json").is_file():
        needed = "its weights are" if lora.rank else "its config.json and tokenizer are"
        raise ScopeError(
            f"{source}, the run's starting model, is gone, and {needed} needed. Put it back there, or export the run's "
            "model/ (without --step)."
        )
    dtype = torch.bfloat16 if config.learner.precision == "bf16" else torch.float32
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        # A checkpoint of adapters has no frozen parameters.
        found: Any = get_fp32_state_dict_from_zero_checkpoint(
            str(checkpoint), ENGINE_TAG, exclude_frozen_parameters=lora.rank > 0
        )
    weights = {name.removeprefix("model."): tensor.to(dtype) for name, tensor in found.items()}
    if lora.rank:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
        add_adapters(model, lora, config.seed)
        whole = dict(model.named_parameters()) | weights
        model.save_pretrained(target, state_dict=merged_weights(model, whole))
        save_adapter(target / "adapter", lora, adapter_weights(weights))
    else:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source), dtype=dtype)
        model.save_pretrained(target, state_dict=weights)
    codec = PromptCodec.load(source, config)
    codec.tokenizer.save_pretrained(target)
    keep_end_tokens(target, codec.end_tokens)
