"""Comparisons that run: units of the full system and in one process that finish, are interrupted or fail."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from services.compare import full_system
from services.compare.in_process import Request, main, run_unit
from services.compare.plan import Plan, make_plan
from services.compare.pool import Job, Pool
from services.compare.results import EvaluationPoint, StepPoint, read_result, write_result
from services.compare.run import StartInProcess, compare, differences, start_in_process
from services.compare.unit_saves import STEPS_FILE, Made, UnitSaves
from services.driver.progress import Progress
from services.host.children import ChildProcess
from services.records.sinks import JsonLines
from services.results.evaluations import Evaluations
from services.run.directory import RunDirectory, write_format
from tests.support.generation.tiny import tiny_config
from tests.support.repository import QUICKSTART
from tests.support.step_records import record
from trainer.config.load import config_hash, dump_yaml
from trainer.errors import ScopeError
from trainer.in_process.run import InProcessRun


def full_plan(tmp_path: Path, steps: int = 8) -> tuple[Plan, Path]:
    """A full-system comparison of one unit, and its run directory."""
    settings = ["control_plane.enabled=false", "ray.dashboard=false", f"steps={steps}"]
    plan = make_plan(QUICKSTART, ["scope"], seeds=1, out=tmp_path / "out", settings=settings, samples=16)
    (unit,) = plan.units
    path = full_system.run_directory(plan, unit)
    path.mkdir(parents=True)
    directory = RunDirectory(path, unit.name, unit.config, resumed=False)
    (path / "config.yaml").write_text(dump_yaml(directory.config))
    write_format(path)
    sink = JsonLines(path / "steps.jsonl")
    for step in range(8):
        sink.write(record(step, generated_tokens=50, entropy=math.nan if step == 2 else 0.4))
    sink.close()
    evaluations = Evaluations(path / "evaluations.json")
    for step, right in ((0, 4), (8, 8)):
        evaluations.add(step, [right] * 10, unit.config.evaluation)
    return plan, path


def test_a_finished_run_of_the_full_system_becomes_a_result(tmp_path: Path) -> None:
    plan, path = full_plan(tmp_path)
    assert path == tmp_path / "out" / "runs" / "scope-s1"
    assert plan.units[0].config.runs_dir == str(path.parent)
    assert compare(plan, Progress(io.StringIO()), arguments=["compare"]) == 0
    result = read_result(tmp_path / "out" / "units" / "scope-s1")
    assert (result.source, result.config_hash) == ("full system", config_hash(plan.units[0].config))
    assert (result.train_seconds, result.evaluation_seconds) == (16.0, None)
    assert sum(s.generated_tokens for s in result.steps) == 400
    assert (result.steps[2].entropy, result.steps[3].entropy) == (None, 0.4)
    document = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert document["controls"]["scope"]["pass"]["1"]["change"]["mean"] == pytest.approx(0.25)


def test_an_unfinished_run_of_the_full_system_is_continued_and_a_changed_one_refused(tmp_path: Path) -> None:
    plan, path = full_plan(tmp_path, steps=9)
    (unit,) = plan.units
    assert not full_system.is_complete(plan, unit)
    assert full_system.command(plan, unit, tmp_path)[-2:] == ["--resume", str(path)]
    with pytest.raises(ScopeError, match="8 of 9 step records"):
        full_system.collect(plan, unit)
    (path / "config.yaml").write_text(dump_yaml(unit.config.model_copy(update={"steps": 10})))
    with pytest.raises(ScopeError, match="another configuration"):
        full_system.command(plan, unit, tmp_path)
    (path / "config.yaml").unlink()
    assert full_system.command(plan, unit, tmp_path)[-3:] == [
        str(tmp_path / "config.yaml"),
        "--run-id",
        "scope-s1",
    ]


class Ended:
    """A process that has exited."""

    def __init__(self, status: int) -> None:
        self.status = status

    def poll(self) -> int:
        return self.status

    def wait(self) -> int:
        return self.status

    def send_signal(self, sig: int) -> None:
        raise AssertionError("it has ended")

    def kill(self) -> None:
        raise AssertionError("it has ended")


def test_a_unit_that_fails_is_named_with_its_last_words_and_starts_no_other(tmp_path: Path) -> None:
    begun: list[str] = []

    def job(name: str, status: int) -> Job:
        log = tmp_path / f"{name}.log"

        def begin() -> ChildProcess:
            begun.append(name)
            log.write_text("first\nscope: the disk is full\n")
            return Ended(status)

        return Job(name, 3, begin, tmp_path / "absent.jsonl", log, lambda: None)

    out = io.StringIO()
    pool = Pool([job("a-s1", 0), job("b-s1", 2), job("c-s1", 0)], 1, Progress(out), done=1)
    with pytest.raises(ScopeError, match="b-s1 failed: exit status 2: scope: the disk is full"):
        pool.run()
    assert begun == ["a-s1", "b-s1"]
    assert "a-s1: finished; 2 of 4 units" in out.getvalue()


def test_units_in_one_process_are_the_same_whatever_the_queue_is_configured_to() -> None:
    there = {"steps": 4, "pipeline.max_deliveries": 5, "pipeline.max_staleness": 1, "runs_dir": "a"}
    here = {"steps": 4, "pipeline.max_deliveries": 3, "pipeline.max_staleness": 2, "runs_dir": "b"}
    assert differences(there, here, in_process=True) == ["pipeline.max_staleness"]
    assert differences(there, here, in_process=False) == ["pipeline.max_deliveries", "pipeline.max_staleness"]
    assert differences({"steps": 4}, {"steps": 5}, in_process=True) == ["steps"]


def test_an_interrupt_stops_what_runs_and_is_passed_on(tmp_path: Path) -> None:
    processes = []

    def begin() -> ChildProcess:
        processes.append(subprocess.Popen(["sleep", "60"]))
        if len(processes) == 2:
            raise KeyboardInterrupt
        return processes[-1]

    jobs = [Job(f"u{i}", 3, begin, tmp_path / "absent", tmp_path / "log", lambda: None) for i in range(2)]
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        Pool(jobs, 2, Progress(out), done=0).run()
    assert processes[0].poll() is not None
    assert "stopping u0" in out.getvalue()
    processes[1].kill()
    processes[1].wait()


@pytest.fixture
def tiny_file(tmp_path: Path, tiny_model_dir: Path) -> Path:
    """A configuration file for tiny runs."""
    config = tiny_config(
        model={"path": str(tiny_model_dir)},
        rollout={"prompts_per_step": 3},
        evaluation={"samples": 4, "ks": [1]},
    )
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_yaml(config))
    return path


def test_a_real_comparison_skips_what_is_finished_and_refuses_what_has_changed(
    tmp_path: Path, tiny_file: Path
) -> None:
    begun: list[str] = []

    def start_here(request: Path, log: Path) -> ChildProcess:
        begun.append(request.parent.name)
        if request.parent.name == "hot-s2":
            return start_in_process(request, log)
        # In this process, which saves three Python starts.
        run_unit(request)
        return Ended(0)

    def run(*settings: str, seeds: int = 2) -> tuple[int, str]:
        plan = make_plan(
            tiny_file,
            ["grpo,hot@scope:entropy_control.target=0.9"],
            seeds=seeds,
            settings=["steps=3", *settings],
            out=tmp_path / "out",
            in_process=True,
            evaluate_every=2,
        )
        out = io.StringIO()
        return compare(
            plan, Progress(out), arguments=["compare", str(tiny_file)], start_unit=start_here
        ), out.getvalue()

    status, _ = run(seeds=1)
    assert (status, begun) == (0, ["grpo-s1", "hot-s1"])
    first = (tmp_path / "out" / "units" / "grpo-s1" / "result.json").read_bytes()
    (tmp_path / "out" / "units" / "hot-s1" / "result.json").unlink()
    status, said = run()
    assert (status, begun[2:]) == (0, ["hot-s1", "grpo-s2", "hot-s2"])
    assert "4 units (in-process), 1 of them finished" in said
    assert (tmp_path / "out" / "units" / "grpo-s1" / "result.json").read_bytes() == first
    with pytest.raises(
        ScopeError, match=r"grpo-s1 was made with another configuration: steps = 3 there, 4 now"
    ):
        run("steps=4")
    result = read_result(tmp_path / "out" / "units" / "hot-s2")
    older, newer = result.config.copy(), result.config | {"field_of_tomorrow": 1}
    del older["loss"]["aggregation"]
    write_result(tmp_path / "out" / "units" / "hot-s2", msgspec.structs.replace(result, config=older))
    assert run()[0] == 0
    write_result(tmp_path / "out" / "units" / "hot-s2", msgspec.structs.replace(result, config=newer))
    with pytest.raises(ScopeError, match=r"this version does not accept.*field_of_tomorrow"):
        run()
    plain = read_result(tmp_path / "out" / "units" / "grpo-s2")
    plain.config["entropy_control"]["split_range"]["filter_steps"] = 0.5
    write_result(tmp_path / "out" / "units" / "grpo-s2", plain)
    write_result(tmp_path / "out" / "units" / "hot-s2", msgspec.structs.replace(result, config=older))
    assert run()[0] == 0
    older["entropy_control"]["split_range"]["filter_steps"] = 0.5
    write_result(tmp_path / "out" / "units" / "hot-s2", msgspec.structs.replace(result, config=older))
    with pytest.raises(ScopeError, match=r"filter_steps = 0\.5 there, None now"):
        run()
    del older["entropy_control"]["split_range"]["filter_steps"]
    del older["entropy_control"]["split_range"]["gain_memory"]
    write_result(tmp_path / "out" / "units" / "hot-s2", msgspec.structs.replace(result, config=older))
    with pytest.raises(ScopeError, match=r"gain_memory = 0\.0 there, 60\.0 now"):
        run()
    assert len(begun) == 5

    assert [(e.step, e.samples) for e in result.evaluations] == [(0, 4), (2, 4), (3, 4)]
    assert [s.entropy_target for s in result.steps] == [0.9] * 3
    assert all(s.generated_tokens > 0 and s.seconds > 0 for s in result.steps)
    document = json.loads((tmp_path / "out" / "comparison.json").read_text())
    plain, hot = document["controls"]["grpo"], document["controls"]["hot"]
    assert (plain["entropy"]["entropy_target"], hot["entropy"]["entropy_target"]["mean"]) == (None, 0.9)
    assert hot["cost"]["generated_tokens"]["mean"] > plain["cost"]["generated_tokens"]["mean"]
    assert (tmp_path / "out" / "comparison.md").read_text().count("| grpo |") >= 3


def test_an_interrupted_unit_continues_from_its_last_save_with_the_same_result(
    tmp_path: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, start_unit: StartInProcess) -> tuple[Path, str]:
        plan = make_plan(
            tiny_file,
            ["scope"],
            seeds=1,
            settings=["steps=4"],
            out=tmp_path / name,
            in_process=True,
            evaluate_every=2,
        )
        out = io.StringIO()
        assert compare(plan, Progress(out), arguments=["compare"], start_unit=start_unit) == 0
        return tmp_path / name / "units" / "scope-s1", out.getvalue()

    def whole(request: Path, log: Path) -> ChildProcess:
        run_unit(request)
        return Ended(0)

    def interrupted(request: Path, log: Path) -> ChildProcess:
        log.write_text("stopped\n")
        with monkeypatch.context() as patch:
            patch.setattr(UnitSaves, "save", save_and_stop)
            with pytest.raises(KeyboardInterrupt):
                run_unit(request, save_seconds=0)
        return Ended(2)

    def save_and_stop(saves: UnitSaves, run: InProcessRun, made: Made) -> None:
        save(saves, run, made)
        if len(made.steps) == 3:
            raise KeyboardInterrupt

    save = UnitSaves.save
    expected, _ = run("whole", whole)
    with pytest.raises(ScopeError, match="exit status 2"):
        run("stopped", interrupted)
    stopped = tmp_path / "stopped" / "units" / "scope-s1"
    with (stopped / STEPS_FILE).open("ab") as lines:
        lines.write(b"a step that was lost")
    found, said = run("stopped", whole)
    assert "scope-s1: started from step 3" in said
    assert not (found / "saved").exists()
    assert untimed(found) == untimed(expected)


def untimed(unit: Path) -> tuple[list[StepPoint], list[EvaluationPoint]]:
    """The steps and evaluations of a unit's result without their times."""
    result = read_result(unit)
    steps = [msgspec.structs.replace(point, seconds=0.0) for point in result.steps]
    return steps, [msgspec.structs.replace(point, seconds=0.0) for point in result.evaluations]


def test_a_save_of_another_configuration_is_not_continued(tmp_path: Path) -> None:
    made = Made(config={"steps": 4}, evaluate_every=2)
    made.evaluations.append(EvaluationPoint(step=0, samples=1, correct=[1], seconds=None))
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "made.json").write_bytes(msgspec.json.encode(made))
    assert UnitSaves(tmp_path, {"steps": 4}, 2).made() == made
    assert UnitSaves(tmp_path, {"steps": 5}, 2).made().evaluations == []
    assert UnitSaves(tmp_path, {"steps": 4}, 3).made().evaluations == []


def test_a_fault_of_a_unit_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    request = Request(
        control="grpo", preset="grpo", seed=1, settings=[], evaluate_every=0, parallel=1, config={"steps": 0}
    )
    path = tmp_path / "request.json"
    path.write_bytes(msgspec.json.encode(request))
    monkeypatch.setattr(sys, "argv", ["in_process", str(path)])
    assert main() == 2
    assert capsys.readouterr().err.startswith("scope: steps = 0 is not allowed")
    assert not (tmp_path / "result.json").exists()
