"""Attackers without a token, in a process of their own: many connections that send too much, too slowly or nothing.

`python -m benchmarks.control_plane.attacks NAME PORT SECONDS` attacks the server at that port of 127.0.0.1 and prints
what it saw as JSON: connections opened, bytes sent, and how the server answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

HOST = "127.0.0.1"
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
HEADER_BYTES = 64 << 20
PIECE = b"a" * 65536
ANSWER_SECONDS = 30.0


@dataclass
class Seen:
    """What the attackers did and got."""

    connections: int = 0
    sent: int = 0
    """bytes handed to the kernel"""
    answers: Counter[str] = field(default_factory=Counter)
    """status, or `none` for a connection that ended without an answer"""


class Client(NamedTuple):
    """One connection of an attacker."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: Seen

    async def send(self, data: bytes) -> None:
        """Send, and wait until the kernel has taken it."""
        self.writer.write(data)
        await self.writer.drain()
        self.seen.sent += len(data)

    async def answered(self) -> None:
        """Wait for an answer, or for the end of the connection."""
        async with asyncio.timeout(ANSWER_SECONDS):
            head = await self.reader.readline()
        self.seen.answers[head.split()[1].decode() if head else "none"] += 1


async def insist(client: Client, data: bytes, times: int) -> None:
    """Send `data` again and again until the server takes no more; then look for an answer."""
    with contextlib.suppress(TimeoutError):
        for _ in range(times):
            async with asyncio.timeout(2):
                await client.send(data)
    await client.answered()


async def large_header(client: Client) -> None:
    """A header field of 64 MB."""
    await client.send(REQUEST + b"X: ")
    await insist(client, PIECE, HEADER_BYTES // len(PIECE))


async def many_fields(client: Client) -> None:
    """A million header fields."""
    await client.send(REQUEST)
    await insist(client, b"a: b\r\n" * 10_000, 100)


async def large_fields(client: Client) -> None:
    """The largest header that is accepted, again and again."""
    await client.send(REQUEST + b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 90 + b"\r\n")
    await client.answered()


async def slow_header(client: Client) -> None:
    """A header that arrives one byte a second."""
    waiting = asyncio.ensure_future(client.answered())
    for byte in REQUEST + b"X: " + b"a" * 1000:
        await client.send(bytes([byte]))
        if (await asyncio.wait([waiting], timeout=1))[0]:
            break
    await waiting


async def silent(client: Client) -> None:
    """A connection on which nothing is sent."""
    await client.answered()


async def unfinished_body(client: Client) -> None:
    """A body that does not arrive."""
    await client.send(
        b"PUT /v1/runs/idle/entropy-target HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"
    )
    while (await client.reader.read(65536)) != b"":
        client.seen.answers["some"] += 1


async def small_chunks(client: Client) -> None:
    """A body in chunks of one byte."""
    await client.send(b"PUT /v1/nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    await client.send(b"1\r\na\r\n" * 20_000)
    await client.answered()


async def connects(client: Client) -> None:
    """Connections that end at once."""


async def unread_answers(client: Client) -> None:
    """Requests whose answers are not read."""
    for _ in range(1000):
        await client.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")


async def refused_requests(client: Client) -> None:
    """Complete requests with a token that is not valid."""
    await client.send(
        b"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer scope_wrong\r\n\r\n"
    )
    await client.answered()


class Attack(NamedTuple):
    """What each attacker does with a connection, and how many attackers there are."""

    act: Callable[[Client], Awaitable[None]]
    attackers: int


ATTACKS = {
    "header of 64 MB": Attack(large_header, 8),
    "million fields": Attack(many_fields, 8),
    "largest header": Attack(large_fields, 8),
    "header byte by byte": Attack(slow_header, 300),
    "silent sockets": Attack(silent, 600),
    "unfinished bodies": Attack(unfinished_body, 300),
    "one-byte chunks": Attack(small_chunks, 8),
    "connections": Attack(connects, 16),
    "answers left unread": Attack(unread_answers, 100),
    "invalid tokens": Attack(refused_requests, 16),
}


async def attack(name: str, port: int, seconds: float) -> Seen:
    """Attack for `seconds`; attackers whose connection ends open another."""
    seen, act, until = Seen(), ATTACKS[name].act, time.monotonic() + seconds

    async def attacker() -> None:
        while time.monotonic() < until:
            try:
                reader, writer = await asyncio.open_connection(HOST, port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            seen.connections += 1
            try:
                await act(Client(reader, writer, seen))
            except (OSError, TimeoutError):
                seen.answers["none"] += 1
            finally:
                writer.transport.abort()

    attackers = [asyncio.ensure_future(attacker()) for _ in range(ATTACKS[name].attackers)]
    await asyncio.wait(attackers, timeout=seconds)
    for task in attackers:
        task.cancel()
    await asyncio.gather(*attackers, return_exceptions=True)
    return seen


def main() -> None:
    """Attack as the arguments say and print what was seen."""
    name, port, seconds = sys.argv[1:]
    began = time.process_time()
    seen = asyncio.run(attack(name, int(port), float(seconds)))
    shown = {"connections": seen.connections, "sent": seen.sent, "answers": dict(seen.answers)}
    print(json.dumps(shown | {"cpu_seconds": round(time.process_time() - began, 2)}))


if __name__ == "__main__":
    main()
