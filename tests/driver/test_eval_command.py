"""`scope eval` from the command line to its summary, in the processes that a user gets."""

from __future__ import annotations

import json
import os
import string
import subprocess
from pathlib import Path

import pytest

from services.cli import main
from services.evaluation.results import PARTS, read_results
from services.evaluation.summary import summarize
from tests.support.generation.word_model import make_model
from tests.support.repository import ROOT
from tests.support.runs.run_harness import Run

TASKS = ("number_guess", "calculator")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), string.printable)


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_engines_answer_tasks_of_several_turns_and_the_command_sums_them_up(
    model_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ["--tasks", ",".join(TASKS), "--n", "2", "--k", "1,2", "--max-problems", "5", "--engines", "2"]
    options += ["--set", "model.max_length=512", "--set", "rollout.max_new_tokens=250"]
    done = subprocess.run(
        Run.command("eval", str(model_dir), "--out", str(out), "--json", *options),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document == json.loads((out / "evaluation.json").read_text())
    assert (document["engines"], document["resumed_after"]) == (2, 0)
    assert not (out / PARTS).exists()
    turns = 0
    for task in TASKS:
        found = read_results(out / f"{task}.jsonl")
        assert [one.index for one in found] == list(range(5))
        assert document["tasks"][task] == summarize(found, 2, [1, 2])
        for sampled in (sampled for one in found for sampled in one.responses):
            assert (sampled.finish == "length") == (sampled.verdict == "no end")
            turns = max(turns, sampled.text.count("<eos>") + 1)
    assert turns > 1, "no response has a second turn"


def test_a_task_whose_problems_do_not_fit_is_refused_before_an_engine_starts(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ["--set", "model.max_length=64", "--set", "rollout.max_new_tokens=8"]
    options = ["--tasks", "calculator", "--n", "1", "--k", "1", "--max-problems", "1", *short]
    assert main(["eval", str(model_dir), "--out", str(tmp_path / "out"), *options]) == 2
    said = capsys.readouterr().err
    assert "no problem of the task calculator can be a prompt" in said
    assert "raise model.max_length" in said
    assert not (tmp_path / "out" / "engines.log").exists()


ONCE = """
from pathlib import Path
from trainer.errors import ScopeError
from trainer.tasks.calculator import Calculator

class Once(Calculator):
    def __init__(self, config):
        super().__init__(config)
        made = Path(__file__).with_name("made")
        if made.exists():
            raise ScopeError("the task can be made once")
        made.touch()
"""


@pytest.mark.slow
def test_an_engine_that_cannot_begin_ends_the_command_with_its_reason_and_the_way_on(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "made_once.py").write_text(ONCE)
    fields = [f"task.folder={tmp_path}", "model.max_length=512", "rollout.max_new_tokens=8"]
    settings = [part for field in fields for part in ("--set", field)]
    options = ["--tasks", "made_once:Once", "--n", "1", "--k", "1", "--max-problems", "1", *settings]
    assert main(["eval", str(model_dir), "--out", str(tmp_path / "out"), *options]) == 2
    said = capsys.readouterr().err
    assert "engine 0 ended: the task can be made once" in said
    assert "Run the same command again to continue" in said
