"""What the charts compute, in a browser but without a run: numbers as text, axes, smoothing, options, addresses."""

from __future__ import annotations

import re
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Browser

from services.control_plane.routes import page_files
from tests.support.browser import needs_chromium, watched
from tests.support.page_harness import in_page

pytestmark = needs_chromium
PAGE_FILES = sorted(page_files.FOLDER.glob("*.js"))


@pytest.fixture(scope="module")
def run_in(browser: Browser, server: str) -> Any:
    with watched(browser) as page:
        page.goto(server)
        yield partial(in_page, page)


def test_no_number_is_written_as_minus_zero(run_in):
    texts = run_in(
        "format",
        "count, fixed, level, nats, precise, short, si, duration, age",
        "const few = (value) => fixed(value, 3);"
        "const values = [-0, -1e-300, -1e-9, -0.0004, -0.0005, -0.004, -0.04, -0.49];"
        "return [count, few, level, nats, precise, short, si, duration, age]"
        "  .flatMap((write) => values.map((value) => write(value)));",
    )
    assert len(texts) == 72
    assert [text for text in texts if re.match(r"[-−][0.]+(?![\d.])", text)] == []
    kept = run_in(
        "format", "count, level, nats, short", "return [count, level, nats, short].map((f) => f(-3.21));"
    )
    assert kept == ["-3", "-3.210", "-3.210", "-3.21"]


def test_numbers_are_rounded_to_text_in_one_module_only():
    assert [file.name for file in PAGE_FILES if ".toFixed(" in file.read_text()] == ["format.js"]


def test_small_numbers_keep_their_digits_and_large_ones_get_a_letter(run_in):
    assert run_in(
        "format",
        "precise, si",
        "return [0.0015, 2e-4, 1.25e-5, 0, 0.5, 1234].map(precise).concat([999, 1500, 2.5e6].map(si));",
    ) == ["0.0015", "2e-4", "1.25e-5", "0", "0.5", "1230", "999", "1.5k", "2.5M"]


def test_smoothing_keeps_a_constant_starts_unbiased_and_counts_steps_not_points(run_in):
    constant, first, gaps = run_in(
        "smoothing",
        "smoothed",
        "const steps = [0, 1, 2, 3];"
        "return [smoothed(steps, [5, 5, 5, 5], 10), smoothed(steps, [0, 10, 10, 10], 1e6),"
        " smoothed(steps, [1, null, 3, null], 2)];",
    )
    assert constant == pytest.approx([5] * 4)
    assert first == pytest.approx([0, 5, 20 / 3, 7.5], abs=1e-4), "a long memory is the mean of what was seen"
    assert [value is None for value in gaps] == [False, True, False, True]
    every, tenth = run_in(
        "smoothing",
        "smoothed",
        "const steps = Array.from({ length: 200 }, (_, i) => i);"
        "const tens = steps.filter((step) => step % 10 === 9);"
        "const jump = (step) => (step < 100 ? 0 : 1);"
        "return [smoothed(steps, steps.map(jump), 20)[199], smoothed(tens, tens.map(jump), 20).at(-1)];",
    )
    assert every == pytest.approx(tenth, abs=1e-3), "a coarser series is smoothed over as many steps"


@pytest.mark.parametrize(
    ("first", "last"), [(0, 45), (0, 600), (0, 5400), (0, 90_000), (0, 2e6), (17e8, 17e8 + 7200)]
)
@pytest.mark.parametrize("kind", ["elapsed", "clock"])
def test_times_on_the_axis_are_round_few_and_in_order(run_in, kind, first, last):
    ticks = run_in("time_axis", "timeTicks", f"return timeTicks('{kind}', {first}, {last}, 6);")
    places = [tick["place"] for tick in ticks]
    assert 2 <= len(ticks) <= 9
    assert all(first <= place <= last for place in places)
    assert places == sorted(places)
    assert len({round(b - a, 6) for a, b in pairwise(places)}) == 1
    assert all(re.fullmatch(r"[\d:]+|\d+ \w+( \d+ \w+)?", tick["text"]) for tick in ticks)


