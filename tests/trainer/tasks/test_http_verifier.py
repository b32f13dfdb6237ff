"""A verifier behind HTTP: requests, faults and retries, time limit, authorization."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.reward_service import BROKEN, FLAKY, ODD, SLOW, RewardService, reward_service
from trainer.config import TaskConfig
from trainer.config.load import validate_config
from trainer.config.task import DatasetConfig, VerifierConfig
from trainer.errors import ScopeError
from trainer.tasks import Task, make_task
from trainer.tasks.failure import NoScore
from trainer.tasks.verification import Verification

pytestmark = pytest.mark.timeout(60)
VARIABLE, SECRET = "REWARD_SERVICE_AUTHORIZATION", "Bearer very-secret-4711"


@pytest.fixture
def train_file(tmp_path: Path) -> str:
    path = tmp_path / "train.jsonl"
    rows = [{"problem": f"Write sevens {i}", "answer": "7", "level": i % 3} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def task_of(train: str, service: RewardService, **verifier: Any) -> Task:
    """A task scored by the service."""
    defaults: dict[str, Any] = {"kind": "http", "url": service.url, "retry_seconds": 0.01}
    return make_task(
        TaskConfig(
            name="dataset",
            heldout=16,
            dataset=DatasetConfig(train=train, keep_fields=("level",)),
            verifier=VerifierConfig(**(defaults | verifier)),
        )
    )


def test_a_service_is_sent_problem_answer_columns_and_response(train_file: str) -> None:
    with reward_service() as service:
        task = task_of(train_file, service)
        problem = task.train_problem(0)
        verdict = task.verify(problem, "7777")
        assert (verdict.reward, verdict.verdict, verdict.components) == (1.0, "correct", {"style": 0.5})
        assert task.verify(problem, "77").verdict == "partial"
        sent = {"problem_id": problem.id, "problem": problem.data["text"], "answer": "7", "response": "7777"}
        assert service.seen[0] == sent | {"extra": {"level": problem.data["extra"]["level"]}}


def test_a_fault_is_followed_by_another_try_and_silence_is_no_score(train_file: str) -> None:
    with reward_service() as service:
        task = task_of(train_file, service)
        assert task.verify(task.train_problem(0), FLAKY).verdict == "wrong"
        assert len(service.seen) == 2
        for response, fault in ((BROKEN, "HTTPStatusError"), (ODD, "its reward must be a number, not str")):
            with pytest.raises(NoScore, match=f"no verdict in 3 attempts: .*{fault}"):
                task.verify(task.train_problem(0), response)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b'{"reward": null}', "abstains"),
        (b'{"reward": 1, "verdict": 5, "components": null}', "correct"),
        (b'{"reward": true}', "correct"),
        (b'{"reward": 1e400}', "ValueError: its reward must be a finite number"),
        (b'{"reward": NaN}', "ValueError: its reward must be a finite number"),
        (b'{"reward": "1"}', "ValueError: its reward must be a number, not str"),
        (b'{"reward": [1]}', "ValueError: its reward must be a number, not list"),
        (b'{"score": 1}', "KeyError: 'reward'"),
        (b"[1]", "TypeError: list indices"),
        (b"null", "TypeError: 'NoneType'"),
        (b"oops", "JSONDecodeError"),
        (b"", "JSONDecodeError"),
        (b"\xff\xfe\x00", ""),
        (b'{"reward": 1, "verdict": "\\ud800"}', "?"),
        (b"[" * 5000, ""),
        (b" " * (1 << 21), "ValueError: its answer is longer than"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_whatever_a_service_answers_there_is_a_verdict(train_file: str, answer: bytes, expected: str) -> None:
    with reward_service() as service:
        service.answer = answer
        task = task_of(train_file, service, attempts=1)
        verdict = Verification(task, TaskConfig()).verify(task.train_problem(0), "\ud800 7")
        assert expected in verdict.verdict
        assert (verdict.unscored is None) == (expected in ("correct", "?"))


def test_an_answer_that_arrives_in_drops_is_not_waited_for(train_file: str) -> None:
    with reward_service() as service:
        service.pause = 0.1
        task = task_of(train_file, service, attempts=1, timeout_seconds=0.5)
        started = time.monotonic()
        with pytest.raises(NoScore, match=r"its answer takes longer than 0\.5 s"):
            task.verify(task.train_problem(0), "7")
        assert time.monotonic() - started < 3


def test_the_pauses_between_tries_double(train_file: str) -> None:
    with reward_service() as service:
        task = task_of(train_file, service, attempts=4, retry_seconds=0.1)
        with pytest.raises(NoScore, match="in 4 attempts"):
            task.verify(task.train_problem(0), BROKEN)
        pauses = [later - earlier for earlier, later in pairwise(service.times)]
    assert len(pauses) == 3
    for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=True):
        assert least <= pause < least + 1.0


def test_a_service_that_takes_too_long_is_not_waited_for(train_file: str) -> None:
    with reward_service() as service:
        task = task_of(train_file, service, attempts=2, timeout_seconds=0.2)
        with pytest.raises(NoScore, match="in 2 attempts: ReadTimeout"):
            task.verify(task.train_problem(0), SLOW)
        first, second = service.times
        assert 0.2 <= second - first < 0.9


def test_the_named_variable_is_sent_as_authorization(
    train_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    with reward_service(SECRET) as service:
        task = task_of(train_file, service, authorization_variable=VARIABLE)
        assert task.verify(task.train_problem(0), "7777").reward == 1.0
        assert SECRET not in json.dumps(service.seen)


def test_a_refusal_ends_the_run_at_once_and_tells_no_secret(
    train_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    with reward_service("Bearer another") as service:
        task = task_of(train_file, service, authorization_variable=VARIABLE)
        with pytest.raises(ScopeError, match="refuses the request: 401") as raised:
            task.verify(task.train_problem(0), "7777")
        assert len(service.seen) == 1
    assert "4711" not in str(raised.value)


@pytest.mark.parametrize("value", [None, "", "two\nlines 4711", "Bearer 4711 ü"])
def test_a_variable_that_cannot_be_a_header_is_named_without_its_value(
    train_file: str, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    with reward_service() as service, pytest.raises(ScopeError, match=VARIABLE) as raised:
        task_of(train_file, service, authorization_variable=VARIABLE)
    assert "4711" not in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "http://me:secret@host/verify"),
        ("url", "host/verify"),
        ("authorization_variable", "Bearer abc"),
        ("attempts", 0),
        ("retry_seconds", 61.0),
    ],
)
def test_settings_of_a_service_that_cannot_be_are_refused(field: str, value: object) -> None:
    with pytest.raises(ScopeError, match=f"task.verifier.{field}"):
        validate_config({"task": {"verifier": {field: value}}})
