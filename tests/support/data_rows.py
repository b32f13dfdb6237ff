"""Rows of data sets that are written to a file and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.config.task import DatasetConfig
from trainer.errors import ScopeError
from trainer.tasks.datasets.rows import Rows, read_rows

Content = str | bytes | list[dict[str, Any]]


def read(folder: Path, content: Content, name: str = "t.jsonl", **fields: Any) -> Rows:
    """The rows of a file. content: its text, bytes, or rows for JSON lines; fields: of `task.dataset`."""
    path = folder / name
    if isinstance(content, list):
        content = "".join(json.dumps(row) + "\n" for row in content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_rows(str(path), DatasetConfig(**fields), field="task.dataset.train", split="train")


def refusal(folder: Path, content: Content, name: str = "t.jsonl", **fields: Any) -> str:
    """The sentence that refuses a file, with FILE for its path."""
    with pytest.raises(ScopeError) as caught:
        read(folder, content, name, **fields)
    sentence = str(caught.value)
    assert sentence.startswith("task.dataset.")
    return sentence.replace(str(folder / name), "FILE")


def left_out(rows: Rows) -> str:
    """The only note, from after the name of the file."""
    (note,) = rows.notes
    return note.partition("': ")[2]
