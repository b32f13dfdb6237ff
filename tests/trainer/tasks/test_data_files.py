"""Files of rows: encodings, forms of JSON, compression, and what becomes of rows that cannot be used."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.data_rows import left_out, read, refusal
from trainer.config import TaskConfig
from trainer.config.task import DatasetConfig
from trainer.errors import ScopeError
from trainer.tasks.datasets import text_files
from trainer.tasks.datasets.rows import read_rows
from trainer.tasks.datasets.sources import is_file_name, reads_hub, without_ending

A = '{"problem": "é?", "answer": 1}'
B = '{"problem": "f?", "answer": 2.50}'


def parquet_bytes() -> bytes:
    """A Parquet file of two rows."""
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(pa.table({"problem": ["a", "f"], "answer": [1.0, 2.5]}), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (f"{A}\n{B}\n", "t.jsonl"),
        (f"{A}\n{B}", "t.json"),
        (f"\ufeff{A}\n{B}\n", "t.jsonl"),
        (f"{A}\r\n\r\n  \n{B}\r\n", "t.jsonl"),
        (f"{A}\r{B}\r", "t.jsonl"),
        (f"\n\n{A}\n{B}", "t.JSONL"),
        (f"[{A}, {B}]", "t.jsonl"),
        (f"\ufeff [\n{A},\n{B}\n]\n", "t.json"),
        (f'{{"data": [{A}, {B}]}}', "t.json"),
        (f'{{\n"version": "1",\n"data": [\n{A},\n{B}\n]\n}}', "t.json"),
        (f'{{\n"rows": [\n{A},\n{B}\n]\n}}', "t.jsonl"),
        (gzip.compress(f"{A}\n{B}\n".encode()), "t.jsonl.gz"),
        (gzip.compress(f"[{A},{B}]".encode()), "t.json.gz"),
        ("problem,answer\né?,1\nf?,2.50\n", "t.csv"),
        ("problem\tanswer\r\né?\t1\r\n\r\nf?\t2.50\r\n", "t.tsv"),
        (gzip.compress("problem,answer\né?,1\nf?,2.50\n".encode()), "t.csv.gz"),
    ],
)
def test_a_file_is_read_in_every_usual_form(tmp_path: Path, content: str | bytes, name: str) -> None:
    rows = read(tmp_path, content, name)
    assert [(row.text, row.answer) for row in rows.rows] == [("é?", "1"), ("f?", "2.50")]
    assert rows.notes == ()


def test_a_file_may_be_compressed_with_zstandard(tmp_path: Path) -> None:
    packed = tmp_path / "t.jsonl.zst"
    with pa.output_stream(str(packed), compression="zstd") as stream:
        stream.write(f"{A}\n".encode())
    assert [row.text for row in read(tmp_path, packed.read_bytes(), "u.jsonl.zst").rows] == ["é?"]


def test_columns_of_a_typed_table_must_have_names_that_differ(tmp_path: Path) -> None:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["problem", "answer", "answer"])
    pyarrow.parquet.write_table(table, sink)
    told = refusal(tmp_path, sink.getvalue().to_pybytes(), "t.parquet")
    assert "FILE': the names of columns must differ: problem, answer, answer" in told


def test_one_object_over_several_lines_is_one_row(tmp_path: Path) -> None:
    talk = {"problem": [{"role": "user", "content": "Hi"}], "answer": "1"}
    for indent in (None, 1):
        (row,) = read(tmp_path, json.dumps(talk, indent=indent), "t.json").rows
        assert row.text == "Hi"


SOUND = {
    ".jsonl": f"{A}\n{B}\n".encode(),
    ".json": f"[{A}, {B}]".encode(),
    ".csv": b'problem,answer\n"a, b",1\nf,2.50\n',
    ".tsv": b"problem\tanswer\na\t1\nf\t2.50\n",
    ".jsonl.gz": gzip.compress(f"{A}\n{B}\n".encode(), mtime=0),
    ".parquet": parquet_bytes(),
}
LATIN = "iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW"


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        (
            f"{B}\n{A}\n".encode("latin-1"),
            "t.jsonl",
            f"FILE', line 2, byte 14: not UTF-8 (0xE9). Convert it: {LATIN}",
        ),
        (f"[{A}]".encode("cp1252"), "t.json", "FILE', line 1, byte 15: not UTF-8 (0xE9)"),
        ("problem,answer\né,1\n".encode("latin-1"), "t.csv", "FILE', line 2, byte 1: not UTF-8 (0xE9)"),
        (
            A.encode("utf-16"),
            "t.jsonl",
            "line 1, byte 1: UTF-16, not UTF-8. Convert it: iconv -f UTF-16 -t UTF-8",
        ),
        (A.encode("utf-16-le"), "t.jsonl", "line 1, byte 2: a NUL byte, as in UTF-16"),
        (A.encode("utf-32"), "t.jsonl", "line 1, byte 1: UTF-32, not UTF-8"),
        ("problem,answer\n".encode("utf-16"), "t.csv", "line 1, byte 1: UTF-16, not UTF-8"),
        (f"[{A},\n{B}", "t.json", "FILE', line 2, column 34: not JSON (Expecting ',' delimiter)"),
        (f'{{"data": [\n{A}\n{B}]}}', "t.json", "FILE', line 3, column 1: not JSON"),
        pytest.param(
            "[" * 100_000, "t.json", "FILE' is not JSON: too many brackets inside each other", id="deep"
        ),
        (f'{{"train": [{A}], "test": [{B}]}}', "t.json", "holds several lists of rows (train, test)"),
        ("", "t.jsonl", "has no rows that can be used: it is empty"),
        ("\n\n", "t.json", "has no rows that can be used: it is empty"),
        ("[]", "t.json", "has no rows that can be used: it is empty"),
        ("", "t.csv", "FILE' is empty; the first line of a table names its columns"),
        ("problem;answer\na;1\n", "t.csv", "has no 'problem'; its columns are problem;answer"),
        ("problem,problem\na,1\n", "t.csv", "line 1: the names of columns must differ: problem, problem"),
        (gzip.compress(A.encode())[:-10], "t.jsonl.gz", "FILE' cannot be read: Truncated compressed stream"),
        (A, "t.jsonl.gz", "FILE' cannot be read: zlib inflate failed"),
        (A, "t.parquet", "FILE' cannot be read: Parquet"),
        (
            A,
            "t.txt",
            "FILE' is a file of a kind that is not read; files end in .jsonl, .json, .csv, .tsv, .parquet",
        ),
        (A, "t.jsonl.xz", "FILE' is a file of a kind that is not read"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_place(
    tmp_path: Path, content: str | bytes, name: str, told: str
) -> None:
    assert told in refusal(tmp_path, content, name)


def test_a_line_beyond_the_limit_is_refused_before_it_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "LONGEST_LINE", 1 << 20)
    told = refusal(tmp_path, f'{A}\n{{"problem": "{"a" * (1 << 20)}", "answer": 1}}')
    assert "FILE', line 2: longer than 1 MiB" in told


BAD_LINES = {
    '{"problem": "x", "answer": 1': "the line is not JSON (line 2: column 29: Expecting ',' delimiter)",
    "nonsense": "the line is not JSON (line 2: column 1: Expecting value)",
    f"{B} {B}": "the line is not JSON (line 2: column 35: Extra data)",
    '{"problem": "a\0", "answer": 1}': "the line is not JSON (line 2: column 15: Invalid control character at)",
    "[1, 2]": "the row is not an object with columns (line 2: it is a list)",
    '"text"': "the row is not an object with columns (line 2: it is text)",
    "null": "the row is not an object with columns (line 2: it is null)",
    '{"question": "x"}': "there is no 'problem' (line 2: it has question)",
    '{"problem": "x"}': "there is no 'answer' (line 2: it has problem)",
    '{"\\ud800": 1}': "there is no 'problem' (line 2: it has \\ud800)",
    '{"problem": "a", "problem": "b", "answer": 1}': "an object has a key twice (line 2: 'problem')",
    '{"problem": "a\\u0000", "answer": 1}': "'problem' contains a NUL character (line 2)",
    '{"problem": "\\udc00", "answer": 1}': "'problem' contains half of a surrogate pair (line 2: \\udc00)",
    f'{{"problem": "a", "answer": 1, "x": {"[" * 100_000}': "(line 2: too many brackets inside each other)",
}


@pytest.mark.parametrize(("line", "why"), BAD_LINES.items(), ids=range(len(BAD_LINES)))
def test_a_bad_line_is_left_out_and_told_or_refused(tmp_path: Path, line: str, why: str) -> None:
    content = f"{A}\n{line}\n{B}\n"
    rows = read(tmp_path, content)
    assert [row.text for row in rows.rows] == ["é?", "f?"]
    assert left_out(rows).startswith("1 of 3 rows left out because ")
    assert why in left_out(rows)
    told = refusal(tmp_path, content, bad_rows="refuse")
    assert told.startswith("task.dataset.train='FILE', line 2: ")
    assert told.endswith("Mend the row, or leave such rows out with task.dataset.bad_rows=left_out.")


def test_bad_rows_are_counted_by_why_with_the_first_of_each(tmp_path: Path) -> None:
    lines = [A, "x", *['{"problem": "y", "answer": null}'] * 5, '{"problem": 5, "answer": 1}', A, "z"]
    told = left_out(read(tmp_path, "\n".join(lines)))
    assert told == (
        "of 10 rows 1 repeated are skipped; 8 of 10 rows left out: "
        "5 because 'answer' is null (lines 3, 4, 5, …); "
        "2 because the line is not JSON (lines 2, 10; the first: column 1: Expecting value); "
        "1 because 'problem' is a number, neither text nor a list of messages (line 8)"
    )


def test_data_without_a_single_sound_row_is_refused(tmp_path: Path) -> None:
    told = refusal(tmp_path, [{"prompt": "x", "answer": 1}] * 3)
    assert told.startswith(
        "task.dataset.train='FILE' has no rows that can be used: 3 of 3 rows left out because there is no 'problem' "
        "(lines 1, 2, 3; the first: it has prompt, answer)."
    )


def test_a_column_may_have_a_dot_in_its_name(tmp_path: Path) -> None:
    row = {"problem": "a", "reward_model.ground_truth": "3"}
    assert [row.answer for row in read(tmp_path, [row], answer_field="reward_model.ground_truth").rows] == [
        "3"
    ]


def test_a_folder_is_read_by_the_library_of_the_hub(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"problem": "a", "answer": {"ground_truth": 1.5}}\n' * 2)
    config = DatasetConfig(split="train")
    rows = read_rows(str(folder), config, field="task.dataset.train", split="train")
    assert [(row.text, row.answer) for row in rows.rows] == [("a", "1.5")]
    assert left_out(rows) == "of 2 rows 1 repeated are skipped"
    with pytest.raises(ScopeError, match=r"has no 'question'; its columns are problem, answer\."):
        read_rows(
            str(folder), DatasetConfig(prompt_field="question"), field="task.dataset.train", split="train"
        )


@pytest.mark.parametrize(
    ("name", "stem"), [("a/b.jsonl", "b"), ("b.v2.parquet", "b.v2"), ("a/B.JSON.gz", "B"), ("b.csv.zst", "b")]
)
def test_the_names_of_files_are_known_from_those_of_the_hub(name: str, stem: str) -> None:
    assert is_file_name(name)
    assert without_ending(name) == stem
    assert not reads_hub(TaskConfig(name="dataset", dataset=DatasetConfig(train=name)))
    assert not is_file_name("owner/name.v2")
    assert not is_file_name("x.parquet.gz")


@given(data=st.data(), ending=st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".parquet"]))
@settings(max_examples=150, deadline=None)
def test_any_damage_to_a_file_is_told_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, ending: str
) -> None:
    sound = SOUND[ending]
    place = data.draw(st.integers(0, len(sound)))
    junk = data.draw(
        st.binary(max_size=6) | st.sampled_from([b'"', b"[", b"{", b"\n", b"\0", b"\\ud800", b","])
    )
    damaged = sound[:place] + junk + sound[place + data.draw(st.integers(0, 8)) :]
    path = tmp_path_factory.getbasetemp() / f"damaged{ending}"
    path.write_bytes(damaged)
    try:
        rows, told = read_rows(str(path), DatasetConfig(), field="task.dataset.train", split="train").rows, ""
    except ScopeError as error:
        rows, told = [], str(error)
    assert all(row.text and row.answer for row in rows)
    assert rows or str(path) in told
