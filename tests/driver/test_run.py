"""The whole loop with real parts: guarantees that only a running system can show."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import httpx
import pytest
import torch
from playwright.sync_api import expect
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.access.run_secrets import RunSecrets
from services.evaluation.models import find_model
from services.records.sampled_rollouts import RolloutFilter, read_file
from services.results.evaluations import Evaluations
from services.results.export import export
from tests.chaos.subject import Subject
from tests.deployment.alerts import expressions
from tests.support.browser import chromium, needs_chromium, watched
from tests.support.page_harness import curve, last_step, shows_step
from tests.support.runs.run_harness import Run
from trainer.config.load import load_config
from trainer.errors import ScopeError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


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


def test_a_run_that_has_ended_is_still_read_with_its_last_state(canary: Run) -> None:
    run = canary.scope("status")
    assert run["metadata"]["recorded_at"] is not None
    assert (run["status"]["phase"], run["status"]["step"]) == ("finished", 5)
    assert {beat["state"] for beat in run["status"]["generators"].values()} == {"stopped"}
    assert canary.scope("queue", "stats")["counters"]["produced"] == 5 * 2 * 8


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
    with pytest.raises(ScopeError, match=r"--step=3: .* has no such checkpoint"):
        export(canary.directory, 3, tmp_path / "another")
    export(canary.directory, None, tmp_path / "end")
    assert find_model(str(tmp_path / "end")).name == "end"


def test_an_exported_model_loads_in_fresh_engines_and_in_the_learner(
    live: Subject,
) -> None:
    first = live.run.records()[0]
    assert max(first.mismatch_kl_base, first.mismatch_kl_adaptive) < 1e-5


def test_an_entropy_target_moved_over_rest_holds_from_the_step_that_is_reported(
    live: Subject,
) -> None:
    run = live.run
    answer = run.scope("entropy", "set", "0.3", "--wait")
    assert answer["status"]["state"] == "applied"
    assert answer["metadata"]["generation"] == 2
    first = answer["status"]["applied_from_step"]
    assert run.scope("entropy", "get")["status"]["applied_from_step"] == first
    run.wait_for("later steps", lambda: run.records()[-1].step > first, live.driver)
    records = run.records()
    assert [r.entropy_target_generation for r in records] == [1 if r.step < first else 2 for r in records]
    assert [r.entropy_target for r in records] == [0.42 if r.step < first else 0.3 for r in records]


def test_ray_serves_the_series_that_the_monitoring_asks_it_for(live: Subject) -> None:
    port = load_config(live.run.directory / "config.yaml").ray.dashboard_port
    asked = {name for expression in expressions() for name in re.findall(r"\bray_\w+", expression)}
    asked = {name for name in asked if "gpu" not in name}
    assert len(asked) >= 10

    def served() -> str:
        token = {"Authorization": f"Bearer {live.ray_token_file.read_text().strip()}"}
        found = httpx.get(f"http://127.0.0.1:{port}/api/prometheus/sd", headers=token)
        targets = found.json()[0]["targets"]
        return "\n".join(map(series_of, targets))

    def series_of(target: str) -> str:
        try:
            return httpx.get(f"http://{target}/metrics").text
        except httpx.ConnectError:
            # Ray lists its fixed ports also where another cluster of this machine has them.
            return ""

    def missing() -> set[str]:
        return asked - set(re.findall(r"^(\w+)\{", served(), re.MULTILINE))

    # Ray's processes report every ten seconds.
    live.run.wait_for(f"the series {sorted(asked)}", lambda: not missing(), live.driver)
    assert 'Name="Generator"' in served()


@needs_chromium
def test_the_page_shows_the_run_and_moves_its_target_without_a_complaint(
    live: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = live.run
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
    held = {r.step: (r.entropy_target, r.entropy_target_generation) for r in run.records()}
    assert held[first - 1] == (standing["status"]["target"], generation - 1)
    assert held[first] == (0.36, generation)
