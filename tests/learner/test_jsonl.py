"""Files of one JSON document per line, whose last line a killed writer may leave incomplete."""

from pathlib import Path

import pytest

from services.records.jsonl import cut_incomplete_line, read_lines


@pytest.mark.parametrize(
    ("data", "lines"),
    [(b"", []), (b'{"a"', []), (b"1\n2\n", [b"1", b"2"]), (b'1\n{"b": 2', [b"1"]), (b"1\n\n", [b"1", b""])],
)
def test_an_incomplete_last_line_is_not_read_and_can_be_cut_off(
    tmp_path: Path, data: bytes, lines: list[bytes]
) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(data)
    assert read_lines(path) == lines
    assert path.read_bytes() == data
    cut_incomplete_line(path)
    assert path.read_bytes() == b"".join(line + b"\n" for line in lines)


def test_a_file_that_does_not_exist_is_not_created(tmp_path: Path) -> None:
    cut_incomplete_line(tmp_path / "records.jsonl")
    assert list(tmp_path.iterdir()) == []
