"""Answers are text exactly as the data writes it, or the row is left out with its number."""

from __future__ import annotations

import datetime
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.data_rows import left_out, read, refusal
from trainer.config.task import DatasetConfig
from trainer.tasks.datasets.rows import Rows, read_rows

EXACT = {
    "0.10": "0.10",
    "1e-07": "1e-07",
    "12345678901234567890": "12345678901234567890",
    "3.0": "3.0",
    "1E5": "1E5",
    "-0": "-0",
    "1e999": "1e999",
    "0.1000000000000000000001": "0.1000000000000000000001",
    "true": "true",
    '"2020-01-01"': "2020-01-01",
    '"2020-01-01T00:00:00"': "2020-01-01T00:00:00",
    '"007"': "007",
    '"1_000"': "1_000",
    '"\\"42\\""': '"42"',
    '"3.0"': "3.0",
    '"null"': "null",
    '"[1, 2]"': "[1, 2]",
    '"\\u00bd"': "½",
    '"{\\"target\\": 3}"': '{"target": 3}',
    "[1, 2.50]": "1, 2.50",
    '["$9$", "x"]': "9, x",
    '{"ground_truth": 0.50, "style": "rule"}': "0.50",
    '"{\\"ground_truth\\": 7.0}"': "7.0",
}
NO_ANSWER = {
    "null": "'answer' is null",
    '""': "'answer' is empty",
    '" "': "'answer' is empty",
    "[]": "is a list without elements",
    '["1", ""]': "or with an empty one",
    '["1", null]': "'answer' is null",
    "[[1]]": "'answer' is a list, whose text is not known",
    "{}": "'answer' is an empty mapping",
    '{"truth": "1"}': "it has truth, written answer.truth",
    '{"ground_truth": {"x": 1}}': "'answer' is a mapping, not text",
    "\"{'ground_truth': '1'}\"": "looks like a mapping with 'ground_truth', but is not JSON",
    "NaN": "'answer' is not a finite number",
    "-Infinity": "'answer' is not a finite number",
    '"\\ud800"': "contains half of a surrogate pair",
    '"1\\u0000"': "contains a NUL character",
    '{"ground_truth": 1, "ground_truth": 2}': "an object has a key twice",
}


@pytest.mark.parametrize(("written", "answer"), EXACT.items())
def test_an_answer_in_json_stays_as_it_is_written(tmp_path: Path, written: str, answer: str) -> None:
    # A neighbour of another type, which a reader that guesses a column's type would convert both to.
    lines = f'{{"problem": "a", "answer": {written}}}\n{{"problem": "b", "answer": 2.5}}\n'
    assert [row.answer for row in read(tmp_path, lines).rows] == [answer, "2.5"]


@pytest.mark.parametrize(("written", "why"), NO_ANSWER.items())
def test_a_row_without_an_answer_is_left_out_with_its_line(tmp_path: Path, written: str, why: str) -> None:
    lines = f'{{"problem": "b", "answer": 1}}\n{{"problem": "a", "answer": {written}}}\n'
    rows = read(tmp_path, lines)
    assert [row.text for row in rows.rows] == ["b"]
    told = left_out(rows)
    assert told.startswith("1 of 2 rows left out because ")
    assert why in told
    assert "(line 2" in told


def test_rows_of_any_columns_and_types_load_together(tmp_path: Path) -> None:
    lines = [
        '{"problem": "a", "answer": 1, "meta": {"x": 1}}',
        '{"meta": [1, "2"], "answer": "one", "problem": "b"}',
        '{"problem": "c", "answer": 1.0, "meta": null}',
        '{"problem": "d", "answer": [2], "more": {"y": {}}}',
    ]
    rows = read(tmp_path, "\n".join(lines), keep_fields=("meta",))
    assert [row.answer for row in rows.rows] == ["1", "one", "1.0", "2"]
    assert [row.extra["meta"] for row in rows.rows] == [{"x": 1}, [1, "2"], None, None]


