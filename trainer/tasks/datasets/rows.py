"""Reading the rows of a Hugging Face data set or a local file, without duplicates."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from trainer.config.paths import expanded
from trainer.config.task import DatasetConfig, SingleTaskConfig, TaskConfig
from trainer.errors import ScopeError
from trainer.tasks.datasets.presets import PRESETS, Source
from trainer.tasks.datasets.problem_identity import identity

LOCAL = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}
BATCH = 10_000
"""rows per batch"""
EXTRA_INFO = "extra_info"
"""a mapping in the column of this name (as in verl) adds its entries, not itself"""
_MATHEMATICS = re.compile(r"(?<!\\)\$")


@dataclass(frozen=True)
class Row:
    """One problem and its answer."""

    identity: str
    """see `problem_identity`"""
    text: str
    answer: str
    extra: Mapping[str, Any]
    source: str | None
    """the source according to the data, if it has one"""


class Rows(NamedTuple):
    """Distinct problems in the order of the data, and notes on skipped and irregular rows."""

    rows: list[Row]
    notes: tuple[str, ...]


def read_rows(name: str, config: DatasetConfig, *, field: str, split: str) -> Rows:
    """The rows of `name`, a preset, local file or hub id, with the first of duplicate problems.

    Raises ScopeError, which names `field`, if it cannot be read or a column is missing.
    """
    source = PRESETS.get(name) or Source(
        name,
        split,
        config.prompt_field,
        config.answer_field,
        before=config.strip_before,
        after=config.strip_after,
    )
    reader = _Reader(source, config, f"{field}={name!r}")
    data = _load(source, field)
    for number, record in _distinct(data, source, reader.roots(data.column_names)):
        reader.take(number, record)
    if not reader.rows:
        limit = "" if config.max_characters is None else f" of at most {config.max_characters} characters"
        raise ScopeError(f"{field}={name!r} has no rows with a problem and an answer{limit}.")
    return Rows(list(reader.rows.values()), reader.notes(len(data)))


def reads_hub(config: SingleTaskConfig) -> bool:
    """Whether the task's problems come from the Hugging Face hub or its cache."""
    if isinstance(config, TaskConfig) and config.mixture:
        return any(reads_hub(part) for part in config.mixture)
    names = [name for name in (config.dataset.train, config.dataset.heldout) if name is not None]
    return config.name == "dataset" and any(Path(name).suffix not in LOCAL for name in names)


class _Reader:
    """Converts records to rows, and counts those that are skipped."""

    def __init__(self, source: Source, config: DatasetConfig, where: str) -> None:
        self._source, self._config, self._where = source, config, where
        self._columns: Sequence[str] = ()
        self._left: Counter[str] = Counter()
        self._bare = 0
        self.rows: dict[str, Row] = {}

    def roots(self, columns: Sequence[str]) -> list[str]:
        """The columns to read. Raises ScopeError if one is missing."""
        self._columns = columns
        names = [self._source.prompt, self._source.answer, *self._config.keep_fields]
        for name in names:
            if name.partition(".")[0] not in columns:
                raise self._missing(name, "")
        if self._config.source_field.partition(".")[0] in columns:
            names.append(self._config.source_field)
        return list(dict.fromkeys(name.partition(".")[0] for name in names))

    def take(self, number: int, record: Mapping[str, Any]) -> None:
        """Add a record."""
        text = self._problem(self._part(record, self._source.prompt, number))
        answer = self._answer(self._part(record, self._source.answer, number))
        limit, key = self._config.max_characters, identity(text)
        if not text or not answer:
            self._left["without a problem or an answer"] += 1
        elif limit is not None and len(text) > limit:
            self._left[f"longer than {limit:,} characters"] += 1
        elif (known := self.rows.get(key)) is None:
            self.rows[key] = Row(key, text, answer, self._extra(record, number), self._from(record, number))
        else:
            same = "".join(known.answer.split()) == "".join(answer.split())
            self._left["repeated" if same else "repeated with another answer"] += 1

    def notes(self, total: int) -> tuple[str, ...]:
        """At most one sentence, on `total` rows."""
        counted = self._left + Counter(repeated=total - len(self.rows) - self._left.total())
        parts = [f"{count:,} {what}" for what, count in sorted(counted.items())]
        notes = [f"of {total:,} rows {', '.join(parts)} are skipped"] if parts else []
        if self._bare:
            notes.append(f"{self._bare:,} do not have the text to remove around the problem")
        return (f"{self._where}: {'; '.join(notes)}",) if notes else ()

    def _problem(self, value: Any) -> str:
        if value is None:
            return ""
        text, source = str(value), self._source
        if not (text.startswith(source.before) and text.endswith(source.after)):
            self._bare += 1
        return text.removeprefix(source.before).removesuffix(source.after).strip()

    def _answer(self, value: Any) -> str:
        if isinstance(value, list):
            return ", ".join(_MATHEMATICS.sub("", str(one)).strip() for one in value if one is not None)
        mark = self._source.answer_after
        text = "" if value is None else str(value)
        return (text if mark is None else text.rpartition(mark)[2]).strip()

    def _extra(self, record: Mapping[str, Any], number: int) -> dict[str, Any]:
        extra: dict[str, Any] = {}
        for name in self._config.keep_fields:
            value = self._part(record, name, number)
            extra |= value if name == EXTRA_INFO and isinstance(value, dict) else {name: value}
        return extra

    def _from(self, record: Mapping[str, Any], number: int) -> str | None:
        name = self._config.source_field
        value = self._part(record, name, number) if name.partition(".")[0] in record else None
        return None if value is None else str(value)

    def _part(self, record: Mapping[str, Any], name: str, number: int) -> Any:
        """The value at `name`, whose parts are keys or list positions, in columns that may be JSON text."""
        value: Any = record
        for part in name.split("."):
            try:
                if isinstance(value, str):
                    value = json.loads(value)
                value = value[int(part)] if isinstance(value, list) else value[part]
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise self._missing(name, f", row {number},") from error
        return value

    def _missing(self, name: str, row: str) -> ScopeError:
        columns = ", ".join(self._columns)
        return ScopeError(f"{self._where}{row} has no {name!r}; its columns are {columns}.")


