"""Several runs laid over one another, in a real browser."""

from __future__ import annotations

import csv
import re

import pytest
from playwright.sync_api import expect

from services.access.tokens import create_token
from services.run.state import add_evaluation, update_status
from tests.support.browser import needs_chromium
from tests.support.control_plane import start_run
from tests.support.page_harness import CONTRAST, Learner, learned, until
from tests.support.step_records import record

pytestmark = needs_chromium


@pytest.fixture
def runs(redis, run) -> list[str]:
    """Three runs of different length, one with another target."""
    names = [f"{run}-{letter}" for letter in "abc"]
    for name, steps, target in zip(names, (10, 20, 30), (0.4, 0.4, 0.3), strict=True):
        start_run(redis, name, target=target)
        add_evaluation(redis, name, 0, {1: 0.2, 16: 0.9})
        learned(redis, name, steps, reward=steps / 100)
    return names


@pytest.fixture
def compared(page, server, redis, run, runs):
    """Opens the view of some runs."""

    def opened(ids: list[str], options: str = "") -> None:
        token = create_token(redis, None, f"all-{run}", "viewer")
        page.goto(f"{server}/#/compare/{','.join(ids)}{options}")
        page.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")

    return opened


def test_every_quantity_has_one_line_for_each_run(page, runs, compared):
    compared(runs)
    expect(page.get_by_role("heading", name="3 runs laid over one another")).to_be_focused()
    expect(page.locator(".view")).to_have_attribute("data-points", "60")
    reward = page.locator("figure.chart").filter(has=page.get_by_role("heading", name=re.compile("^Reward")))
    expect(reward.locator("path.main")).to_have_count(3)
    drawn = reward.locator("path.main").evaluate_all("all => all.map((one) => one.getAttribute('d'))")
    assert [path.count("L") for path in drawn] == [9, 19, 29]
    colours = reward.locator("path.main").evaluate_all(
        "all => all.map((one) => getComputedStyle(one).stroke)"
    )
    assert len(set(colours)) == 3
    expect(page.get_by_role("img", name="Reward")).to_have_attribute(
        "aria-label", re.compile(f"steps 0 to 29: {runs[0]} 0.100.*; {runs[1]} 0.200.*; {runs[2]} 0.300")
    )
    for k, value in (("1", "0.200"), ("16", "0.900")):
        expect(page.get_by_role("img", name=f"Held-out pass@{k},")).to_have_attribute(
            "aria-label", re.compile(f"{runs[2]} {value}")
        )
    table = page.get_by_role("table", name="The compared runs")
    expect(table.get_by_role("row").nth(3)).to_contain_text("30 / 160")
    differences = page.get_by_role("table", name="Configuration fields in which the runs differ")
    expect(differences.get_by_role("row").nth(1)).to_have_text(
        re.compile(r"entropy_control\.target\s*0\.4\s*0\.4\s*0\.3")
    )

    page.get_by_label(f"Show {runs[2]}").uncheck()
    expect(page.locator(".view")).to_have_attribute("data-points", "30")
    expect(page.get_by_role("img", name="Reward")).to_have_attribute(
        "aria-label", re.compile("steps 0 to 19")
    )
    page.get_by_role("link", name=runs[1]).click()
    expect(page.get_by_role("heading", name=runs[1])).to_be_focused()


def test_a_run_that_cannot_be_read_is_named_and_the_others_are_shown(page, runs, compared, expected):
    expected.append("404")
    compared([runs[0], "no-such-run"])
    expect(page.get_by_role("row").filter(has_text="no-such-run")).to_contain_text("has not started")
    expect(page.locator(".view")).to_have_attribute("data-points", "10")


def test_curves_that_could_not_be_read_at_first_are_read_again(page, runs, compared, expected):
    expected.append("503")
    problem = '{"detail": "Redis does not answer.", "status": 503}'
    failing = {"status": 503, "content_type": "application/problem+json", "body": problem}
    page.route("**/metrics?*", lambda route: route.fulfill(**failing), times=2)
    compared(runs[:2])
    expect(page.locator(".view")).to_have_attribute("data-points", "30")
    expect(page.get_by_role("img", name="Reward")).to_have_attribute(
        "aria-label", re.compile(f"{runs[1]} 0.200")
    )


def test_more_runs_than_have_a_colour_are_cut_and_this_is_said(page, redis, runs, compared, expected):
    expected.append("404")
    compared([*runs, *(f"more-{number}" for number in range(7))])
    expect(page.locator(".failure").first).to_have_text("The address names 10 runs; the first 8 are shown.")
    expect(page.get_by_role("table", name="The compared runs").get_by_role("row")).to_have_count(9)


def test_runs_that_go_on_grow_on_the_same_time_axis(page, redis, redis_access, runs, compared):
    compared(runs[:2], "?x=elapsed&smooth=10")
    expect(page.locator(".view")).to_have_attribute("data-points", "30")
    expect(page.locator(".chart.large .grid .step").first).to_have_text("0 s")
    with Learner(redis_access, runs[1], first=20, pace=0.05):
        until(lambda: int(page.locator(".view").get_attribute("data-points") or 0) > 35)
    expect(page.get_by_role("row").filter(has_text=runs[1])).not_to_contain_text("20 / 160")


def test_a_zoomed_comparison_is_downloaded_with_the_name_of_each_run(page, redis, runs, compared, tmp_path):
    compared(runs, "?from=5&to=12")
    expect(page.locator(".view")).to_have_attribute("data-points", re.compile(r"^2\d$"))
    with page.expect_download() as started:
        page.get_by_role("button", name="Download Reward as CSV").click()
    started.value.save_as(tmp_path / "reward.csv")
    with (tmp_path / "reward.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    steps = {name: [int(row["step"]) for row in rows if row["run"] == name] for name in runs}
    assert steps == {runs[0]: list(range(5, 10)), runs[1]: list(range(5, 13)), runs[2]: list(range(5, 13))}
    assert list(rows[0]) == ["run", "step", "at", "reward"]
    assert float(rows[0]["reward"]) == pytest.approx(record(5).reward)


def test_seeds_become_one_line_with_their_range(page, redis, runs, compared):
    compared(runs)
    expect(page.locator(".view")).to_have_attribute("data-points", "60")
    page.get_by_label("Seeds as one line", exact=True).check()
    expect(page).to_have_url(re.compile("seeds=mean$"))
    reward = page.locator("figure.chart").filter(has=page.get_by_role("heading", name=re.compile("^Reward")))
    expect(reward.locator("path.main")).to_have_count(2)
    expect(reward.locator(".legend li").first).to_have_attribute("title", f"{runs[0]} and 1 more")
    expect(reward.locator(".shades path").first).to_have_attribute("d", re.compile("^M.*Z$"))
    expect(reward.locator(".shades path").last).to_have_attribute("d", "")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_comparison_fits_a_narrow_screen_and_is_readable(page, redis, runs, compared, scheme):
    update_status(redis, runs[0], phase="failed", error="out of memory")
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme=scheme)
    compared(runs)
    expect(page.locator(".view")).to_have_attribute("data-points", "60")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(CONTRAST) == []
