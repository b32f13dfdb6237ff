"""A headless Chromium, and a page that is watched for console errors and failed requests."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
WAIT_SECONDS = 20
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Launch arguments of a headless Chromium that may run as root and makes no background requests."""

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no `chromium` on this machine (Debian: apt-get install chromium)"
)
expect.set_options(timeout=1000 * WAIT_SECONDS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def watched(browser: Browser, expected: Sequence[str] = ()) -> Iterator[Page]:
    """A new page. On exit, any console error or failed request that no pattern in `expected` matches fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("requestfailed", lambda request: faults.append(f"{request.failure} {request.url}"))
    yield page
    context.close()
    # The browser cancels the pending requests of a view that is left.
    left = [fault for fault in faults if "ERR_ABORTED" not in fault]
    assert [fault for fault in left if not any(re.search(pattern, fault) for pattern in expected)] == []
