"""Problems from files, and the verifiers of data set tasks except the HTTP verifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from trainer.config import TaskConfig
from trainer.config.task import DatasetConfig, MixturePart, VerifierConfig
from trainer.errors import ScopeError
from trainer.tasks import Task, TaskWithNotes, make_task
from trainer.tasks.datasets.presets import PRESETS
from trainer.tasks.datasets.rows import read_rows
from trainer.tasks.datasets.sources import reads_hub
from trainer.tasks.failure import NoScore
from trainer.tasks.mixture import Mixture

pytestmark = pytest.mark.timeout(180)


def rows(count: int) -> list[dict[str, Any]]:
    """Sums with their answers."""
    return [{"problem": f"What is {i} + {i}?", "answer": str(2 * i), "level": i % 3} for i in range(count)]


def write(path: Path, records: list[dict[str, Any]]) -> str:
    """Write the rows as JSON lines; returns the path."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def task_of(train: str, *, heldout: str | None = None, verifier: VerifierConfig | None = None) -> Task:
    """A task over a file."""
    dataset = DatasetConfig(train=train, heldout=heldout, keep_fields=("level",))
    config = TaskConfig(
        name="dataset", heldout=16, dataset=dataset, verifier=verifier or VerifierConfig(timeout_seconds=20)
    )
    return make_task(config)


@pytest.fixture
def train_file(tmp_path: Path) -> str:
    return write(tmp_path / "train.jsonl", rows(40))


def test_problems_of_a_file_are_split_by_the_seed_and_never_shared(train_file: str) -> None:
    task = task_of(train_file)
    assert (task.train_size, task.heldout_size) == (24, 16)
    train = {task.train_problem(i).id for i in range(task.train_size)}
    heldout = {task.heldout_problem(i).id for i in range(task.heldout_size)}
    assert len(train) == 24
    assert len(heldout) == 16
    assert not train & heldout
    again = task_of(train_file)
    assert [again.train_problem(i).id for i in range(50)] == [task.train_problem(i).id for i in range(50)]
    assert "\\boxed{}" in task.train_problem(0).prompt


def test_a_training_problem_that_is_held_out_elsewhere_is_left_out(train_file: str, tmp_path: Path) -> None:
    contaminated = [{"problem": "what is 3 +  3?", "answer": "6", "level": 0}, *rows(2)]
    task = task_of(train_file, heldout=write(tmp_path / "heldout.jsonl", contaminated))
    assert (task.train_size, task.heldout_size) == (37, 3)
    prompts = [task.train_problem(i).prompt for i in range(task.train_size)]
    assert not [p for p in prompts if p.startswith(("What is 0 ", "What is 1 ", "What is 3 "))]


def notes_of(task: Task) -> list[str]:
    """The task's notes about its data, without the file's path."""
    assert isinstance(task, TaskWithNotes)
    return [note.partition(": ")[2] for note in task.notes]


def test_repeated_problems_are_kept_once_and_counted(tmp_path: Path) -> None:
    task = task_of(write(tmp_path / "t.jsonl", rows(40) * 3))
    assert task.train_size == 24
    assert notes_of(task) == ["of 120 rows 80 repeated are skipped"]
    once = task_of(write(tmp_path / "once.jsonl", rows(40)))
    assert notes_of(once) == []
    assert [once.train_problem(i).id for i in range(24)] == [task.train_problem(i).id for i in range(24)]


def test_rows_are_counted_by_why_they_are_left_out(tmp_path: Path) -> None:
    odd: list[dict[str, Any]] = [
        {"problem": "What is  $0$ + 0?", "answer": "0", "level": 0},
        {"problem": "What is 1 + 1?", "answer": "3", "level": 0},
        {"problem": "What is 99 + 1?", "answer": None, "level": 0},
        {"problem": "How long is this one?" * 20, "answer": "420", "level": 0},
    ]
    dataset = DatasetConfig(train=write(tmp_path / "t.jsonl", rows(40) + odd), max_characters=100)
    task = make_task(TaskConfig(name="dataset", heldout=16, dataset=dataset))
    assert task.train_size == 24
    reasons = ["1 longer than 100 characters", "1 repeated", "1 repeated with another answer"]
    assert notes_of(task) == [
        f"of 44 rows {', '.join(reasons)} are skipped; 1 of 44 rows left out because 'answer' is null (line 43)"
    ]