def _distinct(data: Any, source: Source, roots: list[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(number, columns `roots`) of each row whose exact problem and answer are not in an earlier row.

    Works on columns of whole batches: a data set may repeat each problem a hundred times, and converting every row to a
    Python mapping would take minutes.
    """
    import pyarrow as pa

    seen: set[bytes] = set()
    first = 0
    for batch in data.with_format("arrow").iter(batch_size=BATCH):
        new = []
        problems = map(str, _values_at(batch, source.prompt))
        for row, (text, answer) in enumerate(zip(problems, _values_at(batch, source.answer), strict=True)):
            key = f"{len(text)} {text}{answer}".encode(errors="surrogatepass")
            digest = hashlib.blake2b(key, digest_size=16).digest()
            if digest not in seen:
                seen.add(digest)
                new.append(row)
        records = batch.select(roots).take(pa.array(new, pa.int64())).to_pylist()
        yield from zip((first + row for row in new), records, strict=True)
        first += batch.num_rows


def _values_at(batch: Any, name: str) -> list[Any]:
    """The values at `name`, or the innermost values above it if it leads into JSON text or does not exist."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    root, *parts = name.split(".")
    column = batch[root]
    for part in parts:
        try:
            if pa.types.is_struct(column.type):
                column = pc.struct_field(column, part)
            elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
                column = pc.list_element(column, int(part))
            else:
                break
        except (pa.ArrowException, ValueError):
            break
    return column.to_pylist()


def _load(source: Source, field: str) -> Any:
    """A `datasets.Dataset`."""
    try:
        import datasets
    except ImportError as error:
        raise ScopeError(
            "task.name='dataset' needs the package datasets: pip install 'scope-rl-service[cpu]', or [gpu]"
        ) from error
    path = expanded(source.path)
    kind = LOCAL.get(path.suffix)
    if kind is not None and not os.path.isfile(path):
        raise ScopeError(
            f"{field}={source.path!r} is not a file. Give an existing file, a preset or a hub id."
        )
    try:
        if kind is not None:
            return datasets.load_dataset(kind, data_files=str(path), split="train")
        return datasets.load_dataset(source.path, source.subset, split=source.split)
    except Exception as error:
        # The library raises many types of errors for names, files and the network.
        words = str(error).strip().splitlines()
        presets = ", ".join(PRESETS)
        raise ScopeError(
            f"{field}={source.path!r} cannot be read: {type(error).__name__}: {words[0] if words else ''} "
            f"Presets: {presets}; a local file ends in {', '.join(LOCAL)}."
        ) from error
