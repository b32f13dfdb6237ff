"""The charts of a run in a real browser: what is drawn, zoomed, smoothed, explained and downloaded."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Locator, Page, expect

from services.redis.keys import RunKeys
from services.run.state import add_evaluation, update_status
from tests.support.browser import needs_chromium
from tests.support.page_harness import (
    CONTRAST,
    Learner,
    curve,
    learned,
    many_steps,
    points,
    shows_step,
    sign_in,
)
from tests.support.step_records import record

pytestmark = needs_chromium


def chart(page: Page, title: str) -> Locator:
    return page.locator("figure.chart").filter(
        has=page.get_by_role("heading", name=re.compile(f"^{title}\\b"))
    )


def drag(page: Page, target: Locator, start: float, end: float) -> None:
    """Drag over a chart between two shares of its width."""
    target.scroll_into_view_if_needed()
    box = target.locator(".track").bounding_box()
    assert box is not None
    left, width, middle = box["x"] + 44, box["width"] - 56, box["y"] + box["height"] / 2
    page.mouse.move(left + start * width, middle)
    page.mouse.down()
    page.mouse.move(left + end * width, middle, steps=4)
    page.mouse.up()


def downloaded(page: Page, button: Locator, folder: Path) -> tuple[str, list[dict[str, str]]]:
    """The name and the rows of the CSV file that a button downloads."""
    with page.expect_download() as started:
        button.click()
    file = folder / started.value.suggested_filename
    started.value.save_as(file)
    with file.open(newline="") as lines:
        return file.name, list(csv.DictReader(lines))


def first_ticks(page: Page) -> set[str]:
    """The first label of the horizontal axis of every chart."""
    return set(
        page.locator("figure.chart .grid").evaluate_all(
            "all => all.map((g) => g.querySelector('.step')?.textContent)"
        )
    )


def test_the_charts_answer_questions_and_a_limit_is_beside_what_it_limits(page, server, redis, run):
    add_evaluation(redis, run, 0, {1: 0.25, 4: 0.6})
    learned(redis, run, 20, queue_unread=4000, gradient_norm=1.5, response_length=15.0)
    sign_in(page, server, redis, run)
    shows_step(page, 19)
    groups = page.locator(".group h3").all_text_contents()
    assert groups == [
        "Entropy control",
        "Reward and exploration",
        "Learner stability",
        "Response length",
        "Pipeline",
        "Throughput",
    ]
    for title, line in (
        ("Response length", "length 15.0"),
        ("Gradient norm", "norm 1.50"),
        ("Clipped tokens", "clipped 0"),
        ("Truncated responses", "truncated 0"),
        ("Learning rate", "rate 0"),
        ("Unread groups", "unread 4,000"),
    ):
        expect(chart(page, title).locator(".legend")).to_contain_text(line)
    expect(chart(page, "Gradient norm").locator(".limit text")).to_have_text("clipped above 1")
    expect(chart(page, "Response length").locator(".limit text")).to_have_text("longest allowed 16")
    unread, pending = chart(page, "Unread groups"), chart(page, "Pending groups")
    expect(unread).to_contain_text("capacity 4,096")
    expect(pending).not_to_contain_text("capacity 4,096")
    expect(pending.locator(".limit")).to_have_count(0)
    tones = [
        unread.locator(part).first.evaluate("one => getComputedStyle(one).stroke")
        for part in (".limit path", "path.main")
    ]
    assert tones[0] == tones[1], "the limit has the colour of the line that it limits"


def test_a_range_is_zoomed_in_all_charts_kept_in_the_address_and_left_again(page, server, redis, run):
    learned(redis, run, 100)
    sign_in(page, server, redis, run)
    shows_step(page, 99)
    everything = page.get_by_role("button", name="Show all")
    expect(everything).to_be_disabled()
    drag(page, chart(page, "Temperature"), 0.5, 0.75)
    expect(page).to_have_url(re.compile(r"from=49\.\d+&to=74\.\d+$"))
    expect(page.locator(".view")).to_have_attribute("data-points", re.compile("^2[5-9]$"))
    assert first_ticks(page) == {"50"}
    page.reload()
    expect(page.locator(".view")).to_have_attribute("data-points", re.compile("^2[5-9]$"))
    assert first_ticks(page) == {"50"}
    page.locator(".chart.large .track").dblclick()
    expect(page).not_to_have_url(re.compile("from="))
    expect(page.locator(".view")).to_have_attribute("data-points", "100")
    cursor = page.get_by_role("slider", name="Read out Policy entropy")
    cursor.focus()
    page.keyboard.press("Home")
    page.keyboard.press("+")
    expect(page).to_have_url(re.compile(r"from=0&to=49\.5$"))
    expect(everything).to_be_enabled()
    page.keyboard.press("0")
    expect(everything).to_be_disabled()
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Zoom out").click()
    expect(everything).to_be_disabled()


def test_a_zoomed_range_of_the_past_stays_while_the_run_goes_on(page, server, redis, redis_access, run):
    learned(redis, run, 40)
    with Learner(redis_access, run, first=40, pace=0.05):
        sign_in(page, server, redis, run, view=f"runs/{run}?from=10&to=20")
        shows_step(page, 60)
        kept, before = points(page), curve(page)
        shows_step(page, 70)
        assert (points(page), curve(page)) == (kept, before)
        assert 11 <= kept <= 13
        expect(chart(page, "Reward").locator(".legend b").first).to_have_text("0.200")


def test_a_smoothed_curve_has_the_measured_one_behind_it(page, server, redis, run):
    learned(redis, run, 60)
    sign_in(page, server, redis, run)
    shows_step(page, 59)
    reward = chart(page, "Reward")
    measured = reward.locator("g.measured path.main").get_attribute("d")
    assert reward.locator("g.measured path.raw").get_attribute("d") == ""
    page.get_by_label("Smoothing").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#smoothing-text")).to_have_text("over 20 steps")
    expect(page).to_have_url(re.compile("smooth=20$"))
    expect(reward.locator("g.measured path.raw")).to_have_attribute("d", measured or "")
    assert reward.locator("g.measured path.main").get_attribute("d") not in ("", measured)
    expect(reward.locator(".legend li").first).to_contain_text(re.compile(r"base 0\.590 ?0\.4\d\d"))
    target = page.locator(".chart.large g.target path.raw")
    assert target.first.get_attribute("d") == "", "a target is not smoothed"


def test_a_point_that_stands_for_many_steps_shows_their_range(page, server, redis, run):
    many_steps(redis, run, 2000)
    sign_in(page, server, redis, run)
    shows_step(page, 1999)
    shade = page.locator(".chart.large .shades g.measured path")
    expect(shade).to_have_attribute("d", re.compile("^M.*Z$"))
    target = page.locator(".chart.large .shades g.target path").first
    expect(target).to_have_attribute("d", re.compile("^M.*Z$"))
    page.get_by_label("Ranges").uncheck()
    expect(shade).to_have_attribute("d", "")
    expect(page).to_have_url(re.compile("range=off$"))
    page.get_by_text("Last 200").click()
    page.get_by_label("Ranges").check()
    expect(page.locator(".view")).to_have_attribute("data-points", "200")
    expect(shade).to_have_attribute("d", "")
    expect(target).to_have_attribute("d", re.compile("^M.*Z$"))


def test_the_axis_shows_time_in_which_a_pause_has_its_length(page, server, redis, run):
    sink = learned(redis, run, 50)
    for step in range(50, 60):
        sink.write(record(step, at=1e9 + step + 3600))
    update_status(redis, run, step=60)
    sign_in(page, server, redis, run)
    shows_step(page, 59)
    page.get_by_label("Axis").select_option("elapsed")
    expect(page.locator(".chart.large .grid .step").last).to_have_text("1 h")
    expect(page).to_have_url(re.compile("x=elapsed$"))
    page.get_by_role("slider", name="Read out Reward").focus()
    page.keyboard.press("End")
    expect(chart(page, "Reward").locator(".at")).to_have_text("1 h")
    page.get_by_label("Axis").select_option("tokens")
    expect(page.locator(".chart.large .grid .step").last).to_have_text("60k")
    page.get_by_label("Axis").select_option("clock")
    expect(page.locator(".chart.large .grid .step").last).to_have_text(re.compile(r"^\d\d:\d\d$"))


def test_a_download_has_every_step_shown_under_the_names_of_the_step_record(
    page, server, redis, run, tmp_path
):
    many_steps(redis, run, 4500)
    sign_in(page, server, redis, run)
    shows_step(page, 4499)
    assert points(page) <= 450
    csv_of = page.get_by_role("button", name="Download Learning rate as CSV")
    name, rows = downloaded(page, csv_of, tmp_path)
    assert name == f"{run}-learning-rate.csv"
    assert list(rows[0]) == ["run", "step", "at", "learning_rate"]
    assert [int(row["step"]) for row in rows] == list(range(4500))
    assert {row["run"] for row in rows} == {run}
    _, rows = downloaded(page, page.get_by_role("button", name="Download Policy entropy as CSV"), tmp_path)
    assert [float(row["entropy"]) for row in rows] == pytest.approx(
        [0.4 + 0.1 * (step % 7) for step in range(4500)]
    )

    page.get_by_text("Last 200").click()
    expect(page.locator(".view")).to_have_attribute("data-points", "200")
    _, rows = downloaded(page, page.get_by_role("button", name="Download all charts as CSV"), tmp_path)
    assert [int(row["step"]) for row in rows] == list(range(4300, 4500))
    stored = redis.hget(RunKeys(run).records, "4400")
    assert isinstance(stored, bytes)
    known = msgspec.json.decode(stored)
    assert {name.partition("/")[0] for name in rows[0]} - {"run"} <= set(known)
    assert float(rows[100]["reward"]) == known["reward"]
    assert float(rows[100]["generator_busy_share/base"]) == known["generator_busy_share"]["base"]


def test_pass_at_k_is_downloaded_by_evaluation(page, server, redis, run, tmp_path):
    add_evaluation(redis, run, 0, {1: 0.25, 4: 0.6})
    add_evaluation(redis, run, 10, {1: 0.5, 16: 0.9})
    learned(redis, run, 12)
    sign_in(page, server, redis, run)
    shows_step(page, 11)
    button = page.get_by_role("button", name="Download Held-out pass@k as CSV")
    name, rows = downloaded(page, button, tmp_path)
    assert name == f"{run}-held-out-pass@k.csv"
    assert rows == [
        {"run": run, "step": "0", "pass@1": "0.25", "pass@4": "0.6", "pass@16": ""},
        {"run": run, "step": "10", "pass@1": "0.5", "pass@4": "", "pass@16": "0.9"},
    ]


def test_a_symbol_is_explained_where_it_stands_to_keyboard_and_touch(browser, server, redis, run):
    learned(redis, run, 3)
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True)
    page = context.new_page()
    sign_in(page, server, redis, run)
    shows_step(page, 2)
    about = page.get_by_role("button", name="About Surprisal exponent")
    text = page.get_by_text("ρ weights correct adaptive rollouts by their surprisal")
    expect(text).to_be_hidden()
    about.tap()
    expect(text).to_be_visible()
    box = text.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    page.keyboard.press("Escape")
    expect(text).to_be_hidden()
    page.get_by_role("button", name="About reference").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("What the control law steers entropy towards")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(CONTRAST) == []
    explained = page.locator("figure.chart .chart-title .hint-button")
    assert explained.count() == page.locator("figure.chart").count()
    context.close()
