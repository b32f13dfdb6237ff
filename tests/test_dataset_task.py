"""Problems from files, and the three verifiers of data set tasks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from trainer.config import TaskConfig
from trainer.config_task import DatasetConfig, VerifierConfig
from trainer.errors import ScopeError
from trainer.tasks import Task, make_task
from trainer.tasks.base import Problem
from trainer.tasks.dataset_presets import PRESETS
from trainer.tasks.dataset_rows import read_rows, reads_hub

pytestmark = pytest.mark.timeout(180)


def rows(count: int) -> list[dict[str, Any]]:
    """Sums with their answers."""
    return [{"problem": f"What is {i} + {i}?", "answer": str(2 * i), "level": i % 3} for i in range(count)]


def write(path: Path, records: list[dict[str, Any]]) -> str:
    """As JSON lines; returns the path."""
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


def test_repeated_problems_are_kept_once(tmp_path: Path) -> None:
    assert task_of(write(tmp_path / "t.jsonl", rows(40) * 3)).train_size == 24


def test_nested_columns_lists_and_answers_after_a_mark_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "nested.jsonl",
        [{"prompt": [{"content": "Q"}], "reward_model": {"ground_truth": "34"}, "extra": '{"a": [1, 2]}'}],
    )
    config = DatasetConfig(
        prompt_field="prompt.0.content", answer_field="reward_model.ground_truth", keep_fields=("extra.a.1",)
    )
    (row,) = read_rows(path, config, field="task.dataset.train", split="train")
    assert (row.text, row.answer, row.extra) == ("Q", "34", {"extra.a.1": 2})


def test_parquet_is_read_too(tmp_path: Path) -> None:
    import datasets

    path = tmp_path / "t.parquet"
    datasets.Dataset.from_list(rows(20)).to_parquet(path)
    assert task_of(str(path)).train_size == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question": "?", "answer": "1"}\n', "row 0 has no 'problem'; its columns are question, answer"),
        ("not json\n", "cannot be read"),
        ("".join(json.dumps(r) + "\n" for r in rows(16)), "none is left to train"),
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
    assert {"dapo-math-17k", "gsm8k", "math-500", "aime24", "aime25", "amc23"} <= PRESETS.keys()


def test_mathematics_is_verified_in_a_bounded_process(train_file: str) -> None:
    task = task_of(train_file)
    problem = next(p for i in range(24) if (p := task.train_problem(i)).data["answer"] == "20")
    assert task.verify(problem, r"so \boxed{\frac{40}{2}}").reward == 1.0
    wrong = task.verify(problem, r"\boxed{21}")
    assert (wrong.reward, wrong.components) == (0.0, {"correct": 0.0, "format": 1.0})
    assert task.verify(problem, "20").verdict == "no answer"


def test_an_endless_expression_scores_nothing_and_stalls_nobody(train_file: str) -> None:
    task = task_of(train_file, verifier=VerifierConfig(timeout_seconds=3))
    problem = task.train_problem(0)
    endless = r"\boxed{" + "(" * 240 + "9" + ")" * 240 + "}"
    assert task.verify(problem, endless).verdict in ("too slow", "no answer", "verifier died")
    answer = problem.data["answer"]
    assert task.verify(problem, f"\\boxed{{{answer}}}").reward == 1.0


FUNCTION = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    if solution_str == "nonsense":
        return "high"
    right = solution_str.strip() == ground_truth
    return {"score": 2.0 * right, "level": extra_info["level"], "from_file": data_source.endswith(".jsonl")}
"""


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
    with pytest.raises(ScopeError, match="must give a finite number, not 'high'"):
        task.verify(problem, "nonsense")


class Service(BaseHTTPRequestHandler):
    """Rewards responses that equal the answer; fails once for a response of "flaky", always for "broken"."""

    seen: list[dict[str, Any]]

    def do_POST(self) -> None:
        """One verdict."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.seen.append(body)
        failures = sum(one["response"] == body["response"] for one in self.seen)
        if body["response"] == "broken" or (body["response"] == "flaky" and failures == 1):
            self.send_error(503)
            return
        answer = {"reward": float(body["response"] == body["answer"]), "components": {"style": 0.5}}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def service() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    Service.seen = []
    server = HTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/verify", Service.seen
    server.shutdown()
    server.server_close()


def test_a_service_of_ones_own_is_asked_again_after_a_fault_and_its_silence_ends_the_run(
    service: tuple[str, list[dict[str, Any]]], train_file: str
) -> None:
    url, seen = service
    task = task_of(train_file, verifier=VerifierConfig(kind="http", url=url))
    problem: Problem = task.train_problem(0)
    verdict = task.verify(problem, problem.data["answer"])
    assert (verdict.reward, verdict.verdict, verdict.components) == (1.0, "correct", {"style": 0.5})
    assert seen[0]["problem"] == problem.data["text"]
    assert "level" in seen[0]["extra"]
    assert task.verify(problem, "flaky").verdict == "wrong"
    with pytest.raises(ScopeError, match="gave no verdict in 3 tries: HTTPStatusError"):
        task.verify(problem, "broken")
