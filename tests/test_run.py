"""The whole loop with every part real: the promises that only a running system can show."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import expect
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.evaluation.models import find_model
from services.export import export
from services.ledger import read_history, surviving
from services.report import Evaluations
from services.rollouts import RolloutFilter, read_file
from services.run_secrets import RunSecrets
from tests.browser import chromium, needs_chromium, watched
from tests.chaos.processes import processes
from tests.page_harness import curve, last_step, shows_step
from tests.ports import free_ports
from tests.run_harness import Run, interrupt, left_running, new_run
from trainer.errors import ScopeError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of this module live."""
    return tmp_path_factory.mktemp("end-to-end") / "runs"


@pytest.fixture(scope="module")
def canary(folder: Path) -> Run:
    """Five steps at learning rate 0, base temperature 0.7, two ZeRO-2 ranks, weights sent after every step."""
    run = new_run(
        folder,
        "canary",
        [
            "steps=5",
            "optimizer.learning_rate=0",
            "rollout.base_temperature=0.7",
            "learner.workers=2",
            "learner.zero_stage=2",
            "entropy_control.kind=paper",
            "evaluation.every_steps=2",
            "rollout_samples.per_step=2",
            "control_plane.enabled=false",
            "ray.dashboard=false",
        ],
    )
    process = run.start()
    assert process.wait(840) == 0, run.log
    assert not left_running(run)
    return run


def test_at_learning_rate_zero_every_importance_ratio_stays_one(canary: Run) -> None:
    records = canary.records()
    assert [r.step for r in records] == [0, 1, 2, 3, 4]
    loads = [r.weight_load_seconds is not None for r in records]
    assert all(a or b for a, b in itertools.pairwise(loads[1:])), "a version was not loaded within its bound"
    for record in records:
        assert record.ratio_deviation_base < 1e-3
        assert record.ratio_deviation_adaptive < 1e-3
        assert record.mismatch_kl_base < 1e-5
        assert record.mismatch_kl_adaptive < 1e-5


def test_two_zero_2_ranks_hold_half_of_the_optimizer_state_each(canary: Run) -> None:
    held = canary.json("learner.json")["optimizer_bytes_by_rank"]
    parameters = sum(
        p.numel() for p in AutoModelForCausalLM.from_pretrained(canary.directory / "model").parameters()
    )
    assert len(held) == 2
    assert held[0] == pytest.approx(held[1], rel=0.01)
    assert sum(held) == pytest.approx(2 * 4 * parameters, rel=0.01)


def test_a_run_at_learning_rate_zero_ends_with_the_model_it_began_with(canary: Run) -> None:
    start = AutoModelForCausalLM.from_pretrained(canary.json("warm_start.json")["path"]).state_dict()
    end = AutoModelForCausalLM.from_pretrained(canary.directory / "model").state_dict()
    assert start.keys() == end.keys()
    assert all(torch.equal(start[name], end[name]) for name in start)
    assert AutoTokenizer.from_pretrained(canary.directory / "model").eos_token_id is not None


def test_the_report_counts_every_group_once(canary: Run) -> None:
    report = canary.json("report.json")
    assert report["steps"] == 5
    assert report["queue"]["consumed"] == 5 * 2 * 8
    assert report["queue"]["produced"] == report["queue"]["consumed"]
    assert report["queue"]["dead_lettered"] == 0
    assert sum(report["staleness"].values()) == 5 * 2 * 8 * 4
    assert set(report["staleness"]) <= {"0", "1"}
    assert report["evaluation"]["end"]["step"] == 5
    assert (canary.directory / "report.png").stat().st_size > 20_000


def test_evaluations_on_the_way_are_complete_or_said_not_to_be_and_rollouts_are_kept(canary: Run) -> None:
    evaluated = Evaluations(canary.directory / "evaluations.json")
    steps = {e.step for e in [*evaluated.all, *evaluated.incomplete]}
    assert {0, 5} < steps
    assert all(len(e.correct) + e.missing == 16 for e in [*evaluated.all, *evaluated.incomplete])
    kept = read_file(canary.directory, RolloutFilter(), 100)
    assert [rollout.step for rollout in kept] == [4, 4, 3, 3, 2, 2, 1, 1, 0, 0]
    assert all(len(rollout.tokens) == len(rollout.logprobs) for rollout in kept)


