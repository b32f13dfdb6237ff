"""Fencing: only the newest learner incarnation may write to Redis.

The key `fence` of a run holds the epoch of its newest incarnation. Every script that the learner writes with includes
`lua/fence.lua`, which refuses an older epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from redis.commands.core import Script

_CODE = "FENCED"


class FencedError(RuntimeError):
    """A write by a learner incarnation that a newer one has replaced; nothing was written."""

    def __init__(self, epoch: int, current: int) -> None:
        self.epoch, self.current = epoch, current
        super().__init__(
            f"learner epoch {epoch} may not write: epoch {current} is in force. Another learner has "
            "taken over this run; this one must stop."
        )

    def __reduce__(self) -> tuple[type[FencedError], tuple[int, int]]:
        """Pickle support: the error crosses from the learner's process to the driver's."""
        return FencedError, (self.epoch, self.current)


def fenced_error(error: ResponseError, epoch: int) -> FencedError | None:
    """Decode the error reply of a script that `epoch` called; None for an error that is not the fence's."""
    code, _, newest = str(error).partition(" ")
    return FencedError(epoch, int(newest.split()[0])) if code == _CODE else None


def call_fenced(
    script: Script, fence: str, epoch: int, keys: Sequence[str] = (), args: Sequence[Any] = ()
) -> Any:
    """Call a script that includes `lua/fence.lua`, with `fence` as KEYS[1] and `epoch` as ARGV[1]; returns its reply.

    Raises FencedError when `epoch` is not that of the newest incarnation.
    """
    try:
        return script(keys=[fence, *keys], args=[epoch, *args])
    except ResponseError as error:
        fenced = fenced_error(error, epoch)
        if fenced is None:
            raise
        raise fenced from error
