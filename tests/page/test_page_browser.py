"""The page in a real browser, over a served control plane, a real Redis and a learner's writes."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from services.access.tokens import create_token, revoke_token
from services.entropy_target.store import (
    change_entropy_target,
    mark_applied,
    read_applied,
    read_entropy_target,
)
from services.run.control import desired
from services.run.state import add_evaluation, update_status
from tests.support.browser import needs_chromium
from tests.support.control_plane import start_run
from tests.support.page_harness import (
    Learner,
    curve,
    last_step,
    learned,
    points,
    shows_step,
    sign_in,
    until,
)
from trainer.config import EntropyControlConfig

pytestmark = needs_chromium


def test_a_wrong_token_is_refused_and_a_right_one_stays_in_the_tab(page, server, redis, run, expected):
    expected.append("401")
    start_run(redis, f"{run}-ended")
    update_status(redis, f"{run}-ended", phase="finished", step=160)
    page.goto(server)
    expect(page.get_by_label("Token")).to_be_focused()
    assert page.get_by_label("Token").get_attribute("type") == "password"
    page.keyboard.type("no-token-of-this-service")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("This token is not valid. It may be mistyped")

    token = create_token(redis, None, f"all-{run}", "viewer")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=run, exact=True))
    expect(row).to_contain_text("starting")
    ended = page.get_by_role("row").filter(has_text=f"{run}-ended")
    expect(ended).to_contain_text("160 / 160")
    assert ended.get_by_role("progressbar").evaluate("bar => bar.value / bar.max") == 1
    page.get_by_label("Filter").fill("-ended")
    expect(row).to_be_hidden()
    assert token not in page.url
    kept = page.evaluate("[JSON.stringify(localStorage), document.cookie, Object.values(sessionStorage)]")
    assert kept == ["{}", "", [token]]

    page.reload()
    expect(ended).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_focused()
    assert page.evaluate("sessionStorage.length") == 0


def test_the_list_shows_progress_and_leads_to_the_run(page, server, redis, run):
    sign_in(page, server, redis, run, view="runs")
    row = page.get_by_role("row").filter(has_text=run)
    expect(row).to_contain_text("0 / 160")
    update_status(redis, run, phase="running", step=40)
    expect(row).to_contain_text("40 / 160")
    row.get_by_role("link", name=run).click()
    expect(page.get_by_role("heading", name=run)).to_be_focused()
    page.get_by_role("link", name="Runs").click()
    expect(row).to_be_visible()


def test_the_curve_moves_and_a_target_is_previewed_confirmed_and_acknowledged(
    page, server, redis, redis_access, run
):
    add_evaluation(redis, run, 0, {1: 0.25, 4: 0.6})
    with Learner(redis_access, run):
        sign_in(page, server, redis, run)
        shows_step(page, 3)
        known, before = points(page), curve(page)
        shows_step(page, last_step(page) + 5)
        assert points(page) > known
        assert curve(page) != before
        expect(page.locator("#link")).to_have_text("live")
        expect(page.get_by_role("img", name="Held-out pass@k")).to_have_attribute(
            "aria-label", re.compile("pass@1 0.250.*pass@4 0.600")
        )
        expect(page.get_by_role("row").filter(has_text="base-generator-0")).to_contain_text("sampling")

        preview = page.locator(".chart.large .preview")
        assert not preview.get_attribute("d")
        page.get_by_label("New target").fill("1.5")
        expect(page.locator("#target-message")).to_contain_text("must lie in 0.01 to 0.9")
        page.get_by_label("New target").fill("0.35")
        page.get_by_role("spinbutton", name="Over").fill("20")
        expect(preview).to_have_attribute("d", re.compile("^M.*L.*L"))
        page.get_by_role("button", name="Set the target…").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("0.400→0.350")
        expect(dialog).to_contain_text("over 20 steps")
        dialog.get_by_role("button", name="Set the target").click()
        message = page.locator("#target-message")
        expect(message).to_have_text(re.compile(r"^in force from learner step \d+ \(generation 2\)$"))
        applied = read_applied(redis, run)
        assert applied is not None
        expect(message).to_contain_text(f"step {applied.step} ")
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="g2"))
        for part in ("0.350", "20 steps", "ada", f"in force from step {applied.step}"):
            expect(row).to_contain_text(part)
        expect(page.locator(".marks text").filter(has_text="g2")).to_be_visible()
        entropy_target = read_entropy_target(redis, run)
        assert entropy_target is not None
        assert (entropy_target.target, entropy_target.over_steps, entropy_target.updated_by) == (
            0.35,
            20,
            "ada",
        )

        page.reload()
        shows_step(page, 8)
        assert curve(page).startswith("M")
        expect(page.locator(".target-control .state")).to_contain_text("generation 2")

        page.get_by_role("button", name="Return to schedule…").click()
        page.get_by_role("button", name="Return to the schedule").click()
        expect(message).to_contain_text("(generation 3)")
        expect(page.get_by_role("button", name="Return to schedule…")).to_be_disabled()


def test_a_run_is_paused_and_resumed_and_asked_for_a_checkpoint(page, server, redis, redis_access, run):
    with Learner(redis_access, run):
        sign_in(page, server, redis, run)
        shows_step(page, 1)
        resume = page.get_by_role("button", name="Resume…")
        expect(resume).to_be_disabled()
        page.get_by_role("button", name="Pause…").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        assert desired(redis, run).state == "run"
        page.get_by_role("button", name="Pause…").click()
        page.get_by_role("button", name="Pause the run").click()
        expect(page.locator(".run-head .phase")).to_have_text("paused")
        expect(page.locator("#notice")).to_contain_text("Pause requested")
        stopped = last_step(page)
        page.get_by_role("button", name="Checkpoint…").click()
        page.get_by_role("button", name="Write a checkpoint").click()
        until(lambda: desired(redis, run).checkpoints == 1)
        resume.click()
        page.get_by_role("button", name="Resume the run").click()
        expect(page.locator(".run-head .phase")).to_have_text("learning")
        shows_step(page, stopped + 3)
        page.get_by_role("button", name="Stop…").click()
        page.get_by_role("button", name="Stop the run").click()
        until(lambda: desired(redis, run).state == "stop")


def test_a_target_is_set_by_the_keyboard_alone(page, server, redis, redis_access, run):
    def tab_to(name: str) -> None:
        for _ in range(150):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                "(document.activeElement.labels?.[0] ?? document.activeElement).textContent"
            )
            if focused.startswith(name):
                width = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
                assert width == "2px", f"{name} has the focus but does not show it"
                return
        pytest.fail(f"{name} cannot be reached by the Tab key")

    with Learner(redis_access, run):
        token = create_token(redis, run, "ada", "operator")
        page.goto(f"{server}/#/runs/{run}")
        page.keyboard.type(token)
        page.keyboard.press("Enter")
        shows_step(page, 1)
        page.evaluate("document.activeElement.blur()")
        tab_to("Skip to content")
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        tab_to("New target")
        page.keyboard.type("0.5")
        tab_to("Over")
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        expect(page.get_by_role("spinbutton", name="Over")).to_be_focused()
        page.keyboard.press("Enter")
        tab_to("Set the target")
        page.keyboard.press("Enter")
        expect(page.locator("#target-message")).to_contain_text("(generation 2)")


def test_values_are_read_out_by_the_pointer_and_by_the_arrow_keys(page, server, redis, run):
    learned(redis, run, 20, saturated=True)
    sign_in(page, server, redis, run)
    shows_step(page, 19)
    chart = page.locator(".chart.large")
    expect(chart.locator(".legend li").first).to_have_text("measured 0.400")
    expect(chart.locator(".limit-note")).to_have_text("at the limit: raise alpha_max or lower the target")
    assert chart.locator(".band").get_attribute("d")
    expect(page.get_by_role("img", name="Policy entropy")).to_have_attribute(
        "aria-label",
        re.compile(r"steps 0 to 19: measured 0\.400, between 0\.400 and 0\.700; entropy target 0\.400"),
    )
    cursor = page.get_by_role("slider", name="Read out Policy entropy")
    cursor.hover(position={"x": 45, "y": 50})
    expect(chart.locator(".legend li").first).to_have_text("measured 0.700")
    expect(page.locator(".charts .at").first).to_have_text("step 0")
    page.mouse.move(5, 5)
    expect(chart.locator(".at")).to_have_text("")
    cursor.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    expect(cursor).to_have_attribute(
        "aria-valuetext", re.compile(r"^step 1: measured 0\.680, entropy target 0\.400")
    )
    expect(chart.locator(".legend li").first).to_have_text("measured 0.680")
    page.keyboard.press("Escape")
    expect(cursor).to_have_attribute("aria-valuetext", "newest step")


def test_a_viewer_is_told_what_he_may_not_do_and_a_token_that_ends_leads_to_the_sign_in(
    page, server, redis, redis_access, run, expected
):
    expected.append("401")
    with Learner(redis_access, run):
        sign_in(page, server, redis, run, "viewer")
        shows_step(page, 1)
        reason = "The token “ada” has the scope viewer and cannot change the run."
        expect(page.locator("#actions-note")).to_have_text(reason)
        expect(page.locator("#target-why")).to_have_text(reason)
        for name in ("Pause…", "Resume…", "Checkpoint…", "Stop…", "Set the target…", "Return to schedule…"):
            expect(page.get_by_role("button", name=name)).to_be_disabled()
        expect(page.get_by_label("New target")).to_be_disabled()
        assert revoke_token(redis, run, "ada")
        expect(page.get_by_role("alert")).to_contain_text("it has been revoked or replaced")
        assert page.evaluate("sessionStorage.length") == 0


def test_the_entropy_target_of_a_run_that_ends_is_closed_and_says_why(page, server, redis, redis_access, run):
    with Learner(redis_access, run):
        sign_in(page, server, redis, run)
        shows_step(page, 1)
        expect(page.get_by_label("New target")).to_be_enabled()
    update_status(redis, run, phase="finished")
    expect(page.locator("#target-why")).to_contain_text("The run has finished")
    expect(page.get_by_label("New target")).to_be_disabled()


def test_a_change_that_somebody_else_made_meanwhile_is_shown_and_not_overwritten(
    page, server, redis, run, expected
):
    expected.append("412")
    learned(redis, run, 1)
    mark_applied(redis, run, 1, 0, 0, 0.4)
    sign_in(page, server, redis, run)
    expect(page.get_by_role("button", name="Set the target…")).to_be_enabled()
    page.get_by_label("New target").fill("0.5")
    page.keyboard.press("Enter")
    change_entropy_target(redis, run, 0.3, "grace", EntropyControlConfig())
    page.get_by_role("dialog").get_by_role("button", name="Set the target").click()
    message = page.locator("#target-message")
    expect(message).to_contain_text("The entropy target has changed since: generation 2, by grace.")
    expect(page.locator(".target-control .state")).to_have_text(
        "generation 2 is waiting for the next step boundary"
    )
    expect(page.get_by_label("New target")).to_have_value("0.5")
    entropy_target = read_entropy_target(redis, run)
    assert entropy_target is not None
    assert entropy_target.updated_by == "grace"