def test_values_for_the_verifier_are_plain(tmp_path: Path) -> None:
    extra = '{"n": 3, "x": 0.10, "nan": NaN, "list": [1, true, null], "text": "é", "deep": {"a": 1e3}}'
    line = f'{{"problem": "a", "answer": 1, "extra_info": {extra}}}'
    (row,) = read(tmp_path, line, keep_fields=("extra_info",)).rows
    assert row.extra == {
        "n": 3,
        "x": 0.1,
        "nan": None,
        "list": [1, True, None],
        "text": "é",
        "deep": {"a": 1000.0},
    }
    assert type(row.extra["n"]) is int


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("Infinity", "'kept' is not a finite number"),
        ("1e400", "'kept' is not a finite number"),
        ("9" * 5000, "'kept' has too many digits"),
        ('{"a": ["\\ud800"]}', "'kept' contains half of a surrogate pair"),
        pytest.param("[" * 600 + "]" * 600, "too many brackets inside each other", id="deep list"),
        pytest.param('{"a":' * 600 + "1" + "}" * 600, "too many brackets inside each other", id="deep"),
    ],
)
def test_a_row_with_values_that_json_cannot_hold_is_refused(tmp_path: Path, value: str, why: str) -> None:
    told = refusal(tmp_path, f'{{"problem": "a", "answer": 1, "kept": {value}}}', keep_fields=("kept",))
    assert why in told
    assert "(line 1" in told


def test_a_misspelt_column_for_the_verifier_is_refused(tmp_path: Path) -> None:
    told = refusal(tmp_path, [{"problem": "a", "answer": "1", "level": 2}], keep_fields=("levle",))
    assert "'levle', which no row of task.dataset.train='FILE' has" in told
    assert told.endswith("its columns are problem, answer, level.")


def test_every_value_of_a_table_in_text_is_text(tmp_path: Path) -> None:
    table = 'problem,answer\n"a, b\nc",007\n"say ""x""",0.10\nd,2020-01-01\ne,1e5\nf\ng,\n'
    rows = read(tmp_path, table, "t.csv")
    assert [(row.text, row.answer) for row in rows.rows] == [
        ("a, b\nc", "007"),
        ('say "x"', "0.10"),
        ("d", "2020-01-01"),
        ("e", "1e5"),
    ]
    told = left_out(rows)
    assert "has another number of values than the first (line 7: 1, and the first line 2)" in told
    assert "'answer' is empty (line 8)" in told
    assert [row.answer for row in read(tmp_path, "\ufeffproblem\tanswer\na\t1,5\n", "t.tsv").rows] == ["1,5"]


def parquet(folder: Path, columns: dict[str, Any], **fields: Any) -> Rows:
    """The rows of a Parquet file with these columns."""
    path = folder / "t.parquet"
    pyarrow.parquet.write_table(pa.table(columns), path)
    return read_rows(str(path), DatasetConfig(**fields), field="task.dataset.train", split="train")


