"""The page under difficult conditions: narrow screens, long runs, outages, restarts, names that look like markup."""

from __future__ import annotations

import json
import re
from functools import partial

import msgspec
import pytest
from playwright.sync_api import expect

from services.entropy_target.store import (
    change_entropy_target,
    mark_applied,
)
from services.records.redis_records import RedisRecords
from services.redis.keys import RunKeys
from services.run.heartbeats import beat
from services.run.state import update_status
from tests.support.browser import needs_chromium
from tests.support.control_plane import start_run
from tests.support.page_harness import (
    CONTRAST,
    Learner,
    curve,
    generator,
    in_page,
    last_step,
    learned,
    many_steps,
    points,
    served,
    shows_step,
    sign_in,
)
from tests.support.step_records import record
from trainer.config import EntropyControlConfig

pytestmark = needs_chromium


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_in_either_mode_has_no_sideways_scroll_and_readable_text(
    page, server, redis, run, scheme
):
    beat(redis, run, "adaptive-generator-with-a-long-name-0", generator(3))
    learned(redis, run, 1, alarms=["an alarm"])
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme=scheme)
    sign_in(page, server, redis, run, view="runs")
    expect(page.get_by_role("link", name=run)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("link", name=run).click()
    shows_step(page, 0)
    page.get_by_text("Newest step record").click()
    page.get_by_text("Configuration and versions").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    expect(page.locator(".alarms")).to_have_text("an alarm")
    dim = page.evaluate(CONTRAST)
    assert dim == [], "text with too little contrast"
    paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 200) == (scheme == "dark")


def test_twenty_thousand_steps_stay_few_points_and_quick_to_draw(page, server, redis, redis_access, run):
    steps = 20_000
    many_steps(redis, run, steps)
    with Learner(redis_access, run, pace=0.02, first=steps):
        sign_in(page, server, redis, run)
        shows_step(page, steps)
        view, drawn = page.locator(".view"), []
        for _ in range(6):
            known = view.get_attribute("data-redraw-milliseconds")
            expect(view).not_to_have_attribute("data-redraw-milliseconds", known)
            drawn.append(float(view.get_attribute("data-redraw-milliseconds")))
        shows_step(page, steps + 90)
        shown = points(page)
        nodes, text = page.evaluate(
            "[document.querySelectorAll('*').length, "
            "[...document.querySelectorAll('path[d]')].reduce((sum, path) => sum + path.getAttribute('d').length, 0)]"
        )
        for label, most in (("Last 200", 200), ("Last 1,000", 450), ("All steps", 450)):
            page.get_by_text(label).click()
            axis = page.locator(".chart.large .grid .step").first
            expect(axis).to_have_text("0" if label == "All steps" else re.compile(r"^(19|20),\d{3}$"))
            assert points(page) <= most
    print(f"{shown} points, {nodes} elements, {text:,} characters of paths, redraws {drawn} ms")
    assert 300 <= shown <= 450
    assert nodes < 2000
    assert text < 600_000
    assert min(drawn) < 50, "the quickest, as other processes may have taken the time of the others"


def test_a_control_plane_that_goes_away_is_waited_for(page, redis, redis_access, run, unused_port, expected):
    expected += [
        "ERR_CONNECTION_REFUSED",
        "ERR_INCOMPLETE_CHUNKED_ENCODING",
        "ERR_CONNECTION_RESET",
        "ERR_EMPTY_RESPONSE",
    ]
    with Learner(redis_access, run):
        with served(redis_access, unused_port) as url:
            sign_in(page, url, redis, run)
            shows_step(page, 3)
            expect(page.locator("#link")).to_have_text("live")
        expect(page.locator("#link")).to_have_text("connection lost")
        kept = last_step(page)
        assert curve(page).startswith("M")
        page.wait_for_timeout(1000)
        with served(redis_access, unused_port):
            shows_step(page, kept + 10)
            expect(page.locator("#link")).to_have_text("live")
            assert points(page) == last_step(page) + 1, "steps written during the outage are missing"


