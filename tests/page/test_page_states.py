"""What the page shows around the curves, in a real browser: sign-in, list of runs, start, end, lost connection."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from services.access.tokens import create_token, revoke_token
from services.redis.keys import RunKeys
from services.redis.query import server_time
from services.run.phases import Phase
from services.run.state import STALE_SECONDS, add_evaluation, update_status
from tests.support.browser import needs_chromium
from tests.support.control_plane import start_run
from tests.support.page_harness import CONTRAST, curve, in_page, learned, served, shows_step, sign_in

pytestmark = needs_chromium
OUTAGE = ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"]


def try_now(page) -> None:
    """Press the button, unless the page has tried by itself meanwhile, which hides or renames it."""
    page.evaluate(
        "[...document.querySelectorAll('#lost button')].find((one) => one.textContent === 'Try now')?.click()"
    )


def fits(page, width: int = 360) -> bool:
    """Whether a narrow screen shows the view without sideways scrolling, and all its text with enough contrast."""
    before = page.viewport_size
    page.set_viewport_size({"width": width, "height": 740})
    found = page.evaluate("document.documentElement.scrollWidth"), page.evaluate(CONTRAST)
    page.set_viewport_size(before)
    return found == (width, [])


def read_again(page) -> None:
    """End the pauses between the reads of the page."""
    page.evaluate("window.dispatchEvent(new Event('scope-retry'))")


def test_the_sign_in_says_where_a_token_comes_from_and_which_are_no_tokens(
    page, server, redis, run, expected
):
    expected.append("401")
    page.goto(server)
    form = page.locator("form.sign-in")
    expect(form).to_contain_text("scope token create --scope operator --name me")
    page.get_by_text("On a Kubernetes cluster").click()
    expect(form).to_contain_text("kubectl -n scope-rl get secret scope-secrets")
    assert fits(page)
    expired = create_token(redis, run, "late", "viewer", seconds=-1)
    cases = {"": "Enter a token.", "tökén": "only letters", expired: "This token has expired."}
    for token, fault in (cases | {"scope_nobody_has_this": "It may be mistyped"}).items():
        page.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text(fault)
    token = create_token(redis, run, "ada", "viewer")
    page.get_by_label("Token").fill(f" {token[:9]} {token[9:]}\t")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name=run)).to_be_visible()


@pytest.mark.parametrize(
    "form", ["#token={token}", "#/runs/{run}?token={token}", "#/runs/{run}?x=1&token={token}"]
)
def test_a_link_signs_in_and_its_token_leaves_the_address_at_once(page, server, redis, run, form):
    token = create_token(redis, run, "ada", "viewer")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.goto(f"{server}/{form.format(run=run, token=token)}")
    expect(page.get_by_text(run).first).to_be_visible()
    assert page.url == f"{server}/{form.format(run=run, token='')}".rstrip("=").removesuffix("token")[:-1]
    assert not any(token in url for url in sent)
    page.go_back()
    assert token not in page.url


def test_a_link_with_a_token_that_is_not_valid_leads_to_the_sign_in(page, server, redis, run, expected):
    expected.append("401")
    token = create_token(redis, run, "ada", "viewer")
    revoke_token(redis, run, "ada")
    page.goto(f"{server}/#token={token}")
    expect(page.get_by_role("alert")).to_contain_text("This token is not valid.")
    assert token not in page.url
    assert page.evaluate("sessionStorage.length") == 0


def test_the_list_tells_stale_failed_stopped_and_learning_runs_apart(page, server, redis, run):
    names = {name: f"{run}-{name}" for name in ("stale", "failed", "stopped", "learning")}
    for name in names.values():
        start_run(redis, name)
    for name in ("stale", "stopped", "learning"):
        learned(redis, names[name], 30, saturated=name == "stale", entropy=0.5 if name == "stale" else 0.41)
    add_evaluation(redis, names["learning"], 20, {1: 0.3, 4: 0.5, 16: 0.8})
    update_status(redis, names["stopped"], phase="finished")
    update_status(redis, names["failed"], phase="failed", error="the disk\x1b[2J is full")
    token = create_token(redis, None, f"all-{run}", "viewer")
    redis.hset(RunKeys(names["stale"]).status, "heartbeat", server_time(redis) - STALE_SECONDS - 60)
    page.goto(f"{server}/#token={token}")
    page.get_by_label("Filter").fill(run)

    def row(name: str):
        return page.get_by_role("row").filter(has=page.get_by_role("link", name=names[name], exact=True))

    expect(row("stale")).to_contain_text(re.compile(r"stale, was learning.*silent since .*ago"))
    expect(row("stale")).to_contain_text("above target 0.400, at the limit")
    expect(row("failed")).to_contain_text("the diskU+001B[2J is full")
    expect(row("stopped")).to_contain_text(re.compile(r"stopped.*30 / 160.*ended \d+ s ago"))
    expect(row("learning")).to_contain_text(
        re.compile(r"0\.410on target 0\.400.*pass@1 0\.300pass@16 0\.800")
    )
    assert fits(page)
    page.get_by_label("Filter").fill("stale")
    expect(row("learning")).to_be_hidden()
    page.get_by_label("Filter").fill(run)
    compare = page.get_by_role("button", name="Compare")
    expect(compare).to_be_disabled()
    for name in ("learning", "stopped"):
        page.get_by_label(f"Compare {names[name]}", exact=True).check()
    compare.click()
    expect(page).to_have_url(re.compile(f"#/compare/{names['learning']},{names['stopped']}"))


def test_a_start_is_one_list_of_stages_until_the_first_step(page, server, redis, run):
    curves = page.get_by_role("heading", name="Policy entropy")
    update_status(redis, run, phase="starting_model", detail="warm start 120 of 400")
    sign_in(page, server, redis, run)
    active = page.locator(".stages [aria-current=step]")
    stages: list[tuple[Phase, str | None, str]] = [
        ("starting_model", "warm start 120 of 400", "Starting model"),
        ("starting_ray", None, "Ray"),
        ("starting_engines", "1 of 2 ready", "Engines"),
        ("evaluating", "step 0", "Evaluation"),
        ("starting_learner", None, "Learner"),
        ("running", None, "First step"),
    ]
    for phase, detail, title in stages:
        update_status(redis, run, phase=phase, detail=detail)
        expect(active).to_contain_text(title)
        expect(active).to_contain_text(detail or title)
        expect(active).to_contain_text(re.compile(r"\d+ s"))
        expect(curves).to_be_hidden()
        expect(page.locator(".strip")).to_be_hidden()
    expect(page.locator(".stages [data-state=done] .stage-time").nth(3)).to_have_text(re.compile(r"^\d+ s$"))
    assert fits(page)
    learned(redis, run, 1)
    expect(curves).to_be_visible()
    expect(page.locator(".start")).to_be_hidden()
    expect(page.locator(".strip")).to_be_visible()


def test_a_finished_run_says_what_it_reached_and_offers_no_controls(page, server, redis, run):
    learned(redis, run, 30, starting_entropy=0.7)
    add_evaluation(redis, run, 0, {1: 0.217, 16: 0.907})
    add_evaluation(redis, run, 160, {1: 0.423, 16: 0.77})
    sign_in(page, server, redis, run)
    expect(page.get_by_role("button", name="Stop…")).to_be_visible()
    update_status(redis, run, phase="finished", step=160)
    outcome = page.get_by_role("region", name="The run finished all 160 steps")
    for part in (
        "0.423from 0.217 after step 0",
        "0.770from 0.907",
        "target 0.400, 0.700 at the start",
        "report.json",
    ):
        expect(outcome).to_contain_text(part)
    expect(outcome).to_contain_text(f"scope view {run}")
    for name in ("Pause…", "Stop…", "Set the target…"):
        expect(page.get_by_role("button", name=name)).to_be_hidden()
    expect(page.get_by_role("heading", name="Processes")).to_be_hidden()
    assert curve(page).startswith("M")
    assert fits(page)


def test_a_run_that_fails_shows_its_error_and_how_to_continue(page, server, redis, run):
    update_status(redis, run, phase="failed", error="The disk is full: free 3 GiB.")
    sign_in(page, server, redis, run)
    outcome = page.get_by_role("region", name="The run failed before its first step")
    expect(outcome).to_contain_text("The disk is full: free 3 GiB.")
    expect(outcome).to_contain_text(f"scope train --resume runs/{run}")
    expect(page.locator(".start")).to_be_hidden()


def test_a_finished_run_whose_control_plane_has_ended_stays_readable(
    page, redis, redis_access, run, unused_port, expected
):
    expected += [*OUTAGE, "401"]
    learned(redis, run, 30)
    with served(redis_access, unused_port) as url:
        sign_in(page, url, redis, run)
        shows_step(page, 29)
        update_status(redis, run, phase="finished", step=160)
        expect(page.get_by_role("region", name="The run finished")).to_be_visible()
    lost = page.locator("#lost")
    expect(lost).to_contain_text("The run finished at step 160. Its control plane has ended.")
    expect(lost).to_contain_text(f"scope view {run}")
    expect(page.locator("#link")).to_have_text("control plane ended")
    assert curve(page).startswith("M")
    assert fits(page)
    # The next control plane at this address does not know the token.
    revoke_token(redis, run, "ada")
    with served(redis_access, unused_port):
        try_now(page)
        expect(lost).to_contain_text("Another control plane answers at this address")
        assert curve(page).startswith("M")
        lost.get_by_role("button", name="Sign in").click()
        expect(page.get_by_label("Token")).to_be_visible()


def test_a_lost_connection_says_since_when_and_comes_back_on_request(
    page, redis, redis_access, run, unused_port, expected
):
    expected += OUTAGE
    learned(redis, run, 3)
    with served(redis_access, unused_port) as url:
        sign_in(page, url, redis, run)
        shows_step(page, 2)
    lost = page.locator("#lost")
    expect(lost).to_contain_text(re.compile(r"Connection lost since .*\d\d:\d\d\. .*Trying again in \d+ s"))
    learned(redis, run, 9)
    update_status(redis, run, phase="saving")
    with served(redis_access, unused_port):
        try_now(page)
        expect(lost).to_be_hidden()
        shows_step(page, 8)
        expect(page.locator(".run-head .phase")).to_have_text("saving")
    expect(lost).to_contain_text("The run was at step 9, saving, when its control plane ended")


def test_a_run_that_falls_silent_is_called_stale_while_the_page_is_open(page, server, redis, run):
    learned(redis, run, 3)
    sign_in(page, server, redis, run)
    phase = page.locator(".run-head .phase")
    expect(phase).to_have_text("learning")
    redis.hset(RunKeys(run).status, "heartbeat", server_time(redis) - STALE_SECONDS - 5)
    read_again(page)
    expect(phase).to_have_text("stale, was learning")
    update_status(redis, run)
    read_again(page)
    expect(phase).to_have_text("learning")


def test_an_entropy_just_below_its_target_is_not_off_by_minus_zero(page, server, redis, run):
    learned(redis, run, 3, entropy=0.39999)
    sign_in(page, server, redis, run)
    off = page.locator(".strip > div").filter(has_text="Off target")
    expect(off).to_contain_text("0.000")
    assert not re.search(r"[-−+]0\.000", off.inner_text())


def test_characters_that_cannot_be_seen_are_named(page, server):
    page.goto(server)
    text = "a\nb\tc\x00\x1b[31m\x7f\x85\u200b\u202e\u2066\ufeff\U000e0041é漢🙂"
    joined = f"return visible({json.dumps(text)}).map((one) => one.textContent).join('');"
    shown = in_page(page, "visible", "visible", joined)
    names = "U+0000U+001B[31mU+007FU+0085U+200BU+202EU+2066U+FEFFU+E0041"
    assert shown == f"a\nb\tc{names}é漢🙂"


def test_a_pause_between_attempts_ends_when_the_machine_has_slept(page, server, redis, run):
    sign_in(page, server, redis, run)
    expect(page.locator("#link")).to_have_text("live")
    # The clock of the page jumps ahead, as after a sleep.
    with page.expect_request(re.compile("/events$")):
        page.evaluate("const real = Date.now; Date.now = () => real() + 60000")
