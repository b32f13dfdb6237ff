"""Rows of Arrow tables, from Parquet files and data sets of the hub, without exact copies of earlier rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from trainer.errors import ScopeError
from trainer.tasks.datasets.json_text import parse_json
from trainer.tasks.datasets.records import BadRow, Numeral, Record

BATCH = 10_000
"""rows per batch"""


def open_parquet(path: Path, where: str) -> tuple[list[str], Callable[[list[str]], Iterator[Any]]]:
    """Names of the columns, and a function from names to batches of these columns. Both raise ScopeError."""
    import pyarrow.parquet as pq

    def batches(roots: list[str]) -> Iterator[Any]:
        with _readable(where):
            yield from file.iter_batches(BATCH, columns=roots)

    with _readable(where):
        file = pq.ParquetFile(path)
    return list(file.schema_arrow.names), batches


@contextmanager
def _readable(where: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ScopeError(f"{where} cannot be read: {str(error).splitlines()[0]}.") from error


def read_batches(batches: Iterable[Any], roots: Sequence[str], problem: str, answer: str) -> Iterator[Record]:
    """The rows of `pyarrow.RecordBatch`es or tables, reduced to the columns `roots`.

    Compares columns of whole batches first: a data set may repeat each problem a hundred times, and converting every
    row to a Python mapping would take minutes.
    """
    seen: set[bytes] = set()
    number = 0
    for batch in batches:
        known = [False] * batch.num_rows
        pairs = zip(_values_at(batch, problem), _values_at(batch, answer), strict=True)
        for row, (text, reply) in enumerate(pairs):
            key = f"{len(str(text))} {text}{reply}".encode(errors="surrogatepass")
            digest = hashlib.blake2b(key, digest_size=16).digest()
            known[row] = _comparable(text) and _comparable(reply) and digest in seen
            seen.add(digest)
        new = [row for row, old in enumerate(known) if not old]
        columns = [batch.column(root) for root in roots]
        types = [column.type for column in columns]
        values = zip(*([_python(column[row]) for row in new] for column in columns), strict=True)
        for old in known:
            number += 1
            yield Record(f"row {number}", None if old else _converted(roots, next(values), types))


def _converted(
    roots: Sequence[str], values: Sequence[Any], types: Sequence[Any]
) -> Mapping[str, Any] | BadRow:
    row = {}
    for root, value, kind in zip(roots, values, types, strict=True):
        try:
            row[root] = _as_written(value, kind)
        except BadRow as fault:
            return fault
        except ValueError as error:
            return BadRow(f"{root!r} has bytes that are not UTF-8 text, or a time out of range", str(error))
    return row


def _as_written(value: Any, kind: Any) -> Any:
    """`value` of the Arrow type `kind`, with numbers as `Numeral`: decimals with all digits, floats with the fewest
    digits that give them back. Raises ValueError or BadRow."""
    import pyarrow as pa

    if isinstance(kind, pa.DictionaryType):
        return _as_written(value, kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        text = isinstance(value, str) and kind.extension_name == "arrow.json"
        return parse_json(value) if text else _as_written(value, kind.storage_type)
    if isinstance(value, ValueError):
        raise value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return Numeral(value)
    if isinstance(value, float | np.floating):
        narrow = {"halffloat": np.float16, "float": np.float32}.get(str(kind))
        return Numeral(value if narrow is None else float(str(narrow(value))))
    if isinstance(value, Decimal):
        return Numeral(format(value, "f"))
    if isinstance(value, bytes):
        return value.decode()
    if pa.types.is_struct(kind):
        return {field.name: _as_written(value[field.name], field.type) for field in kind}
    if pa.types.is_map(kind):
        return {str(key): _as_written(one, kind.item_type) for key, one in value}
    if isinstance(value, list):
        return [_as_written(one, kind.value_type) for one in value]
    return value


def _python(scalar: Any) -> Any:
    """The value of an Arrow scalar, or the ValueError of text that is not UTF-8 or a time that Python cannot hold."""
    try:
        return scalar.as_py()
    except ValueError as error:
        return error
    except OverflowError as error:
        return ValueError(str(error))


def _comparable(value: Any) -> bool:
    return value is not None and not isinstance(value, ValueError)


def _values_at(batch: Any, name: str) -> list[Any]:
    """The values at `name`, or the innermost values above it if it leads into JSON text or does not exist."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    if name in batch.schema.names:
        return [_python(scalar) for scalar in batch.column(name)]
    root, *parts = name.split(".")
    column = batch.column(root)
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
    return [_python(scalar) for scalar in column]