def test_repeated_rows_are_found_in_nested_columns_and_json_text_too(tmp_path: Path) -> None:
    records = [
        {"prompt": [{"content": f"Q{i}"}], "model": json.dumps({"answer": i})} for i in (1, 2, 1, 3, 2, 1)
    ]
    config = DatasetConfig(prompt_field="prompt.0.content", answer_field="model.answer")
    found, notes = read_rows(write(tmp_path / "t.jsonl", records), config, field="x", split="train")
    assert [(row.text, row.answer) for row in found] == [("Q1", "1"), ("Q2", "2"), ("Q3", "3")]
    assert notes[0].endswith("of 6 rows 3 repeated are skipped")


def test_what_is_held_out_is_counted_where_it_was_a_training_problem(train_file: str, tmp_path: Path) -> None:
    task = task_of(train_file, heldout=write(tmp_path / "heldout.jsonl", rows(2)))
    (note,) = notes_of(task)
    assert note.startswith("2 problems that task.dataset.heldout=")
    assert note.endswith("holds out are not trained on")


def test_no_part_of_a_mixture_trains_on_what_another_holds_out(train_file: str, tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", [{"problem": f"Name {i}", "answer": str(i)} for i in range(20)])
    heldout = write(tmp_path / "heldout.jsonl", [{"problem": "what is $5+5$?", "answer": "10"}, *rows(2)])
    parts = (
        MixturePart(name="dataset", heldout=16, dataset=DatasetConfig(train=other)),
        MixturePart(name="dataset", dataset=DatasetConfig(train=other, heldout=heldout)),
        MixturePart(name="dataset", heldout=16, dataset=DatasetConfig(train=train_file)),
    )
    task = make_task(TaskConfig(name="mixture", mixture=parts))
    assert isinstance(task, Mixture)
    held = {task.heldout_problem(i).id.partition(":")[2] for i in range(task.heldout_size)}
    sizes = [task.part_size(part) for part in range(3)]
    trained = [{task.part_problem(p, i).data["problem"].id for i in range(sizes[p])} for p in range(3)]
    assert not held & set().union(*trained)
    assert sizes[:2] == [4, 4]
    kept_out = sum(
        note.endswith("another part of the mixture holds out are not trained on") for note in task.notes
    )
    assert kept_out == 1 + (sizes[2] < 24)
    assert any(note.startswith("part 1 of task.mixture: ") for note in task.notes)
    all_of_it = MixturePart(name="dataset", dataset=DatasetConfig(train=train_file, heldout=other))
    with pytest.raises(ScopeError, match="none is left for training"):
        make_task(TaskConfig(name="mixture", mixture=(parts[1], all_of_it)))


def test_a_wrapper_around_each_problem_is_taken_off_where_it_is(tmp_path: Path) -> None:
    records = [{"problem": f"Solve: {i}+{i}=?\nThink.", "answer": str(2 * i)} for i in range(3)]
    records.append({"problem": "9+9=?", "answer": "18"})
    config = DatasetConfig(strip_before="Solve: ", strip_after="\nThink.")
    found, notes = read_rows(write(tmp_path / "t.jsonl", records), config, field="x", split="train")
    assert [row.text for row in found] == ["0+0=?", "1+1=?", "2+2=?", "9+9=?"]
    assert notes[0].endswith(": 1 do not have the text to remove around the problem")


def test_nested_columns_lists_and_answers_after_a_mark_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "nested.jsonl",
        [{"prompt": [{"content": "Q"}], "reward_model": {"ground_truth": "34"}, "extra": '{"a": [1, 2]}'}],
    )
    config = DatasetConfig(
        prompt_field="prompt.0.content", answer_field="reward_model.ground_truth", keep_fields=("extra.a.1",)
    )
    (row,), notes = read_rows(path, config, field="task.dataset.train", split="train")
    assert notes == ()
    assert (row.text, row.answer, row.extra) == ("Q", "34", {"extra.a.1": 2})


def test_parquet_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows(20)), path)
    assert task_of(str(path)).train_size == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question": "?", "answer": "1"}\n', r"there is no 'problem' \(line 1: it has question, answer\)"),
        ("not json\n", r"the line is not JSON \(line 1: column 1: Expecting value\)"),
        ('{"problem": "?", "answer": null, "level": 1}\n', "has no rows that can be used"),
        ("".join(json.dumps(r) + "\n" for r in rows(16)), "none is left for training"),
    ],
)
def test_a_file_that_cannot_serve_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(ScopeError, match=message):
        task_of(str(path))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ScopeError, match=r"task.dataset.train='/no/file.jsonl' is not a file"):
        task_of("/no/file.jsonl")


