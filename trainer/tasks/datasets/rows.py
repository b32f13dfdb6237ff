"""The rows of a data set as problems with answers, without duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from trainer.config.task import DatasetConfig
from trainer.errors import ScopeError
from trainer.tasks.base import Message
from trainer.tasks.datasets.json_text import TOO_DEEP
from trainer.tasks.datasets.messages import conversation
from trainer.tasks.datasets.presets import PRESETS, Source
from trainer.tasks.datasets.problem_identity import identity_of
from trainer.tasks.datasets.records import BadRow, MissingError, listed
from trainer.tasks.datasets.sources import open_source, root_of
from trainer.tasks.datasets.tally import Tally
from trainer.tasks.datasets.values import answer_text, plain, scalar_text, value_at

EXTRA_INFO = "extra_info"
"""a mapping in the column of this name (as in verl) adds its entries, not itself"""


@dataclass(frozen=True)
class Row:
    """One problem and its answer."""

    identity: str
    """of the whole conversation, see `problem_identity`"""
    question: str
    """the identity without system messages"""
    earlier: tuple[Message, ...]
    """messages before `text`"""
    text: str
    """the user's only or last message"""
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

    Raises ScopeError, which names `field`, if it cannot be read, a column is missing, or a row cannot be used and
    `config.bad_rows` refuses it.
    """
    source = PRESETS.get(name) or Source(
        name,
        split,
        config.prompt_field,
        config.answer_field,
        before=config.strip_before,
        after=config.strip_after,
    )
    where = f"{field}={name!r}"
    names = [source.prompt, source.answer, *config.keep_fields]
    records = open_source(source, [*names, config.source_field], where)
    if records.columns is not None:
        _require(names, records.columns, where)
    reader = _Reader(source, config, where)
    for place, row in records.rows:
        reader.take(place, row)
    return reader.result()


class _Reader:
    """Converts records to rows, and counts those that are not used."""

    def __init__(self, source: Source, config: DatasetConfig, where: str) -> None:
        self._source, self._config, self._where = source, config, where
        self._tally = Tally(where, refuse=config.bad_rows == "refuse")
        self._columns: dict[str, None] = {}
        self._kept: set[str] = set()
        self._bare = 0
        self._seen: set[bytes] = set()
        self._rows: dict[str, Row] = {}

    def take(self, place: str, row: Mapping[str, Any] | BadRow | None) -> None:
        """Add a row. Raises ScopeError if it cannot be used and such rows are refused."""
        self._tally.row()
        try:
            if isinstance(row, BadRow):
                raise row
            if row is None or self._take(row):
                self._tally.skip("repeated")
        except BadRow as fault:
            self._tally.bad(place, fault)
        except RecursionError:
            self._tally.bad(place, BadRow(f"the row has {TOO_DEEP}"))

    def result(self) -> Rows:
        """The rows, and at most one note. Raises ScopeError if there are none."""
        sentence = self._tally.sentence()
        if not self._rows:
            raise ScopeError(
                f"{self._where} has no rows that can be used: {sentence or 'it is empty'}. "
                "task.dataset.prompt_field and task.dataset.answer_field name the columns."
            )
        for name in self._config.keep_fields:
            if name not in self._kept:
                raise ScopeError(
                    f"task.dataset.keep_fields names {name!r}, which no row of {self._where} has; its columns are "
                    f"{listed(self._columns)}."
                )
        notes = [sentence] if sentence else []
        if self._bare:
            notes.append(f"{self._bare:,} do not have the text to remove around the problem")
        return Rows(list(self._rows.values()), (f"{self._where}: {'; '.join(notes)}",) if notes else ())

    def _take(self, row: Mapping[str, Any]) -> bool:
        """Add a row, unless it is the exact copy of an earlier one. Raises BadRow."""
        self._columns |= dict.fromkeys(row)
        *earlier, last = conversation(value_at(row, self._source.prompt), self._source.prompt)
        answer = self._answer(value_at(row, self._source.answer))
        key = hashlib.blake2b(f"{earlier}{last}{answer}".encode(), digest_size=16).digest()
        if key in self._seen:
            return True
        text = self._bared(last.content)
        extra, source = self._extra(row), self._from(row)
        self._seen.add(key)
        limit = self._config.max_characters
        if limit is not None and len(text) + sum(len(message.content) for message in earlier) > limit:
            self._tally.skip(f"longer than {limit:,} characters")
            return False
        identity = identity_of([*earlier, Message("user", text)])
        known = self._rows.get(identity)
        if known is None:
            turns = [message for message in earlier if message.role != "system"]
            question = identity if turns == earlier else identity_of([*turns, Message("user", text)])
            self._rows[identity] = Row(identity, question, tuple(earlier), text, answer, extra, source)
        else:
            same = "".join(known.answer.split()) == "".join(answer.split())
            self._tally.skip("repeated" if same else "repeated with another answer")
        return False

    def _bared(self, text: str) -> str:
        source = self._source
        if not (text.startswith(source.before) and text.endswith(source.after)):
            self._bare += 1
        text = text.removeprefix(source.before).removesuffix(source.after).strip()
        if not text:
            raise BadRow(f"{source.prompt!r} is empty")
        return text

    def _answer(self, value: Any) -> str:
        text, mark = answer_text(value, self._source.answer), self._source.answer_after
        if mark is None:
            return text
        _, found, after = text.rpartition(mark)
        if not found or not after.strip():
            raise BadRow(f"{self._source.answer!r} has nothing after {mark!r}")
        return after.strip()

    def _extra(self, row: Mapping[str, Any]) -> dict[str, Any]:
        extra: dict[str, Any] = {}
        for name in self._config.keep_fields:
            try:
                value = plain(value_at(row, name), name)
            except MissingError:
                value = None
            else:
                self._kept.add(name)
            extra |= value if name == EXTRA_INFO and isinstance(value, dict) else {name: value}
        return extra

    def _from(self, row: Mapping[str, Any]) -> str | None:
        """The row's own source, if it has one."""
        name = self._config.source_field
        try:
            value = value_at(row, name)
        except MissingError:
            return None
        return None if value is None else scalar_text(value, name)


def _require(names: Sequence[str], columns: Sequence[str], where: str) -> None:
    """Raise ScopeError for a name that begins with no column."""
    for name in names:
        if root_of(name, columns) not in columns:
            raise ScopeError(f"{where} has no {name!r}; its columns are {listed(columns)}.")
