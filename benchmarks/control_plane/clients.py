"""Load generator: reading and writing clients on one event loop, in a separate process so that their cost is known.

`python -m benchmarks.control_plane.clients` reads a `Task` as JSON from standard input, makes its requests and prints
`Seen` as JSON. The clients share the cores with the server, so they use aiohttp, which costs less than httpx.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Task:
    """The load to generate."""

    url: str
    """URL of a run: http://host:port/v1/runs/<id>"""
    token: str
    seconds: float
    paths: tuple[str, ...]
    """paths below `url` that each reading client requests in turn"""
    readers: int
    read_every: float
    """seconds between the requests of a reading client; 0 for no pause"""
    writers: int = 0
    write_every: float = 1.0
    base: float = 0.0
    """entropy target that writing clients vary by up to 0.002, nats per token"""


@dataclass
class Seen:
    """What the clients measured."""

    reads: list[float] = field(default_factory=list)
    """latencies, seconds"""
    writes: list[float] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    """generations of the acknowledged changes"""
    errors: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0
    """processor time of the clients, from their first request to the last"""


async def _read(session: aiohttp.ClientSession, task: Task, seen: Seen, until: float, offset: float) -> None:
    await asyncio.sleep(offset)
    turn = 0
    while (started := time.monotonic()) < until:
        try:
            async with session.get(task.url + task.paths[turn % len(task.paths)]) as answer:
                body = await answer.read()
                if answer.status != 200:
                    seen.errors.append(f"{answer.status} {body[:200]!r}")
        except (aiohttp.ClientError, TimeoutError) as error:
            seen.errors.append(repr(error))
        seen.reads.append(time.monotonic() - started)
        turn += 1
        await asyncio.sleep(max(0.0, task.read_every - (time.monotonic() - started)))


async def _write(session: aiohttp.ClientSession, task: Task, seen: Seen, until: float, offset: float) -> None:
    await asyncio.sleep(offset)
    turn = 0
    while (started := time.monotonic()) < until:
        headers = {"If-Match": "*", "Idempotency-Key": secrets.token_hex(8)}
        change = {"target": task.base + 0.001 * (turn % 3)}
        try:
            async with session.put(f"{task.url}/entropy-target", json=change, headers=headers) as answer:
                body = await answer.read()
                if answer.status in (200, 202):
                    seen.generations.append(json.loads(body)["metadata"]["generation"])
                else:
                    seen.errors.append(f"{answer.status} {body[:200]!r}")
        except (aiohttp.ClientError, TimeoutError) as error:
            seen.errors.append(repr(error))
        seen.writes.append(time.monotonic() - started)
        turn += 1
        await asyncio.sleep(max(0.0, task.write_every - (time.monotonic() - started)))


async def run(task: Task) -> Seen:
    """Run every client for `task.seconds`. Clients start evenly spread over their request period."""
    seen, until, used = Seen(), time.monotonic() + task.seconds, time.process_time()
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {task.token}"},
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
    ) as session:
        clients = [
            _read(session, task, seen, until, task.read_every * i / task.readers) for i in range(task.readers)
        ]
        clients += [
            _write(session, task, seen, until, task.write_every * i / task.writers)
            for i in range(task.writers)
        ]
        await asyncio.gather(*clients)
    seen.cpu_seconds = time.process_time() - used
    return seen


def main() -> None:
    """Read a `Task` from standard input and print what the clients measured."""
    given: dict[str, Any] = json.loads(sys.stdin.read())
    print(json.dumps(asdict(asyncio.run(run(Task(**{**given, "paths": tuple(given["paths"])}))))))


if __name__ == "__main__":
    main()