def test_a_place_on_a_time_axis_leads_back_to_its_step_and_a_pause_has_its_length(run_in):
    run_of = (
        "const whole = { steps: [0, 1, 2, 3], values: { at: [100, 110, 3710, 3720], tokens: [5, 5, 5, 5] },"
        " lowest: { at: [100, 110, 3710, 3720] }, highest: { at: [100, 110, 3710, 3720] } };"
    )
    places, back, tokens, clock = run_in(
        "horizontal",
        "Horizontal",
        f"{run_of} const elapsed = new Horizontal('elapsed', whole);"
        "return [[0, 1, 2, 3].map((step) => elapsed.place(step)), elapsed.step(1810),"
        " new Horizontal('tokens', whole).place(3), new Horizontal('clock', whole).place(0)];",
    )
    assert places == [0, 10, 3610, 3620]
    assert back == pytest.approx(1.5)
    assert (tokens, clock) == (20, 100)


def test_options_survive_the_address_and_what_is_not_valid_has_its_default(run_in):
    written = run_in(
        "chart_options",
        "read, written",
        "const text = 'x=elapsed&smooth=50&range=off&from=10.5&to=99';"
        "return [written(read(new URLSearchParams(text))).toString(),"
        " ['x=evil&smooth=7&range=maybe&from=9&to=3&last=-4', 'from=&to=1e999', 'from=NaN&to=5', '']"
        "   .map((bad) => written(read(new URLSearchParams(bad))).toString())];",
    )
    assert written == ["x=elapsed&smooth=50&range=off&from=10.5&to=99", ["", "", "", ""]]


def test_an_address_names_its_view_its_runs_and_its_options(run_in):
    parsed = run_in(
        "address",
        "addressOf, compareAddress",
        "return ['#/runs/a%20b?x=clock', compareAddress(['a', 'b.c']) + '?smooth=5', '#/compare/a,,a', '#/runs',"
        " '#/runs/%E0%A4%A', '#/compare/', '#/other/a', ''].map((hash) => {"
        "  const { view, ids, options } = addressOf(hash); return [view, ids, options.toString()]; });",
    )
    assert parsed[:3] == [
        ["run", ["a b"], "x=clock"],
        ["compare", ["a", "b.c"], "smooth=5"],
        ["compare", ["a"], ""],
    ]
    assert [view for view, *_ in parsed[3:]] == ["runs"] * 5


def test_the_fields_in_which_configurations_differ_are_found_at_any_depth(run_in):
    found = run_in(
        "config_differences",
        "differing",
        "return differing([{ a: { b: 1, c: [1] }, d: 'x' }, { a: { b: 2, c: [1] }, d: 'x', e: null }]);",
    )
    assert found == [["a.b", ["1", "2"]], ["e", ["–", "null"]]]


def test_the_share_of_an_axis_that_has_points_is_found_with_a_neighbour_on_each_side(run_in):
    parts = run_in(
        "chart_geometry",
        "within",
        "return [[0, 9], [3, 5], [3.2, 3.4], [20, 30], [-5, -1]].map((range) => within([0, 1, 2, 3, 4, 5, 6], range));",
    )
    assert [list(range(7))[first:end] for first, end in parts] == [
        [0, 1, 2, 3, 4, 5, 6],
        [2, 3, 4, 5, 6],
        [3, 4],
        [6],
        [0],
    ]


def test_runs_that_differ_only_in_their_seed_are_one_line_with_their_mean_and_range(run_in):
    alike, apart = run_in(
        "seeds",
        "linesOf",
        "const one = (id, seed, target) => ({ id, colour: id, run: { spec: { config: "
        "{ seed, ray: { dashboard_port: seed }, entropy_control: { target } } } } });"
        "const runs = [one('a', 1, 0.4), one('b', 1, 0.3), one('c', 2, 0.4), { id: 'd', colour: 'd', run: null }];"
        "return [true, false].map((together) => linesOf(runs, together)"
        ".map((line) => [line.label, line.tone, line.runs.length]));",
    )
    assert alike == [["a and 1 more", "a", 2], ["b", "b", 1], ["d", "d", 1]]
    assert [label for label, *_ in apart] == ["a", "b", "c", "d"]
    mean = run_in(
        "seeds",
        "meanOf",
        "return meanOf([{ places: [0, 1, 2, 3], values: [1, 2, 3, 4] }, { places: [0, 2], values: [3, 7] }], true);",
    )
    assert mean == {"places": [0, 1, 2], "values": [2, 3.5, 5], "low": [1, 2, 3], "high": [3, 5, 7]}