def test_an_exported_checkpoint_loads_and_is_the_model_that_was_trained(canary: Run, tmp_path: Path) -> None:
    exported = export(canary.directory, 5, tmp_path / "exported")
    assert exported.step == 5
    end = AutoModelForCausalLM.from_pretrained(canary.directory / "model").state_dict()
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "exported").state_dict()
    assert found.keys() == end.keys()
    assert all(torch.equal(found[name], end[name]) for name in end)
    assert AutoTokenizer.from_pretrained(tmp_path / "exported").eos_token_id is not None
    card = (tmp_path / "exported" / "README.md").read_text()
    assert "| after step | problems | samples | pass@1 | pass@4 |" in card
    assert f"{canary.records()[0].entropy:.4f}" in card
    assert (tmp_path / "exported" / "training.png").stat().st_size > 20_000
    with pytest.raises(ScopeError, match="is not empty"):
        export(canary.directory, None, tmp_path / "exported")
    with pytest.raises(ScopeError, match="--step=3 is no checkpoint"):
        export(canary.directory, 3, tmp_path / "another")
    export(canary.directory, None, tmp_path / "end")
    assert find_model(str(tmp_path / "end")).name == "end"


@pytest.fixture(scope="module")
def live(folder: Path, canary: Run) -> Iterator[tuple[Run, subprocess.Popen[str]]]:
    """A controlled run that is under way; it begins with the canary's last checkpoint, exported."""
    exported = folder.parent / "exported"
    export(canary.directory, 5, exported)
    control_plane, dashboard = free_ports(2)
    run = new_run(
        folder,
        "live",
        [
            "steps=5000",
            f"model.path={exported}",
            "task.name=tests.slow_countdown:SlowCountdown",
            "pipeline.lease_seconds=4",
            "weights.timeout_seconds=10",  # less than an engine takes to start again
            "checkpoint.every_steps=5",
            "rollout.max_new_tokens=40",
            f"control_plane.port={control_plane}",
            f"ray.dashboard_port={dashboard}",
        ],
    )
    process = run.start()
    run.wait_for("first steps", lambda: len(run.records()) >= 3, process)
    yield run, process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def test_an_exported_model_loads_in_fresh_engines_and_in_the_learner(
    live: tuple[Run, subprocess.Popen[str]],
) -> None:
    first = live[0].records()[0]
    assert max(first.mismatch_kl_base, first.mismatch_kl_adaptive) < 1e-5


def test_a_set_point_moved_over_rest_holds_from_the_step_that_is_reported(
    live: tuple[Run, subprocess.Popen[str]],
) -> None:
    run, process = live
    answer = run.scope("entropy", "set", "0.3", "--wait")
    assert answer["status"]["state"] == "applied"
    assert answer["metadata"]["generation"] == 2
    first = answer["status"]["applied_from_step"]
    assert run.scope("entropy", "get")["status"]["applied_from_step"] == first
    run.wait_for("later steps", lambda: run.records()[-1].step > first, process)
    records = run.records()
    assert [r.set_point_generation for r in records] == [1 if r.step < first else 2 for r in records]
    assert [r.set_point for r in records] == [0.42 if r.step < first else 0.3 for r in records]


