"""Where rows come from: a preset, a local file, or a data set of the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trainer.config.paths import expanded
from trainer.config.task import SingleTaskConfig, TaskConfig
from trainer.errors import ScopeError
from trainer.tasks.datasets.csv_files import read_table
from trainer.tasks.datasets.json_files import read_json
from trainer.tasks.datasets.presets import PRESETS, Source
from trainer.tasks.datasets.records import Record, listed
from trainer.tasks.datasets.tables import BATCH, open_parquet, read_batches

_KINDS = {".jsonl": "json", ".json": "json", ".csv": ",", ".tsv": "\t", ".parquet": "parquet"}
_PACKED = (".gz", ".bz2", ".zst", ".lz4")
FILES = f"{', '.join(_KINDS)} (the text files also with {', '.join(_PACKED)})"


class Records(NamedTuple):
    """The rows of a data set."""

    columns: Sequence[str] | None
    """their names; None for JSON, where each row has its own"""
    rows: Iterator[Record]


def is_file_name(name: str) -> bool:
    """Whether `name` ends like a file that is read."""
    return _kind(name) is not None


def without_ending(name: str) -> str:
    """The name of a file without folders and the ending of its kind."""
    path = Path(name)
    return Path(path.stem).stem if path.suffix.lower() in _PACKED else path.stem


def reads_hub(config: SingleTaskConfig) -> bool:
    """Whether the task's problems come from the Hugging Face hub or its cache."""
    if isinstance(config, TaskConfig) and config.mixture:
        return any(reads_hub(part) for part in config.mixture)
    names = [name for name in (config.dataset.train, config.dataset.heldout) if name is not None]
    return config.name == "dataset" and not all(is_file_name(name) for name in names)


def open_source(source: Source, names: Sequence[str], where: str) -> Records:
    """The rows of `source`, with at least the columns that `names` begin with. Raises ScopeError.

    names: dots between nested names; the first is that of the problem, the second that of the answer.
    """
    kind, path = _kind(source.path), expanded(source.path)
    if kind is None:
        if os.path.isfile(path):
            raise ScopeError(f"{where} is a file of a kind that is not read; files end in {FILES}.")
        data = _hub(source, where).with_format("arrow")
        return _table(where, data.column_names, lambda roots: data.select_columns(roots).iter(BATCH), names)
    if not os.path.isfile(path):
        raise ScopeError(f"{where} is not a file. Give an existing file, a preset or a hub id.")
    if kind == "json":
        return Records(None, read_json(path, where, root_of(names[0], ())))
    if kind == "parquet":
        columns, batches = open_parquet(path, where)
        return _table(where, columns, batches, names)
    return Records(*read_table(path, where, kind))


def root_of(name: str, columns: Sequence[str]) -> str:
    """The column that `name` begins with."""
    return name if name in columns else name.partition(".")[0]


def _kind(name: str) -> str | None:
    path = Path(name.lower())
    packed = path.suffix in _PACKED
    kind = _KINDS.get(Path(path.stem).suffix if packed else path.suffix)
    return None if packed and kind == "parquet" else kind


def _table(
    where: str, columns: Sequence[str], batches: Callable[[list[str]], Iterable[Any]], names: Sequence[str]
) -> Records:
    if len(set(columns)) < len(columns):
        raise ScopeError(f"{where}: the names of columns must differ: {listed(columns)}.")
    roots = list(dict.fromkeys(root for name in names if (root := root_of(name, columns)) in columns))
    needed = {root_of(name, columns) for name in names[:2]}
    rows = read_batches(batches(roots), roots, *names[:2]) if needed <= set(columns) else iter(())
    return Records(columns, rows)


def _hub(source: Source, where: str) -> Any:
    """A `datasets.Dataset`."""
    try:
        import datasets
    except ImportError as error:
        raise ScopeError(
            "a data set of the hub needs the package datasets: pip install 'scope-rl-service[cpu]', or [gpu]"
        ) from error
    try:
        return datasets.load_dataset(source.path, source.subset, split=source.split)
    except Exception as error:
        # The library raises many types of errors for names, files and the network.
        words = str(error).strip().splitlines()
        raise ScopeError(
            f"{where} cannot be read: {type(error).__name__}: {words[0] if words else ''} "
            f"Presets: {', '.join(PRESETS)}; a local file ends in {FILES}."
        ) from error