def test_the_hub_is_asked_for_names_that_are_no_files() -> None:
    assert reads_hub(TaskConfig(name="dataset", dataset=DatasetConfig(train="gsm8k")))
    assert not reads_hub(TaskConfig(name="dataset", dataset=DatasetConfig(train="x.parquet")))
    assert not reads_hub(TaskConfig())
    part = MixturePart(name="dataset", dataset=DatasetConfig(train="gsm8k"))
    assert reads_hub(TaskConfig(name="mixture", mixture=(part,)))
    assert {"dapo-math-17k", "gsm8k", "math-500", "aime24", "aime25", "amc23"} <= PRESETS.keys()


def test_mathematics_is_verified_in_a_bounded_process(train_file: str) -> None:
    task = task_of(train_file)
    problem = next(p for i in range(24) if (p := task.train_problem(i)).data["answer"] == "20")
    assert task.verify(problem, r"so \boxed{\frac{40}{2}}").reward == 1.0
    wrong = task.verify(problem, r"\boxed{21}")
    assert (wrong.reward, wrong.components) == (0.0, {"correct": 0.0, "format": 1.0})
    assert task.verify(problem, "20").verdict == "no answer"


def test_an_endless_expression_has_no_score_and_stalls_nobody(train_file: str) -> None:
    task = task_of(train_file, verifier=VerifierConfig(timeout_seconds=3))
    problem = task.train_problem(0)
    endless = r"\boxed{\sum_{k=1}^{10^6} \frac{\sin(k^2)}{k!}}"
    with pytest.raises(NoScore, match="too slow"):
        task.verify(problem, endless)
    answer = problem.data["answer"]
    assert task.verify(problem, f"\\boxed{{{answer}}}").reward == 1.0


FUNCTION = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    if solution_str == "nonsense":
        return "high"
    right = solution_str.strip() == ground_truth
    return {"score": 2.0 * right, "level": extra_info["level"], "from_file": data_source.endswith(".jsonl")}
"""


DISPATCHER = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    if data_source != "math_dapo":
        raise NotImplementedError(data_source)
    return {"score": float(solution_str == ground_truth), "index": extra_info["index"], "level": extra_info["level"]}
"""


def test_a_dispatcher_gets_the_rows_own_data_source_and_extra_info(tmp_path: Path) -> None:
    (tmp_path / "my_dispatcher.py").write_text(DISPATCHER)
    records = [r | {"data_source": "math_dapo", "extra_info": {"index": 1}} for r in rows(20)]
    dataset = DatasetConfig(train=write(tmp_path / "t.jsonl", records), keep_fields=("level", "extra_info"))
    config = TaskConfig(
        name="dataset",
        heldout=16,
        folder=str(tmp_path),
        dataset=dataset,
        verifier=VerifierConfig(kind="function", function="my_dispatcher:compute_score", timeout_seconds=20),
    )
    task = make_task(config)
    problem = task.train_problem(0)
    verdict = task.verify(problem, problem.data["answer"])
    assert verdict.reward == 1.0
    assert verdict.components == {"index": 1.0, "level": min(problem.data["extra"]["level"], 1.0)}
    named = config.model_copy(update={"dataset": dataset.model_copy(update={"source_field": "level"})})
    assert make_task(named).train_problem(0).data["source"] in ("0", "1", "2")
    absent = config.model_copy(update={"dataset": dataset.model_copy(update={"source_field": "none"})})
    assert make_task(absent).train_problem(0).data["source"] == dataset.train


def test_a_compute_score_of_ones_own_is_called_as_verl_calls_it(train_file: str, tmp_path: Path) -> None:
    (tmp_path / "my_reward.py").write_text(FUNCTION)
    config = TaskConfig(
        name="dataset",
        heldout=16,
        folder=str(tmp_path),
        dataset=DatasetConfig(train=train_file, keep_fields=("level",)),
        verifier=VerifierConfig(kind="function", function="my_reward:compute_score", timeout_seconds=20),
    )
    task = make_task(config)
    problem = next(p for i in range(24) if (p := task.train_problem(i)).data["extra"]["level"] == 1)
    right = task.verify(problem, problem.data["answer"])
    assert (right.reward, right.verdict, right.components) == (
        1.0,
        "correct",
        {"level": 1.0, "from_file": 1.0},
    )
    assert task.verify(problem, "?").verdict == "wrong"
    with pytest.raises(NoScore, match="the score must be a number, not str 'high'"):
        task.verify(problem, "nonsense")
