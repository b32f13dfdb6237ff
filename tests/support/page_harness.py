"""A served control plane, a simulated learner, and actions on the page that several tests share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import uvicorn
from playwright.sync_api import Page, expect
from redis import Redis

from services.access.tokens import Scope, create_token
from services.control_plane.app import create_app
from services.entropy_target.store import mark_applied, read_entropy_target
from services.host.sockets import bind
from services.records.redis_records import RedisRecords
from services.redis.access import RedisAccess
from services.redis.keys import RunKeys
from services.run.control import desired
from services.run.heartbeats import beat
from services.run.state import update_status
from tests.support.browser import WAIT_SECONDS
from tests.support.control_plane import AMPLE
from tests.support.step_records import record

CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => rgb(text).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if ((rgb(color)[3] ?? 1) > 0) return color;
    }
  };
  const dim = [];
  for (const node of document.querySelectorAll("main *, .bar *")) {
    const text = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!text || node.closest(":disabled, svg, .unseen, [hidden]") || !node.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) dim.push(`${node.className || node.tagName}: ${node.textContent.slice(0, 40)}`);
  }
  return dim;
}"""
"""Finds text with too little contrast against its background (WCAG AA)."""


@contextmanager
def served(access: RedisAccess, port: int = 0) -> Iterator[str]:
    """A control plane served by uvicorn."""
    listener = bind("127.0.0.1", port)
    config = uvicorn.Config(create_app(access, AMPLE), log_level="critical", timeout_graceful_shutdown=0)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    until(lambda: server.started)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listener.close()


def learned(redis: Redis, run: str, steps: int, **newest: Any) -> RedisRecords:
    """Record some steps for a run; `newest` overrides fields of the last one."""
    sink = RedisRecords(redis, run, 0, 0)
    for step in range(steps - 1):
        sink.write(record(step))
    last = record(steps - 1, **newest)
    sink.write(last)
    document = msgspec.to_builtins(last, str_keys=True)
    update_status(redis, run, phase="running", step=steps, record=document)
    return sink


class Learner:
    """Writes to Redis what a run writes: one step every `pace` seconds, with the target read at each step boundary."""

    def __init__(self, access: RedisAccess, run: str, *, pace: float = 0.1, first: int = 0) -> None:
        self._access, self._run, self._pace, self._first = access, run, pace, first
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Learner:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _work(self) -> None:
        with self._access.sync() as redis:
            sink, step = RedisRecords(redis, self._run, 0, self._first), self._first
            while not self._end.wait(self._pace):
                if desired(redis, self._run).state == "pause":
                    update_status(redis, self._run, phase="paused")
                    continue
                entropy_target = read_entropy_target(redis, self._run)
                assert entropy_target is not None
                target = 0.4 if entropy_target.target is None else entropy_target.target
                mark_applied(redis, self._run, entropy_target.generation, step, 0, target)
                one = record(step, at=time.time(), entropy_target=target, reference=target)
                sink.write(one)
                beat(redis, self._run, "base-generator-0", generator(step))
                document = msgspec.to_builtins(one, str_keys=True)
                update_status(redis, self._run, phase="running", step=step + 1, record=document)
                step += 1


def generator(step: int) -> dict[str, Any]:
    """A generator's heartbeat."""
    counters = {"tokens": 1000 * step, "groups": step, "in_flight": 3, "restarts": 0, "loads": step}
    return {"role": "base", "state": "sampling", "process_id": 7, "lineage": 1, "step": step, **counters}


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition outside the page."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not become true within {WAIT_SECONDS} s"
        time.sleep(0.05)


def sign_in(
    page: Page, server: str, redis: Redis, run: str, scope: Scope = "operator", view: str = ""
) -> str:
    """Sign in as `ada`, on the page of the run unless `view` names another one; returns the token."""
    token = create_token(redis, run, "ada", scope)
    page.goto(f"{server}/#/{view or f'runs/{run}'}")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Sign in")).to_have_count(0)
    return token


def in_page(page: Page, module: str, names: str, body: str) -> Any:
    """What `body`, a function body in JavaScript, returns; it may use `names` of a module of the page."""
    head = f"const {{ {names} }} = await import('/page/{module}.js');"
    return page.evaluate(f"async () => {{ {head} {body} }}")


def last_step(page: Page) -> int:
    """The newest step shown on the charts."""
    return int(page.locator(".view").get_attribute("data-last-step") or -1)


def shows_step(page: Page, least: int) -> None:
    """Wait until the charts show a step."""
    deadline = time.monotonic() + WAIT_SECONDS
    while last_step(page) < least:
        assert time.monotonic() < deadline, f"the charts are at step {last_step(page)}, not at {least}"
        page.wait_for_timeout(50)


def points(page: Page) -> int:
    """The number of points on the charts."""
    return int(page.locator(".view").get_attribute("data-points") or 0)


def curve(page: Page, tone: str = "measured") -> str:
    """The path of one line of the entropy chart."""
    return page.locator(f".chart.large .plot g.{tone} path.main").first.get_attribute("d") or ""


def many_steps(redis: Redis, run: str, steps: int) -> None:
    """Write the records of a long run at once."""
    document = msgspec.to_builtins(record(0), str_keys=True)
    for first in range(0, steps, 1000):
        chunk: dict[Any, Any] = {
            str(step): msgspec.json.encode(document | {"step": step, "entropy": 0.4 + 0.1 * (step % 7)})
            for step in range(first, min(first + 1000, steps))
        }
        redis.hset(RunKeys(run).records, mapping=chunk)
    update_status(
        redis, run, phase="running", step=steps, of=2 * steps, record=document | {"step": steps - 1}
    )
