"""The warm start: supervised training of the tiny model, before the loop of the picture begins.

The model learns random correct answers to training problems, never held-out ones, so that it starts varied
(high entropy) and right now and then. Its logits are then divided by `warm_start.softening`: at equal entropy,
a model trained for longer and softened knows more, which leaves reinforcement something to bring out.

A finished warm start is kept in a cache under a hash of everything that decides its weights, and put there by
one rename, so that a reader never sees half of one.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainer.config import RunConfig, TaskConfig
from trainer.errors import ScopeError
from trainer.starting_model.warm_start_result import WarmStart, WarmStartProgress
from trainer.tasks import TaskWithSolutions, make_task
from trainer.tasks.import_reference import source_digest

CODE_VERSION = 1
"""Raised whenever a change here, in the model or in the task makes older cached warm starts wrong."""

_RECORD = "warm_start.json"


def cache_key(config: RunConfig) -> str:
    """Hash of everything that decides the weights and what is measured of them; 16 hex digits."""
    parts = {
        "code": CODE_VERSION,
        "torch": version("torch"),
        "transformers": version("transformers"),
        "task": _task_part(config.task),
        "model": config.model.model_dump(mode="json", exclude={"revision", "chat", "system_prompt"}),
        "warm_start": config.warm_start.model_dump(mode="json", exclude={"cache_dir"}),
        "max_new_tokens": config.rollout.max_new_tokens,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _task_part(task: TaskConfig) -> dict[str, Any]:
    """What of a task's configuration, and of its own code, decides the problems and solutions."""
    if ":" in task.name:
        return task.model_dump(mode="json") | {"source": source_digest(task.name, task.folder, "task.name")}
    # A share of 0 decides nothing, and neither do the blocks of other tasks.
    read = {"name", "seed", "heldout", "max_number", "max_target"}
    return task.model_dump(mode="json", include=read | ({"easy_share"} if task.easy_share else set()))


def ensure_warm_start(
    config: RunConfig, cache_root: Path, on_progress: Callable[[WarmStartProgress], None]
) -> WarmStart:
    """The warm start for `config`: from the cache, or trained now on the CPU in float32.

    The same configuration on the same kind of machine gives the same weights. Raises ScopeError for a task
    that cannot write solutions, for problems that do not fit `model.max_length`, or for a `cache_root` that
    cannot be written to.
    """
    directory = cache_root / cache_key(config)
    if (directory / _RECORD).exists():
        return _read(directory, from_cache=True)
    task = make_task(config.task)
    if not isinstance(task, TaskWithSolutions):
        raise ScopeError(
            f"task.name={config.task.name!r} writes no solutions of its own, so the built-in model cannot be "
            "warm-started on it. Set model.path to a Hugging Face model directory."
        )
    with _scratch(cache_root) as scratch:
        # torch takes seconds to import, and a warm start that is there already needs none of it.
        from trainer.starting_model.warm_start_training import train

        unfinished = Path(scratch) / "model"
        trained = asdict(train(config, task, unfinished, on_progress))
        kept = {name: value for name, value in trained.items() if name not in ("path", "from_cache")}
        (unfinished / _RECORD).write_text(json.dumps(kept, indent=2) + "\n")
        _move_into_place(unfinished, directory)
    return _read(directory, from_cache=False)


def _read(directory: Path, *, from_cache: bool) -> WarmStart:
    record = json.loads((directory / _RECORD).read_text())
    return WarmStart(path=directory, from_cache=from_cache, **record)


def _scratch(cache_root: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        cache_root.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".unfinished-", dir=cache_root)
    except OSError as error:
        raise ScopeError(
            f"The warm start cannot be kept in {cache_root} (warm_start.cache_dir): {error.strerror}. "
            "Set warm_start.cache_dir to a directory that can be written to."
        ) from error


def _move_into_place(unfinished: Path, directory: Path) -> None:
    try:
        unfinished.rename(directory)
    except OSError:
        # another run with the same configuration may have finished first: its result is the same
        if not (directory / _RECORD).exists():
            raise
