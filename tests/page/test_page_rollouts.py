"""The panel of sampled rollouts in a real browser."""

from __future__ import annotations

from playwright.sync_api import expect

from services.records.sampled_rollouts import add_rollouts
from tests.support.browser import needs_chromium
from tests.support.page_harness import CONTRAST, learned, sign_in
from tests.support.sampled_rollouts import rollout

pytestmark = needs_chromium


def test_rollouts_are_found_by_text_with_the_keyboard_and_shown_as_text_alone(page, server, redis, run):
    hostile = '<img src="x" onerror="window.broken = 1">'
    kept = [rollout(step, prompt=f"problem {step}") for step in range(25)]
    tokens = {"tokens": ["safe ", hostile, "!", "heard"], "logprobs": [-0.01, -5.0, -1.0, None]}
    add_rollouts(redis, run, [*kept, rollout(25, reward=0.0, verdict="wrong\x1bvalue", **tokens)], 500)
    learned(redis, run, 30)
    sign_in(page, server, redis, run, "viewer")
    panel = page.get_by_role("region", name="Rollouts")
    panel.get_by_label("Text").focus()
    page.keyboard.type("ONERROR")
    page.keyboard.press("Enter")
    expect(panel.get_by_role("listitem")).to_have_count(1)
    expect(panel.get_by_label("Response")).to_have_text(f"safe {hostile}!heard")
    assert panel.locator("img").count() == 0
    assert page.evaluate("window.broken") is None
    shades = panel.locator(".response .token").evaluate_all("all => all.map((one) => one.className)")
    assert shades == ["token shade-0", "token shade-4", "token shade-2"]
    expect(panel.get_by_title("token of the environment")).to_have_text("heard")
    expect(panel.get_by_role("listitem")).to_contain_text("mean surprisal 2.00")
    expect(panel.get_by_role("listitem")).to_contain_text("✗ wrongreward 0.00wrongU+001Bvalue")
    expect(panel).to_contain_text("log p of each sampled token")

    panel.get_by_label("Text").fill("")
    panel.get_by_label("Answer").select_option("right")
    panel.get_by_role("button", name="Search").click()
    expect(panel.get_by_role("listitem")).to_have_count(10)
    panel.get_by_role("button", name="Older rollouts").click()
    expect(panel.get_by_role("listitem")).to_have_count(20)
    expect(panel.get_by_role("listitem").nth(10)).to_be_focused()
    panel.get_by_role("button", name="Older rollouts").click()
    expect(panel.get_by_role("status")).to_have_text("25 shown, 25 of them right, no more")
    assert page.evaluate(CONTRAST) == []
    panel.get_by_label("Step").fill("999")
    panel.get_by_role("button", name="Search").click()
    expect(panel.get_by_role("status")).to_contain_text("No rollout matches")
