"""The page over a recorded run: it shows what the run left, and offers no change."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from services.recorded.find import recorded_runs
from services.recorded.serve import served
from services.redis.access import RedisAccess
from tests.support.browser import needs_chromium, watched
from tests.support.page_harness import shows_step
from tests.support.runs.recorded import STEPS, make_run_directory


@needs_chromium
def test_the_page_shows_a_finished_run_from_its_directory(
    browser: Browser, tmp_path: Path, redis_access: RedisAccess, run_id: str
) -> None:
    with redis_access.sync() as redis:
        make_run_directory(tmp_path / run_id, redis, redis_access)
    with (
        recorded_runs([tmp_path / run_id]) as runs,
        served(runs, "viewer") as view,
        watched(browser) as page,
    ):
        page.goto(f"{view.url}/#/runs/{run_id}")
        page.get_by_label("Token").fill(view.token)
        page.get_by_role("button", name="Sign in").click()
        shows_step(page, STEPS - 1)
        expect(page.get_by_role("row").filter(has_text="ada")).to_contain_text("in force from step 3")
        for name in ("Stop…", "Set the target…"):
            expect(page.get_by_role("button", name=name, disabled=False)).to_have_count(0)
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_text("prompt of step 5")).to_be_visible()
        page.get_by_role("link", name="Runs").click()
        expect(page.get_by_role("link", name=run_id)).to_be_visible()
        expect(page.locator("#link")).to_have_text("recorded")
