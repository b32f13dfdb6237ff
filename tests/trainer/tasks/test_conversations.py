"""A column of messages, as in verl, TRL or ShareGPT, becomes a conversation, never text that Python printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.data_rows import left_out, read, refusal
from trainer.config import TaskConfig
from trainer.config.task import DatasetConfig, MixturePart
from trainer.tasks import Message, make_task

SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = {"role": "user", "content": "What is 2 + 2?"}
ANSWERED = {"role": "assistant", "content": "4"}
AGAIN = {"role": "user", "content": "And 3 + 3?"}
TALK = [SYSTEM, ASKED, ANSWERED, AGAIN]


def turns(folder: Path, prompt: Any, **fields: Any) -> list[tuple[str, str]]:
    """(role, content) of each message of the only row, whose column `prompt` has this value."""
    rows = read(folder, [{"prompt": prompt, "answer": "6"}], prompt_field="prompt", **fields)
    (row,) = rows.rows
    return [*((message.role, message.content) for message in row.earlier), ("user", row.text)]


def parts(*texts: str) -> list[dict[str, str]]:
    """The content of a message as a list of parts."""
    return [{"type": "text", "text": text} for text in texts]


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ([ASKED], [("user", "What is 2 + 2?")]),
        ([SYSTEM, ASKED], [("system", "Be brief."), ("user", "What is 2 + 2?")]),
        (TALK, [(turn["role"], turn["content"]) for turn in TALK]),
        (json.dumps(TALK), [(turn["role"], turn["content"]) for turn in TALK]),
        ([{"role": "system", "content": ""}, ASKED], [("system", ""), ("user", "What is 2 + 2?")]),
        ([{"role": "user", "content": parts("Add 1", "and 2.")}], [("user", "Add 1\nand 2.")]),
        (
            [
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "Yes?"},
                {"from": "human", "value": "2+2"},
            ],
            [("user", "Hi"), ("assistant", "Yes?"), ("user", "2+2")],
        ),
        (
            [ASKED, {"role": "tool", "content": "4"}, AGAIN],
            [("user", "What is 2 + 2?"), ("tool", "4"), ("user", "And 3 + 3?")],
        ),
        ([ASKED | {"tool_calls": None, "id": 3}], [("user", "What is 2 + 2?")]),
        ("[1, 2] is a list.", [("user", "[1, 2] is a list.")]),
        ("{'a': 1} has one key.", [("user", "{'a': 1} has one key.")]),
    ],
)
def test_a_prompt_is_read_as_its_messages(tmp_path: Path, prompt: Any, wanted: list[tuple[str, str]]) -> None:
    assert turns(tmp_path, prompt) == wanted


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        (None, "'prompt' is null"),
        (" ", "'prompt' is empty"),
        (5, "'prompt' is a number, neither text nor a list of messages"),
        (True, "'prompt' is true or false, neither"),
        (
            {"role": "user", "content": "Hi"},
            "'prompt' is a mapping, neither text nor a list of messages (line 2: it has role, content)",
        ),
        ([], "'prompt' is a list without messages"),
        (["Hi"], "is not a mapping with 'role' and 'content' (line 2: message 1, it is text)"),
        ([ASKED, ANSWERED], "'prompt' ends with a message of role 'assistant', not 'user'"),
        ([SYSTEM], "'prompt' ends with a message of role 'system'"),
        (
            [SYSTEM, {"role": "bot", "content": "Hi"}],
            "has an unknown role (line 2: message 2, 'bot'; known: system,",
        ),
        ([{"role": "User", "content": "Hi"}], "has an unknown role"),
        ([{"content": "Hi"}], "has no 'role'"),
        ([{"role": "user", "content": None}], "has no text as its content (line 2: message 1, it is null)"),
        ([{"role": "user"}], "has no text as its content"),
        ([{"role": "user", "content": 5}], "has no text as its content (line 2: message 1, it is a number)"),
        ([{"role": "user", "content": {"text": "Hi"}}], "has no text as its content"),
        ([{"role": "user", "content": " "}], "a message of 'prompt' is empty"),
        ([{"role": "user", "content": []}], "a message of 'prompt' is empty"),
        ([{"role": "user", "content": [{"type": "image", "image": "x.png"}]}], "has a part that is not text"),
        ([{"role": "user", "content": [*parts("Hi"), {"type": "image_url"}]}], "message 1, image_url"),
        (
            [ASKED, ANSWERED | {"tool_calls": [{"id": "1"}]}, AGAIN],
            "has 'tool_calls', which is not supported",
        ),
        ([ASKED | {"content": "\ud800"}], "contains half of a surrogate pair"),
        (str([ASKED]), "'prompt' looks like messages, but is not a list of them in JSON"),
        (str(ASKED), "'prompt' looks like messages, but is not"),
        (json.dumps(ASKED), "'prompt' looks like messages, but is not"),
        (json.dumps([ASKED])[:-1], "'prompt' looks like messages, but is not"),
    ],
)
def test_a_prompt_without_a_conversation_is_left_out_with_its_line(
    tmp_path: Path, prompt: Any, why: str
) -> None:
    rows = read(
        tmp_path,
        [{"prompt": "sound", "answer": "1"}, {"prompt": prompt, "answer": "6"}],
        prompt_field="prompt",
    )
    assert [row.text for row in rows.rows] == ["sound"]
    assert why in left_out(rows)
    assert "(line 2" in left_out(rows)
    assert "FILE', line 2: " in refusal(
        tmp_path,
        [{"prompt": "sound", "answer": "1"}, {"prompt": prompt, "answer": "6"}],
        prompt_field="prompt",
        bad_rows="refuse",
    )


def test_messages_of_parquet_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pa.table({"prompt": [TALK, [ASKED]], "answer": ["6", "4"]}), path)
    rows = read(tmp_path, path.read_bytes(), "u.parquet", prompt_field="prompt").rows
    assert [message.content for message in rows[0].earlier] == ["Be brief.", "What is 2 + 2?", "4"]
    assert (rows[1].earlier, rows[1].text) == ((), "What is 2 + 2?")


def test_text_around_the_problem_and_its_length_concern_the_last_message(tmp_path: Path) -> None:
    wrapped = [ASKED | {"content": "Solve: first"}, ANSWERED, AGAIN | {"content": "Solve: 3+3=?\nThink."}]
    fields = {"strip_before": "Solve: ", "strip_after": "\nThink."}
    assert turns(tmp_path, wrapped, **fields) == [
        ("user", "Solve: first"),
        ("assistant", "4"),
        ("user", "3+3=?"),
    ]
    whole = sum(len(turn["content"]) for turn in TALK)
    assert turns(tmp_path, TALK, max_characters=whole)
    told = refusal(tmp_path, [{"problem": TALK, "answer": "6"}], max_characters=whole - 1)
    assert f"1 longer than {whole - 1} characters" in told


def sums(count: int) -> list[dict[str, Any]]:
    """Rows of two turns."""
    return [
        {"prompt": [SYSTEM, AGAIN | {"content": f"{number}+{number}=?"}], "answer": 2 * number}
        for number in range(count)
    ]


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    """Write the rows as JSON lines; returns the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_instruction_ends_the_last_message_of_a_problem(tmp_path: Path) -> None:
    data = DatasetConfig(
        train=written(tmp_path / "t.jsonl", sums(20)), prompt_field="prompt", instruction=" Box it."
    )
    problem = make_task(TaskConfig(name="dataset", heldout=16, dataset=data)).train_problem(0)
    assert problem.prompt == problem.data["text"] + " Box it."
    assert problem.messages == (Message("system", "Be brief."), Message("user", problem.prompt))
    part = MixturePart(name="dataset", heldout=16, dataset=data)
    mixed = make_task(TaskConfig(name="mixture", mixture=(part,))).train_problem(0)
    assert (mixed.prompt, mixed.messages) == (problem.prompt, problem.messages)
    plain = written(
        tmp_path / "u.jsonl", [{"prompt": [ASKED | {"content": f"{i}?"}], "answer": i} for i in range(20)]
    )
    alone = make_task(
        TaskConfig(name="dataset", heldout=16, dataset=data.model_copy(update={"train": plain}))
    ).train_problem(0)
    assert alone.messages == ()