def test_a_learner_that_begins_again_takes_the_curve_back(page, server, redis, run):
    learned(redis, run, 10)
    sign_in(page, server, redis, run)
    shows_step(page, 9)
    redis.incr(RunKeys(run).fence)
    again = RedisRecords(redis, run, 1, 5)
    update_status(redis, run, step=6, record=msgspec.to_builtins(record(5, lineage=2), str_keys=True))
    again.write(record(5, lineage=2, reward=0.9))
    expect(page.locator(".view")).to_have_attribute("data-last-step", "5")
    expect(page.locator(".view")).to_have_attribute("data-points", "6")


def test_a_run_that_is_resumed_with_another_configuration_has_its_limits(page, server, redis, run):
    sign_in(page, server, redis, run)
    expect(page.locator("#target-limits")).to_contain_text("0.01 to 0.9 nats")
    start_run(redis, run, target_max=0.7)
    update_status(redis, run, phase="running")
    expect(page.locator("#target-limits")).to_contain_text("0.01 to 0.7 nats")
    page.goto(f"{server}/#/runs/%E0%A4%A")
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()


def test_the_history_goes_on_by_pages(page, server, redis, run):
    control = EntropyControlConfig()
    mark_applied(redis, run, 1, 0, 0, 0.4)
    for number in range(50):
        change_entropy_target(redis, run, 0.4 + 0.001 * (number % 5), "ada", control)
        mark_applied(redis, run, number + 2, number + 1, 0, 0.4)
    learned(redis, run, 1)
    sign_in(page, server, redis, run)
    rows = page.locator(".history tbody tr")
    expect(rows).to_have_count(30)
    expect(rows.first).to_contain_text("g51")
    page.get_by_role("button", name="Older changes").click()
    expect(rows).to_have_count(51)
    expect(rows.last).to_contain_text("as configured")
    expect(page.get_by_role("button", name="Older changes")).to_be_hidden()


def test_a_name_is_text_and_never_markup(page, server, redis, run):
    error = "<img src=x onerror=alert(1)> & <b>bold</b>"
    change_entropy_target(redis, run, 0.5, "<script>alert(2)</script>", EntropyControlConfig())
    learned(redis, run, 1)
    update_status(redis, run, phase="failed", error=error)
    sign_in(page, server, redis, run)
    expect(page.locator(".failure")).to_have_text(error)
    expect(page.locator(".history")).to_contain_text("<script>alert(2)</script>")
    assert page.locator("main img, main script").count() == 0


def test_axes_event_streams_and_ramps_hold_at_their_edges(page, server):
    page.goto(server)
    run_in = partial(in_page, page)
    ranges = [
        [1.1, 1.1000000000000003],
        [0, 0],
        [0, 1e-300],
        [-3, -3],
        [0.31, 0.52],
        [5, 5.0001],
        [-1e12, 1e12],
    ]
    for low, high, ticks, bottom, top in run_in(
        "chart_geometry",
        "axis, roomy",
        f"return {ranges}.map((range) => {{ const [low, high] = roomy(range); const made = axis(low, high, 3, true); "
        "return [...range, made.ticks, made.low, made.high]; });",
    ):
        assert 2 <= len(ticks) <= 8, (low, high)
        assert bottom <= low <= high <= top

    text = ': follow\n\nid: 1-0_0-0\nevent: step\ndata: {"step": 1}\n\n: still here\n\nevent: phase\ndata: {}\n\n'
    whole = run_in("stream", "parser", f"return parser()({json.dumps(text)});")
    assert [(event["id"], event["kind"], event["data"]) for event in whole] == [
        ("1-0_0-0", "step", '{"step": 1}'),
        ("", "phase", "{}"),
    ]
    pieces = run_in(
        "stream",
        "parser",
        f"const parse = parser(); return [...{json.dumps(text)}].flatMap((letter) => parse(letter));",
    )
    assert pieces == whole

    assert run_in(
        "entropy_state", "previewOf", "return [0, 1, 4].map((n) => previewOf(10, 0.4, 0.2, n, 5));"
    ) == [
        [[10, 0.4], [10, 0.2], [15, 0.2]],
        [[10, 0.4], [10, 0.2], [15, 0.2]],
        [[9, 0.4], [13, 0.2], [18, 0.2]],
    ]
