"""Reads of Redis that share a round trip: commands with the functions that parse their replies.

A round trip costs the caller more than parsing its replies, so a route that needs six documents combines their reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from redis import Redis


T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """Commands and the function that parses their replies; `fetch` sends them."""

    commands: tuple[tuple[Any, ...], ...]
    parse: Callable[[list[Any]], T]
    """takes one reply for each command"""

    def map(self, function: Callable[[T], U]) -> Read[U]:
        """The same commands; `function` is applied to the parsed value."""
        return Read(self.commands, lambda replies: function(self.parse(replies)))

    def deferred(self) -> Read[Callable[[], T]]:
        """The same commands, parsed when the fetched function is called; it raises what parsing raises."""
        return Read(self.commands, lambda replies: lambda: self.parse(replies))


def command(parse: Callable[[Any], T], *arguments: Any) -> Read[T]:
    """A read of one command: its name and arguments."""
    return Read((arguments,), lambda replies: parse(replies[0]))


def combine(*reads: Read[Any]) -> Read[tuple[Any, ...]]:
    """Several reads as one; their values in order."""

    def parse(replies: list[Any]) -> tuple[Any, ...]:
        values, at = [], 0
        for read in reads:
            count = len(read.commands)
            values.append(read.parse(replies[at : at + count]))
            at += count
        return tuple(values)

    return Read(tuple(command for read in reads for command in read.commands), parse)


def fetch(redis: Redis, read: Read[T]) -> T:
    """Send the commands in one round trip, without a transaction, and parse their replies."""
    if len(read.commands) == 1:
        return read.parse([redis.execute_command(*read.commands[0])])
    with redis.pipeline(transaction=False) as pipeline:
        for arguments in read.commands:
            pipeline.execute_command(*arguments)
        return read.parse(pipeline.execute())


def as_text(value: bytes | str) -> str:
    """Decode a bulk reply."""
    return value.decode() if isinstance(value, bytes) else value


def as_fields(stored: Mapping[bytes, bytes] | Mapping[str, str]) -> dict[str, str]:
    """Decode a hash or the fields of a stream entry."""
    return {as_text(name): as_text(value) for name, value in stored.items()}


def server_time(redis: Redis) -> float:
    """Redis's clock, seconds since the epoch: the clock of every timestamp that crosses processes."""
    return fetch(redis, TIME)


TIME: Read[float] = command(lambda clock: clock[0] + clock[1] / 1e6, "TIME")
"""`server_time` as a `Read`."""