def test_rows_that_differ_in_an_earlier_turn_are_not_duplicates(tmp_path: Path) -> None:
    prompts = [
        [ASKED, ANSWERED, AGAIN],
        [ASKED, ANSWERED | {"content": "5"}, AGAIN],
        [SYSTEM, ASKED, ANSWERED, AGAIN],
        [AGAIN],
        [ASKED, ANSWERED, AGAIN | {"content": "and $3+3$?"}],
    ]
    rows = read(tmp_path, [{"problem": prompt, "answer": "6"} for prompt in prompts])
    assert len(rows.rows) == 4
    assert left_out(rows) == "of 5 rows 1 repeated are skipped"


def test_a_held_out_problem_is_not_trained_on_under_another_system_message(tmp_path: Path) -> None:
    heldout = written(
        tmp_path / "h.jsonl", [{"prompt": f"${number} + {number}$ = ?", "answer": 0} for number in (1, 2)]
    )
    train = written(tmp_path / "t.jsonl", sums(5))
    task = make_task(
        TaskConfig(name="dataset", dataset=DatasetConfig(train=train, heldout=heldout, prompt_field="prompt"))
    )
    assert (task.train_size, task.heldout_size) == (3, 2)


WORD = st.sampled_from(["system", "user", "assistant", "human", "gpt", "text", "image"]) | st.text(max_size=4)
KEY = st.sampled_from(["role", "content", "from", "value", "type", "text", "tool_calls"])
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEY, inner, max_size=3),
    max_leaves=10,
)
TURN = st.fixed_dictionaries({"role": WORD, "content": WORD | st.lists(ANY, max_size=2)})


def texts_in(value: Any) -> set[str]:
    """Every text inside a value of JSON."""
    if isinstance(value, dict):
        return set().union(*map(texts_in, value.values()))
    return set().union(*map(texts_in, value)) if isinstance(value, list) else {value} & {str(value)}


@given(prompt=ANY | st.lists(TURN, max_size=3))
@settings(max_examples=200, deadline=None)
def test_any_prompt_gives_its_own_texts_or_is_left_out(
    tmp_path_factory: pytest.TempPathFactory, prompt: Any
) -> None:
    sound = {"prompt": "sound", "answer": "1"}
    path = tmp_path_factory.getbasetemp()
    rows = read(path, [sound, {"prompt": prompt, "answer": "6"}], "any.jsonl", prompt_field="prompt")
    if len(rows.rows) == 1:
        assert left_out(rows).startswith("1 of 2 rows left out because ")
        assert "(line 2" in left_out(rows)
        return
    row, texts = rows.rows[1], texts_in(prompt)
    contents = [*(message.content for message in row.earlier), row.text]
    assert {line.strip() for content in contents for line in content.split("\n")} <= {
        line.strip() for text in texts | {""} for line in text.split("\n")
    }