@needs_chromium
def test_the_page_shows_the_run_and_moves_its_target_without_a_complaint(
    live: tuple[Run, subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = live
    standing = run.scope("entropy", "get")
    generation = standing["metadata"]["generation"] + 1
    monkeypatch.setenv("XDG_STATE_HOME", run.environment["XDG_STATE_HOME"])
    url = run.json("endpoint.json")["url"]
    with chromium() as browser, watched(browser) as page:
        page.goto(f"{url}/#/runs/{run.directory.name}")
        page.get_by_label("Token").fill(RunSecrets(run.directory).token())
        page.get_by_role("button", name="Sign in").click()
        shows_step(page, 3)
        before = curve(page)
        shows_step(page, last_step(page) + 3)
        assert curve(page) != before
        for name in ("base-generator-0", "adaptive-generator-0"):
            expect(page.get_by_role("row").filter(has_text=name)).to_be_visible()
        page.get_by_label("New target").fill("0.36")
        page.get_by_role("button", name="Set the target…").click()
        page.get_by_role("dialog").get_by_role("button", name="Set the target").click()
        message = page.locator("#target-message")
        expect(message).to_have_text(
            re.compile(rf"^in force from learner step \d+ \(generation {generation}\)$")
        )
        first = int(re.findall(r"\d+", message.inner_text())[0])
        page.reload()
        shows_step(page, first + 1)
        expect(page.locator(".target-control .state")).to_contain_text(f"generation {generation}")
        page.screenshot(path=run.directory / "page.png", full_page=True)
    held = {r.step: (r.set_point, r.set_point_generation) for r in run.records()}
    assert held[first - 1] == (standing["status"]["target"], generation - 1)
    assert held[first] == (0.36, generation)


def test_a_killed_adaptive_generator_is_seen_in_the_step_records_and_comes_back(
    live: tuple[Run, subprocess.Popen[str]],
) -> None:
    run, process = live
    before = run.scope("status")["status"]["generators"]["adaptive-generator-0"]
    os.kill(before["process_id"], signal.SIGKILL)
    run.wait_for("a restart", lambda: any(r.generator_restarts for r in run.records()), process)
    killed = next(r for r in run.records() if r.generators_alive["adaptive"] == 0)
    assert any("adaptive" in alarm for alarm in killed.alarms)
    after = run.scope("status")["status"]["generators"]["adaptive-generator-0"]
    assert after["restarts"] == 1
    assert after["process_id"] != before["process_id"]
    assert "adaptive-generator-0 ended and is restarted" in run.log


def test_a_killed_learner_goes_on_from_its_checkpoint_under_a_new_lineage(
    live: tuple[Run, subprocess.Popen[str]],
) -> None:
    run, process = live
    target = run.scope("entropy", "get")["spec"]["target"]
    run.wait_for("a checkpoint", lambda: list((run.directory / "checkpoints").glob("step-*")), process)
    (rank,) = processes(process.pid, "learner")
    os.kill(rank, signal.SIGKILL)
    run.wait_for("steps of the next learner", lambda: run.records()[-1].lineage == 2, process)
    assert "the learner ended and is restarted (1 of 3) from step" in run.log
    assert "the process of rank 0 died" in run.log
    records = run.records()
    assert [r.step for r in records] == list(range(len(records)))
    assert records[-1].learner_restarts == 1
    begun = next(r for r in records if r.lineage == 2)
    assert begun.step % 5 == 0, "it did not begin at a checkpoint"
    assert begun.set_point == target
    kept = surviving(read_history(run.directory))
    groups = [group for event in kept for group in event.groups]
    assert len(groups) == len(set(groups)) >= len(records) * 2 * 8


def test_ctrl_c_stops_in_order_and_resume_goes_on_where_it_stopped(
    live: tuple[Run, subprocess.Popen[str]],
) -> None:
    run, process = live
    target = run.scope("entropy", "get")["spec"]["target"]
    interrupt(process)
    assert process.wait(120) == 0, run.log
    assert not left_running(run)
    done = run.json("report.json")["steps"]
    assert (run.directory / "checkpoints" / f"step-{done:08d}" / "manifest.json").exists()

    resumed = run.start(f"steps={done + 3}", resume=True)
    assert resumed.wait(400) == 0, run.log
    assert not left_running(run)
    records = run.records()
    assert [r.step for r in records] == list(range(done + 3)), "a step was lost"
    assert [r.lineage for r in records[done - 1 :]] == [2, 3, 3, 3]
    assert records[-1].set_point == target, "the live set-point did not survive the restart"
    report = run.json("report.json")
    assert report["queue"]["consumed"] == (done + 3) * 2 * 8
    assert report["evaluation"]["end"]["step"] == done + 3
    assert max(age for r in records for age in r.staleness) <= 1
