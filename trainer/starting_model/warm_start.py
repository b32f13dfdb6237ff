"""The warm start: supervised training of the built-in model before reinforcement learning.

The model learns random correct answers to training problems, so that it starts with high entropy and some correct
answers. Its logits are then divided by `warm_start.softening`: at equal entropy, a model that was trained longer and
softened knows more, which reinforcement learning can bring out.

A finished warm start is cached under a hash of everything that determines its weights. It is moved into the cache by
one rename, so readers never see a partial one.
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
from trainer.files import give_usual_permissions
from trainer.starting_model.warm_start_result import WarmStart, WarmStartProgress
from trainer.tasks import TaskWithSolutions, make_task
from trainer.tasks.import_reference import source_digest

CODE_VERSION = 1
"""increased whenever a change of this code, the model or a task invalidates cached warm starts"""

_RECORD = "warm_start.json"


def cache_key(config: RunConfig) -> str:
    """Hash of everything that determines the weights and their measurements; 16 hexadecimal digits."""
    parts = {
        "code": CODE_VERSION,
        "torch": version("torch"),
        "transformers": version("transformers"),
        "task": _task_part(config.task),
        "model": config.model.model_dump(
            mode="json", exclude={"revision", "chat", "system_prompt", "system_role"}
        ),
        "warm_start": config.warm_start.model_dump(mode="json", exclude={"cache_dir"}),
        "max_new_tokens": config.rollout.max_new_tokens,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _task_part(task: TaskConfig) -> dict[str, Any]:
    """The configuration, and the code of user-defined tasks, that determine problems and solutions."""
    if ":" in task.name:
        return task.model_dump(mode="json") | {"source": source_digest(task.name, task.folder, "task.name")}
    # A share of 0 has no effect, nor have the blocks of other tasks.
    read = {"name", "seed", "heldout", "max_number", "max_target"}
    return task.model_dump(mode="json", include=read | ({"easy_share"} if task.easy_share else set()))


def ensure_warm_start(
    config: RunConfig, cache_root: Path, on_progress: Callable[[WarmStartProgress], None]
) -> WarmStart:
    """The warm start for `config`, from the cache or trained on the CPU in float32.

    The same configuration on the same type of machine gives the same weights. Raises ScopeError if the task has no
    solutions, if problems do not fit into `model.max_length`, or if `cache_root` cannot be written.
    """
    directory = cache_root / cache_key(config)
    if (directory / _RECORD).exists():
        return _read(directory, from_cache=True)
    task = make_task(config.task)
    if not isinstance(task, TaskWithSolutions):
        raise ScopeError(
            f"task.name={config.task.name!r} has no solutions to train the built-in model on. Set model.path to a "
            "Hugging Face model."
        )
    with _scratch(cache_root) as scratch:
        # Importing torch takes seconds, and a cached warm start does not need it.
        from trainer.starting_model.warm_start_training import train

        unfinished = Path(scratch) / "model"
        trained = asdict(train(config, task, unfinished, on_progress))
        kept = {name: value for name, value in trained.items() if name not in ("path", "from_cache")}
        (unfinished / _RECORD).write_text(json.dumps(kept, indent=2) + "\n")
        give_usual_permissions(unfinished)
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
            f"The warm start cannot be written to {cache_root} (warm_start.cache_dir): {error.strerror}. "
            "Set warm_start.cache_dir to a writable directory."
        ) from error


def _move_into_place(unfinished: Path, directory: Path) -> None:
    try:
        unfinished.rename(directory)
    except OSError:
        # Another run with the same configuration may have finished first, with the same result.
        if not (directory / _RECORD).exists():
            raise
