"""`scope eval`: its plan, statistics and files, and one engine's share on a real engine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli import main
from services.driver.progress import Progress
from services.evaluation import worker
from services.evaluation.models import find_model
from services.evaluation.plan import EvaluationPlan, make_plan
from services.evaluation.results import PARTS, ProblemResult, Response, ResultsFolder, read_results
from services.evaluation.run import evaluate
from services.evaluation.summary import majority, summarize
from services.evaluation.worker import ProblemQueue, WorkerSpec
from services.host.children import start_child
from tests.support.generation.rally import REPLY, TURNS
from tests.support.generation.tiny import LearnerView
from trainer.config.load import dump_yaml, validate_config
from trainer.errors import ScopeError
from trainer.tasks import TaskWithAnswers, make_task
from trainer.tasks.answers.judge import final_answer


def response(answer: str | None, *, right: bool, tokens: int = 3) -> Response:
    reward = float(right)
    return Response(
        text=answer or "", tokens=tokens, finish="stop", reward=reward, verdict="v", answer=answer
    )


def result(index: int, responses: list[Response]) -> ProblemResult:
    return ProblemResult(
        task="countdown", index=index, problem_id=str(index), prompt="p", responses=responses
    )


def test_the_majority_is_of_answers_and_ties_share():
    right, wrong, none = response("a", right=True), response("b", right=False), response(None, right=False)
    assert majority([right, right, wrong]) == 1.0
    assert majority([right, wrong, wrong]) == 0.0
    assert majority([right, wrong]) == 0.5
    assert majority([none, none, none, right]) == 1.0
    assert majority([none]) == 0.0


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=6))
def test_pass_at_1_is_the_average_and_pass_at_n_whether_there_is_a_right_one(problems):
    results = [result(i, [response(str(r), right=r) for r in row]) for i, row in enumerate(problems)]
    figures = summarize(results, 4, [1, 4])
    assert figures["pass@1"]["mean"] == pytest.approx(figures["avg@4"]["mean"])
    assert figures["pass@4"]["mean"] == pytest.approx(sum(map(any, problems)) / len(problems))
    for name in ("pass@1", "pass@4", "maj@4"):
        assert figures[name]["low95"] <= figures[name]["mean"] + 1e-12
        assert figures[name]["mean"] <= figures[name]["high95"] + 1e-12


def test_a_majority_is_left_out_where_no_response_has_an_answer():
    assert "maj@1" not in summarize([result(0, [response(None, right=True)])], 1, [1])


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("countdown", "(1+2)*3", "(1+2)*3"),
        ("countdown", "1+", None),
        ("countdown_cot", "so answer 1 + 2 answer ( 1 + 2 ) * 3", "( 1 + 2 ) * 3"),
        ("countdown_cot", "no end", None),
    ],
)
def test_a_task_says_what_a_response_answers(name, text, answer):
    config = validate_config({"task": {"name": name, "max_number": 6, "max_target": 40, "heldout": 32}}).task
    task = make_task(config)
    assert isinstance(task, TaskWithAnswers)
    assert task.final_answer(task.heldout_problem(0), text) == answer


def test_mathematical_answers_that_are_written_alike_are_the_same():
    assert final_answer(r"\boxed{1} so \boxed{ \frac{1}{2} }") == final_answer(r"\boxed{\frac{1} {2}}")
    assert final_answer(r"\boxed{\text{Even}}") == final_answer(r"\boxed{even}") == "even"
    assert final_answer("1/2") is None
    assert final_answer(r"\boxed{}") is None


def plan_of(model: Path, **changed) -> EvaluationPlan:
    arguments = {
        "names": ["countdown"],
        "configs": [],
        "overrides": ["task.max_number=6", "task.max_target=40", "task.heldout=32"],
        "samples": 4,
        "ks": [1, 4],
        "temperature": 1.0,
        "top_p": 1.0,
        "max_problems": 6,
        "seed": 0,
    }
    return make_plan(find_model(str(model)), **(arguments | changed))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"ks": [8]}, "--k=8 is not allowed: from 1 to --n=4"),
        ({"samples": 0, "ks": [1]}, "--n=0"),
        ({"temperature": 0.0}, "greedy"),
        ({"temperature": 2.5}, "--temperature=2.5"),
        ({"top_p": 0.0}, "--top-p=0.0"),
        ({"max_problems": 0}, "--max-problems=0"),
        ({"names": []}, "needs --tasks"),
        ({"names": ["countdown", "countdown"]}, "not all different"),
    ],
)
def test_what_is_not_allowed_is_named_before_an_engine_starts(tiny_model_dir, changed, words):
    with pytest.raises(ScopeError, match=words):
        plan_of(tiny_model_dir, **changed)


def test_a_model_is_found_by_directory_by_run_and_by_id(tiny_model_dir, tmp_path):
    run = tmp_path / "mine"
    run.mkdir()
    (run / "config.yaml").write_text(dump_yaml(validate_config({"task": {"name": "countdown_cot"}})))
    with pytest.raises(ScopeError, match="has no model/ yet"):
        find_model("mine", tmp_path)
    (run / "model").symlink_to(tiny_model_dir)
    model = find_model("mine", tmp_path)
    assert (model.name, model.run) == ("mine", run)
    assert [task.label for task in plan_of(run, names=[]).tasks] == ["countdown_cot"]
    with pytest.raises(ScopeError, match="is not a model"):
        find_model("another", tmp_path)


def test_an_evaluation_goes_on_and_refuses_another_configuration(tiny_model_dir, tmp_path):
    plan = plan_of(tiny_model_dir)
    folder = ResultsFolder(tmp_path / "out", plan)
    part = folder.new_part(0)
    whole = msgspec.json.encode(result(2, [response("a", right=True)]))
    part.write_bytes(whole + b"\n" + whole[:20])
    again = ResultsFolder(tmp_path / "out", plan)
    assert [index for _, index in again.results()] == [2]
    assert again.new_part(0) != part
    with pytest.raises(ScopeError, match=r"another temperature \(1.0, now 0.7\)"):
        ResultsFolder(tmp_path / "out", plan_of(tiny_model_dir, temperature=0.7))
    again.settle(plan)
    assert not (tmp_path / "out" / PARTS).exists()
    assert list(ResultsFolder(tmp_path / "out", plan).results()) == [("countdown", 2)]
    with pytest.raises(ScopeError, match="holds no evaluation"):
        ResultsFolder(tiny_model_dir, plan)


@pytest.mark.engine
def test_an_engine_answers_its_share_and_the_command_sums_it_up(engines, tiny_model_dir, tmp_path, capsys):
    plan = plan_of(tiny_model_dir)
    out = tmp_path / "out"
    part = ResultsFolder(out, plan).new_part(0)
    engine = engines.reset("base", LearnerView(tiny_model_dir))
    problems = ProblemQueue(WorkerSpec(plan, {"countdown": list(range(6))}, str(part), 1))
    engines.run("base", problems.run(engine))
    found = read_results(part)
    assert sorted(r.index for r in found) == list(range(6))
    task = plan.tasks[0].make()
    for one in found:
        problem = task.heldout_problem(one.index)
        assert one.prompt == problem.prompt
        assert len(one.responses) == 4
        for sampled in one.responses:
            if sampled.finish == "stop":
                assert task.verify(problem, sampled.text).reward == sampled.reward
    # Nothing is left to sample, so no engine starts.
    options = ["--tasks", "countdown", "--n", "4", "--k", "1,4", "--temperature", "1", "--max-problems", "6"]
    for override in ("task.max_number=6", "task.max_target=40", "task.heldout=32"):
        options += ["--set", override]
    assert main(["eval", str(tiny_model_dir), *options, "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["resumed_after"] == 6
    right = sum(r.correct for r in found)
    assert document["tasks"]["countdown"]["avg@4"]["mean"] == pytest.approx(right / 24)
    assert json.loads((out / "evaluation.json").read_text()) == document
    assert len((out / "countdown.jsonl").read_text().splitlines()) == 6


@pytest.mark.engine
def test_a_task_of_several_turns_is_answered_in_turns(engines, tiny_model_dir, tmp_path):
    plan = plan_of(tiny_model_dir, names=["tests.support.generation.rally:Rally"])
    (task,) = plan.tasks
    part = ResultsFolder(tmp_path / "out", plan).new_part(0)
    engine = engines.reset("base", LearnerView(tiny_model_dir))
    engines.run(
        "base", ProblemQueue(WorkerSpec(plan, {task.label: list(range(6))}, str(part), 1)).run(engine)
    )
    found = [sampled for one in read_results(part) for sampled in one.responses]
    assert len(found) == 24
    assert {sampled.verdict for sampled in found} <= {"different", "same", "no end"}
    ended = [sampled for sampled in found if sampled.finish == "stop"]
    assert ended
    for sampled in ended:
        turns = sampled.text.split("<eos>" + REPLY)
        assert len(turns) == TURNS
        assert sampled.reward == float(len(set(turns)) == TURNS)
        assert sampled.tokens == sum(len(turn) + 1 for turn in turns)
        assert sampled.answer in (None, turns[-1])


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ScopeError("the prompt is too long"), 2, "scope: the prompt is too long"),
        (ExceptionGroup("tasks", [ValueError("x"), ScopeError("no end token")]), 2, "scope: no end token"),
        (ValueError("temperature must be in [0, 2]"), 1, "scope: ValueError: temperature must be in [0, 2]"),
        (ExceptionGroup("tasks", [ExceptionGroup("inner", [KeyError("k")])]), 1, "scope: KeyError: 'k'"),
        (RuntimeError("two\nlines"), 1, r"scope: RuntimeError: two\nlines"),
    ],
)
def test_an_engine_that_fails_says_why_in_its_last_line(
    tiny_model_dir, tmp_path, monkeypatch, capsys, error, status, said
):
    async def fail(spec: WorkerSpec) -> None:
        raise error

    (tmp_path / "spec").write_bytes(msgspec.json.encode(WorkerSpec(plan_of(tiny_model_dir), {}, "part", 1)))
    monkeypatch.setattr(worker, "work", fail)
    monkeypatch.setattr("sys.argv", ["worker", str(tmp_path / "spec")])
    assert worker.main() == status
    assert capsys.readouterr().err.splitlines()[-1] == said


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo 'scope: ValueError: too hot'; echo 'Exception ignored in: <function __del__>'; exit 1",
            "ValueError: too hot",
        ),
        ("echo 'scope: the disk is full'; echo noise; exit 2", "the disk is full"),
        ("echo noise; kill -9 $$", "SIGKILL killed it, perhaps for lack of memory"),
        ("kill -SEGV $$", "SIGSEGV killed it"),
        ("echo noise; exit 3", "it said nothing of why (status 3)"),
    ],
)
def test_what_a_library_writes_at_its_end_does_not_hide_the_reason(
    tiny_model_dir, tmp_path, monkeypatch, script, said
):
    def start(command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        return start_child(["/bin/sh", "-c", script], log, environment)

    monkeypatch.setattr("services.evaluation.run.start_child", start)
    with pytest.raises(ScopeError) as caught:
        evaluate(plan_of(tiny_model_dir), tmp_path / "out", engines=1, progress=Progress())
    assert f"engine 0 ended: {said} (log: {tmp_path / 'out' / 'engines.log'})" in str(caught.value)
