"""Reading Redis in one round trip: what is wanted is said first, then asked for together.

A round trip costs the asking process more than the reading of its reply, so a route that needs six documents asks once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from redis import Redis

if TYPE_CHECKING:
    from redis import Redis


T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """Commands, and what their replies mean."""

    commands: tuple[tuple[Any, ...], ...]
    parse: Callable[[list[Any]], T]
    """of the replies, one for each command"""

    def then(self, further: Callable[[T], U]) -> Read[U]:
        """The same commands, with what `further` makes of their meaning."""
        return Read(self.commands, lambda replies: further(self.parse(replies)))

    def later(self) -> Read[Callable[[], T]]:
        """The same commands; their meaning is made, or its error raised, once it is asked for."""
        return Read(self.commands, lambda replies: lambda: self.parse(replies))


def one(parse: Callable[[Any], T], *command: Any) -> Read[T]:
    """A read of one command."""
    return Read((command,), lambda replies: parse(replies[0]))


def together(*reads: Read[Any]) -> Read[tuple[Any, ...]]:
    """Several reads as one; the meanings in their order."""

    def parse(replies: list[Any]) -> tuple[Any, ...]:
        meanings, at = [], 0
        for read in reads:
            count = len(read.commands)
            meanings.append(read.parse(replies[at : at + count]))
            at += count
        return tuple(meanings)

    return Read(tuple(command for read in reads for command in read.commands), parse)


def fetch(redis: Redis, wanted: Read[T]) -> T:
    """Ask, in one round trip. The commands may see a change that falls between them."""
    if len(wanted.commands) == 1:
        return wanted.parse([redis.execute_command(*wanted.commands[0])])
    with redis.pipeline(transaction=False) as pipeline:
        for command in wanted.commands:
            pipeline.execute_command(*command)
        return wanted.parse(pipeline.execute())


def as_text(value: bytes | str) -> str:
    """The text of a bulk reply."""
    return value.decode() if isinstance(value, bytes) else value


def as_fields(stored: Mapping[bytes, bytes] | Mapping[str, str]) -> dict[str, str]:
    """The text of a hash or of a stream entry."""
    return {as_text(name): as_text(value) for name, value in stored.items()}


def server_time(redis: Redis) -> float:
    """Redis's clock, seconds since the epoch: the clock of every timestamp that crosses processes."""
    return fetch(redis, TIME)


TIME: Read[float] = one(lambda clock: clock[0] + clock[1] / 1e6, "TIME")
"""The read of `server_time`."""