ARRAYS = {
    "float32": (pa.array([0.1, 1e-7, 16777216], pa.float32()), ["0.1", "1e-07", "16777216.0"]),
    "float16": (pa.array(np.array([0.1, 3], np.float16)), ["0.1", "3.0"]),
    "float64": (pa.array([0.1, 27.0, -0.0]), ["0.1", "27.0", "-0.0"]),
    "decimal": (pa.array([Decimal("0.10"), Decimal("1")], pa.decimal128(30, 2)), ["0.10", "1.00"]),
    "small decimal": (pa.array([Decimal("1e-10")], pa.decimal128(30, 10)), ["0.0000000001"]),
    "int64": (pa.array([2**63 - 1, -1]), ["9223372036854775807", "-1"]),
    "bool": (pa.array([True, False]), ["true", "false"]),
    "date": (pa.array([datetime.date(2020, 1, 1)]), ["2020-01-01"]),
    "text": (pa.array(["007", "1_000", '"42"', "2020-01-01"]), ["007", "1_000", '"42"', "2020-01-01"]),
    "large text": (pa.array(["x"], pa.large_string()), ["x"]),
    "text view": (pa.array(["x"], pa.string_view()), ["x"]),
    "bytes": (pa.array(["½".encode()]), ["½"]),
    "dictionary": (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
    "list": (pa.array([[0.1, 2.5], [3]], pa.list_(pa.float32())), ["0.1, 2.5", "3.0"]),
    "mapping": (pa.array([{"ground_truth": "34", "style": "rule"}]), ["34"]),
    "map": (pa.array([[("ground_truth", "5")]], pa.map_(pa.string(), pa.string())), ["5"]),
    "JSON": (pa.array(["0.10", '"42"', "[1, 2.0]"], pa.json_()), ["0.10", "42", "1, 2.0"]),
}


@pytest.mark.parametrize(("array", "answers"), ARRAYS.values(), ids=ARRAYS)
def test_an_answer_in_a_typed_column_has_the_digits_of_the_data(
    tmp_path: Path, array: Any, answers: list[str]
) -> None:
    rows = parquet(tmp_path, {"problem": [f"p{i}" for i in range(len(array))], "answer": array})
    assert [row.answer for row in rows.rows] == answers
    assert rows.notes == ()


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (pa.array(["1", None]), "'answer' is null (row 2)"),
        (pa.array([1, math.nan]), "'answer' is not a finite number (row 2: nan)"),
        (pa.array([b"1", b"\xff"]), "invalid start byte)"),
        (pa.array([b"1", b"\xff"]).view(pa.string()), "invalid start byte)"),
        (pa.array([[b"1"], [b"\xff"]]).cast(pa.list_(pa.binary())), "invalid start byte)"),
        (
            pa.array([[1], []], pa.list_(pa.int64())),
            "is a list without elements, or with an empty one (row 2)",
        ),
    ],
)
def test_a_row_of_parquet_without_an_answer_is_left_out(tmp_path: Path, array: Any, why: str) -> None:
    rows = parquet(tmp_path, {"problem": ["a", "b"], "answer": array})
    assert [row.text for row in rows.rows] == ["a"]
    assert left_out(rows).endswith(why)


def test_times_of_a_typed_column_are_no_answers_but_values_for_the_verifier(tmp_path: Path) -> None:
    noon = pa.array([datetime.datetime(2020, 1, 1, 12)], pa.timestamp("ns"))
    (row,) = parquet(tmp_path, {"problem": ["a"], "answer": ["1"], "t": noon}, keep_fields=("t",)).rows
    assert row.extra == {"t": "2020-01-01T12:00:00"}
    told = refusal(tmp_path, (tmp_path / "t.parquet").read_bytes(), "u.parquet", answer_field="t")
    assert "'t' is a timestamp, whose text is not known: write it as text (row 1)" in told


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_characters="$"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def answer_of(value: Any) -> str | None:
    """The answer in a value that JSON wrote; None if the row must be left out."""
    if isinstance(value, list) and not any(isinstance(one, list) for one in value):
        answers = [answer_of(one) for one in value]
        return ", ".join(map(str, answers)) if answers and None not in answers else None
    if (
        value is None
        or isinstance(value, list | dict)
        or (isinstance(value, float) and not math.isfinite(value))
    ):
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    unfit = any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)
    return None if unfit else text.strip() or None


@given(values=st.lists(JSON, min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_row_gives_exactly_its_answer_or_is_left_out_with_its_number(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any]
) -> None:
    sound = '{"problem": "sound", "answer": "1"}\n'
    lines = [json.dumps({"problem": f"p{number}", "answer": value}) for number, value in enumerate(values, 2)]
    rows = read(tmp_path_factory.getbasetemp(), sound + "\n".join(lines), "any.jsonl")
    wanted = {f"p{number}": answer for number, value in enumerate(values, 2) if (answer := answer_of(value))}
    assert {row.text: row.answer for row in rows.rows[1:]} == wanted
    bad = len(values) - len(wanted)
    assert not bad or left_out(rows).startswith(f"{bad} of {len(values) + 1} rows left out")
    if bad == 1:
        (number,) = [number for number in range(2, len(values) + 2) if f"p{number}" not in wanted]
        assert f"(line {number}" in left_out(rows)
