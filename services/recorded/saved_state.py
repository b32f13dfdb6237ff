"""The documents of a run that are in Redis only, saved in the run directory as `run_state.json`.

They are the run's status and heartbeats, its entropy target with its history, its audit and the counters of its queue.
Step records, evaluations and sampled rollouts have files of their own, and the payloads of the queue are not saved. The
driver saves the documents every few seconds (`StateFile`); a reader without Redis restores them (`restore`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import msgspec
from redis import Redis
from redis.exceptions import RedisError

from services.redis.access import RedisAccess
from services.redis.keys import RunKeys
from services.redis.query import server_time
from trainer.errors import ScopeError
from trainer.files import write_atomically

FILE = "run_state.json"
EVERY_SECONDS = 5.0
MOST_ENTRIES = 10_000
"""newest entries of each stream that are saved"""

STRINGS = ("spec", "control")
HASHES = (
    "status",
    "checkpoints",
    "generators",
    "counters",
    "entropy_target",
    "entropy_target_applied",
    "entropy_target_steps",
)
STREAMS = ("entropy_target_history", "audit", "dead_letter_outcomes")
"""properties of `RunKeys`, by the type of their values"""

Entry = tuple[str, dict[str, str]]
"""id and fields of an entry of a stream"""


class SavedState(msgspec.Struct, frozen=True, kw_only=True):
    """Documents by the names of `STRINGS`, `HASHES` and `STREAMS`; a document that the run lacks is absent."""

    saved_at: float
    """seconds since the epoch, by Redis's clock"""
    run_id: str
    strings: dict[str, str] = {}
    hashes: dict[str, dict[str, str]] = {}
    streams: dict[str, list[Entry]] = {}
    """the newest `MOST_ENTRIES` of each stream, oldest first"""


def take_state(redis: Redis, run_id: str) -> SavedState:
    """Read the documents of a run from Redis in one transaction."""
    keys = RunKeys(run_id)
    with redis.pipeline(transaction=True) as pipeline:
        for name in STRINGS:
            pipeline.get(getattr(keys, name))
        for name in HASHES:
            pipeline.hgetall(getattr(keys, name))
        for name in STREAMS:
            pipeline.xrevrange(getattr(keys, name), count=MOST_ENTRIES)
        replies = cast("list[Any]", pipeline.execute())
    found = dict(zip((*STRINGS, *HASHES, *STREAMS), replies, strict=True))
    return SavedState(
        saved_at=server_time(redis),
        run_id=run_id,
        strings={name: _text(found[name]) for name in STRINGS if found[name] is not None},
        hashes={name: _texts(found[name]) for name in HASHES if found[name]},
        streams={
            name: [(_text(entry_id), _texts(fields)) for entry_id, fields in reversed(found[name])]
            for name in STREAMS
            if found[name]
        },
    )


def restore(redis: Redis, run_id: str, saved: SavedState) -> None:
    """Write the saved documents under `run_id`, except the spec and the status.

    Raises RedisError for documents that Redis does not accept.
    """
    keys = RunKeys(run_id)
    with redis.pipeline(transaction=True) as pipeline:
        for name in {*saved.hashes, *saved.streams} & {*HASHES, *STREAMS} - {"status"}:
            pipeline.delete(getattr(keys, name))
        if "control" in saved.strings:
            pipeline.set(keys.control, saved.strings["control"])
        for name in set(HASHES) - {"status"}:
            if fields := saved.hashes.get(name):
                pipeline.hset(getattr(keys, name), mapping=cast("Mapping[Any, Any]", fields))
        for name in STREAMS:
            for entry_id, fields in saved.streams.get(name, ()):
                pipeline.xadd(getattr(keys, name), cast("dict[Any, Any]", fields), id=entry_id)
        pipeline.execute()


def read_saved(directory: Path) -> SavedState | None:
    """The saved documents of a run directory, or None if it has none. Raises ScopeError for a damaged file."""
    path = directory / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=SavedState)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ScopeError(
            f"{path} cannot be read: {error}. Move it aside to see the run without it."
        ) from error


class StateFile:
    """Keeps `run_state.json` up to date while a driver lives; a context manager.

    The run does not depend on the file: a state that cannot be read or written is left out.
    """

    def __init__(self, directory: Path, run_id: str, access: RedisAccess) -> None:
        self._path, self._run_id, self._access = directory / FILE, run_id, access
        self._newest: SavedState | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="run-state", daemon=True)

    def __enter__(self) -> Self:
        self._save()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        if not self._save() and error is not None:
            self._write_failure(error)

    def _work(self) -> None:
        while not self._end.wait(EVERY_SECONDS):
            self._save()

    def _save(self) -> bool:
        """Write the documents of now; returns whether Redis gave them."""
        try:
            with self._access.without_retries() as redis:
                self._newest = take_state(redis, self._run_id)
        except (RedisError, ScopeError):
            return False
        self._write(self._newest)
        return True

    def _write_failure(self, error: BaseException) -> None:
        """Note the end of a run whose Redis no longer answers: nothing else records why it ended."""
        if self._newest is None:
            return
        ended = {"phase": "failed", "error": str(error) or type(error).__name__}
        status = self._newest.hashes.get("status", {}) | ended
        self._write(msgspec.structs.replace(self._newest, hashes=self._newest.hashes | {"status": status}))

    def _write(self, state: SavedState) -> None:
        with contextlib.suppress(OSError):
            write_atomically(self._path, msgspec.json.encode(state))


def _texts(stored: Mapping[bytes, bytes]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in stored.items()}


def _text(stored: bytes) -> str:
    # Group ids and reasons can come from entries of the queue that are not valid UTF-8.
    return stored.decode(errors="replace")
