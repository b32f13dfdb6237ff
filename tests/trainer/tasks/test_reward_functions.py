"""Reward functions as people write them: what counts as a number, what fails, and what their import may do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.config.task import DatasetConfig, TaskConfig, VerifierConfig
from trainer.errors import ScopeError
from trainer.tasks import Task, Verdict, make_task
from trainer.tasks.failure import ABSTAINS
from trainer.tasks.verification import Verification

pytestmark = pytest.mark.timeout(240)

FUNCTION = """
import os, sys, decimal, fractions
import numpy as np
import torch

class Local(Exception):
    def __init__(self, what, why):
        super().__init__(what)

def recurse():
    return recurse()

def compute_score(data_source, solution_str, ground_truth, extra_info):
    if solution_str == "changes its arguments":
        extra_info.clear()
        return 1
    if solution_str == "prints":
        print("x" * 1_000_000)
        return 1
    return eval(solution_str)
"""
NUMBERS = {
    "np.float32(0.5)": 0.5,
    "np.float64(1)": 1.0,
    "np.int64(1)": 1.0,
    "np.bool_(True)": 1.0,
    "np.array(0.5)": 0.5,
    "np.float16(2)": 1.0,
    "torch.tensor(0.5)": 0.5,
    "torch.tensor([1.0])": 1.0,
    "torch.tensor(1.0, requires_grad=True)": 1.0,
    "torch.tensor(True)": 1.0,
    "torch.tensor(0.5, dtype=torch.bfloat16)": 0.5,
    "fractions.Fraction(1, 4)": 0.25,
    "decimal.Decimal('0.5')": 0.5,
    "True": 1.0,
    "-3": 0.0,
    "10**400": 1.0,
    "-10**400": 0.0,
    "1e-320": 1e-320,
    "{'score': np.float32(1.0), 'acc': np.int64(1)}": 1.0,
    "{'score': torch.tensor(0.5)}": 0.5,
    "{'score': 1, **{str(i): i for i in range(40)}}": 1.0,
    "{'score': 1, 'pred': '34', 'nan': float('nan'), 3: 0.5, 'x' * 9999: 1}": 1.0,
    "changes its arguments": 1.0,
    "prints": 1.0,
}
FAILURES = {
    "float('nan')": "ValueError: the score must be a finite number",
    "float('inf')": "ValueError: the score must be a finite number",
    "np.float32('nan')": "ValueError: the score must be a finite number",
    "decimal.Decimal('NaN')": "ValueError: the score must be a finite number",
    "'high'": "TypeError: the score must be a number, not str 'high'",
    "'1.0'": "TypeError: the score must be a number, not str",
    "b'1'": "TypeError: the score must be a number, not bytes",
    "1j": "TypeError: the score must be a number, not complex",
    "np.complex64(1)": "TypeError: the score must be a number",
    "[1.0]": "TypeError: the score must be a number, not list",
    "(1.0, {})": "TypeError: the score must be a number, not tuple",
    "np.array([0.5, 0.5])": "TypeError: the score must be a number, not ndarray",
    "torch.ones(2)": "TypeError: the score must be a number, not Tensor",
    "{}": "TypeError: the result has no 'score', but nothing",
    "{'reward': 1}": "TypeError: the result has no 'score', but reward",
    "{'score': 'high'}": "TypeError: the score must be a number",
    "lambda: 1": "TypeError: the score must be a number, not function",
    "type('Lazy', (), {})()": "TypeError: the score must be a number, not Lazy",
    "1 / 0": "ZeroDivisionError: division by zero",
    "int(ground_truth + 'x')": "ValueError: invalid literal for int()",
    "(_ for _ in ()).throw(Local('a', 'b'))": "Local: a",
    "sys.exit(1)": "SystemExit: 1",
    "recurse()": "RecursionError",
    "eval('\\ud800')": "",
    "os._exit(1)": "verifier died",
    "os.kill(os.getpid(), 11)": "verifier died",
    "bytearray(1 << 45)": "out of memory",
    "[bytes(1 << 26) for _ in iter(int, 1)]": "out of memory",
    "any(0 for _ in iter(int, 1))": "too slow",
}


def task_of(folder: Path, function: str, **verifier: Any) -> TaskConfig:
    """A task scored by a function of a module in `folder`."""
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"problem": f"Say {i}", "answer": str(i)}) + "\n" for i in range(40)))
    bounds: dict[str, Any] = {"timeout_seconds": 20.0, "load_seconds": 60.0} | verifier
    return TaskConfig(
        name="dataset",
        heldout=16,
        folder=str(folder),
        dataset=DatasetConfig(train=str(rows)),
        verifier=VerifierConfig(kind="function", function=function, **bounds),
    )


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Verification]:
    """A task whose function evaluates the response as Python."""
    folder = tmp_path_factory.mktemp("function")
    (folder / "evaluating_reward.py").write_text(FUNCTION)
    config = task_of(folder, "evaluating_reward:compute_score", memory_mib=512, timeout_seconds=6.0)
    task = make_task(config)
    return task, Verification(task, config)


def verdict_on(scored: tuple[Task, Verification], response: str) -> Verdict:
    task, verification = scored
    return verification.verify(task.train_problem(0), response)


@pytest.mark.parametrize("response", NUMBERS)
def test_a_number_of_any_library_is_a_score(scored: tuple[Task, Verification], response: str) -> None:
    verdict = verdict_on(scored, response)
    assert (verdict.reward, verdict.unscored) == (NUMBERS[response], None)
    assert len(verdict.components) <= 16
    assert all(0 <= part <= 1 for part in verdict.components.values())


@pytest.mark.parametrize("response", FAILURES)
def test_a_failure_is_no_score_and_tells_its_cause(scored: tuple[Task, Verification], response: str) -> None:
    verdict = verdict_on(scored, response)
    assert verdict.unscored is not None
    assert verdict.unscored.startswith(FAILURES[response])
    assert (verdict.reward, verdict.verdict) == (0.0, verdict.unscored)
    assert verdict_on(scored, "1").reward == 1.0


@pytest.mark.parametrize("response", ["None", "{'score': None, 'acc': 1}"])
def test_none_abstains(scored: tuple[Task, Verification], response: str) -> None:
    assert verdict_on(scored, response) == Verdict(0.0, {}, ABSTAINS, unscored=ABSTAINS)


GOOD = "def compute_score(data_source, solution_str, ground_truth, extra_info): return 1"
REFUSED = {
    "raises": ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero (raises.py:1)"),
    "attribute": ("import json\njson.nothing", "AttributeError: .* \\(attribute.py:2\\)"),
    "syntax": ("def compute_score(:", "SyntaxError: .*syntax.py, line 1"),
    "library": ("import no_such_library", "No module named 'no_such_library' \\(library.py:1\\)"),
    "leaves": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "ends": ("import os; os._exit(3)", "its process ended before it was ready"),
    "empty": ("", "empty has no compute_score"),
    "number": ("compute_score = 3", "is a int, not a function"),
    "lazy": ("async def compute_score(**arguments): return 1", "is an async function"),
    "yielding": ("def compute_score(**arguments): yield 1", "is a generator"),
    "short": (
        "def compute_score(solution_str, ground_truth): return 1",
        "must be compute_score\\(data_source, ",
    ),
    "long": (f"{GOOD.replace('extra_info', 'extra_info, model')}", "takes \\(data_source.*model"),
    "random": (GOOD, "the module random is .*/random.py, and not .*: rename that file"),
    "json": (GOOD, "the module json is .*: rename that file"),
}


@pytest.mark.parametrize("module", REFUSED)
def test_a_function_that_cannot_be_called_is_refused_with_the_cause(tmp_path: Path, module: str) -> None:
    source, cause = REFUSED[module]
    (tmp_path / f"{module}.py").write_text(source + "\n")
    cause = cause if "\\" in cause or ".*" in cause else cause.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ScopeError, match=rf"task\.verifier\.function='{module}:compute_score'.*{cause}"):
        make_task(task_of(tmp_path, f"{module}:compute_score"))


def test_files_with_names_of_python_modules_beside_the_function_hide_nothing(tmp_path: Path) -> None:
    for name in ("types", "logging", "pickle", "numpy", "trainer", "helper"):
        (tmp_path / f"{name}.py").write_text("WORTH = 1\n")
    source = GOOD.replace("return 1", "return numpy.float32(helper.WORTH)")
    (tmp_path / "among_namesakes.py").write_text(f"import logging, numpy, helper\n{source}\n")
    config = task_of(tmp_path, "among_namesakes:compute_score")
    task = make_task(config)
    assert task.verify(task.train_problem(0), "?").reward == 1.0


def test_a_slow_import_does_not_count_as_the_time_of_an_answer(tmp_path: Path) -> None:
    (tmp_path / "slow_reward.py").write_text(f"import time\ntime.sleep(3)\n{GOOD}\n")
    config = task_of(tmp_path, "slow_reward:compute_score", timeout_seconds=1.0)
    task = make_task(config)
    assert Verification(task, config).verify(task.train_problem(0), "?").reward == 1.0


def test_callables_of_other_kinds_are_called(tmp_path: Path) -> None:
    (tmp_path / "partial_reward.py").write_text(
        "import functools\n"
        "def score(solution_str, ground_truth, weight, **others): return weight * (solution_str == ground_truth)\n"
        "compute_score = functools.partial(score, weight=0.5)\n"
    )
    config = task_of(tmp_path, "partial_reward:compute_score")
    task = make_task(config)
    problem = task.train_problem(0)
    assert task.verify(problem, problem.data["answer"]).reward == 0.5
