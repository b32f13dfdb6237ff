"""Rows of a Hugging Face data set or a local file as problem, answer and further columns, repetitions left out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config_task import DatasetConfig, SingleTaskConfig
from trainer.errors import ScopeError
from trainer.tasks.dataset_presets import PRESETS, Source

LOCAL = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}


@dataclass(frozen=True)
class Row:
    """One problem and its answer."""

    text: str
    answer: str
    extra: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """The same for texts that differ in white space and case only."""
        return hashlib.blake2b(" ".join(self.text.lower().split()).encode(), digest_size=10).hexdigest()


def read_rows(name: str, config: DatasetConfig, *, field: str, split: str) -> list[Row]:
    """The rows of `name`, a preset, local file or hub id. Of repeated problems the first is kept.

    Raises ScopeError, which names `field`, when it cannot be read or a column is missing.
    """
    source = PRESETS.get(name) or Source(name, split, config.prompt_field, config.answer_field)
    rows: dict[str, Row] = {}
    for number, record in enumerate(_load(source, field)):
        row = _row(record, source, config.keep_fields, f"{field}={name!r}, row {number}")
        if config.max_characters is None or len(row.text) <= config.max_characters:
            rows.setdefault(row.identity, row)
    if not rows:
        limit = "" if config.max_characters is None else f" of at most {config.max_characters} characters"
        raise ScopeError(f"{field}={name!r} has no rows{limit}.")
    return list(rows.values())


def reads_hub(config: SingleTaskConfig) -> bool:
    """Whether the task's problems come from the Hugging Face hub, or its cache on this machine."""
    names = [name for name in (config.dataset.train, config.dataset.heldout) if name is not None]
    return config.name == "dataset" and any(Path(name).suffix not in LOCAL for name in names)


def _load(source: Source, field: str) -> Sequence[Mapping[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise ScopeError(
            "task.name='dataset' needs the package datasets: pip install 'scope-rl-service[cpu]', or [gpu]"
        ) from error
    path = Path(source.path).expanduser()
    kind = LOCAL.get(path.suffix)
    if kind is not None and not path.is_file():
        raise ScopeError(f"{field}={source.path!r} is not a file. Give a file, a preset or a hub id.")
    try:
        if kind is not None:
            return datasets.load_dataset(kind, data_files=str(path), split="train")  # pyright: ignore[reportReturnType]
        return datasets.load_dataset(source.path, source.subset, split=source.split)  # pyright: ignore[reportReturnType]
    except Exception as error:
        # The library raises errors of a dozen kinds for what is wrong with a name, a file or the network.
        words = str(error).strip().splitlines()
        presets = ", ".join(PRESETS)
        raise ScopeError(
            f"{field}={source.path!r} cannot be read: {type(error).__name__}: {words[0] if words else ''} "
            f"Presets: {presets}; a local file ends in {', '.join(LOCAL)}."
        ) from error


def _row(record: Mapping[str, Any], source: Source, keep: Sequence[str], where: str) -> Row:
    text, answer = _part(record, source.prompt, where), _part(record, source.answer, where)
    if source.answer_after is not None:
        answer = str(answer).rpartition(source.answer_after)[2]
    return Row(str(text), str(answer).strip(), {name: _part(record, name, where) for name in keep})


def _part(record: Mapping[str, Any], name: str, where: str) -> Any:
    """The value that `name` reaches; parts of it are keys, or positions in lists, of columns that may be JSON text."""
    value: Any = record
    for part in name.split("."):
        if isinstance(value, str):
            value = json.loads(value)
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            columns = ", ".join(map(str, record))
            raise ScopeError(f"{where} has no {name!r}; its columns are {columns}.") from error
    return value
