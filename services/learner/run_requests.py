"""Pause, stop and checkpoint requests of a run, as rank 0 takes them between steps and answers them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from redis import Redis

from services.run.control import checkpoints_done, desired
from services.run.phases import Phase
from services.run.state import update_status

HOLD_SECONDS = 5.0
"""Longest wait of one call while the run is paused: the other ranks wait for its result in a collective call."""
HOLD_POLL_SECONDS = 0.2


class RunRequests:
    """The requests to one run, for the learner incarnation of `epoch`; for one thread.

    A checkpoint request is taken when `next` returns "checkpoint", promised while the checkpoint is being written, and
    counted as done in Redis when it is committed. One checkpoint answers every request made before it was taken.
    """

    def __init__(self, redis: Redis, run_id: str, epoch: int) -> None:
        self._redis, self._run_id, self._epoch = redis, run_id, epoch
        self._taken = self._promised = 0
        self._phase: Phase = "running"

    def next(self, settle: Callable[[], None]) -> Literal["stop", "checkpoint", "idle"] | None:
        """What to do in place of the next step; None: nothing, the run continues.

        A paused run waits up to `HOLD_SECONDS` for a request and then returns "idle". Writes the phase `running`,
        `paused` or `stopping` to the run's status. settle: called before each look at the requests, so that checkpoints
        in flight are settled during a pause; what it raises is raised here. Raises FencedError when a newer incarnation
        exists.
        """
        self._taken = 0
        deadline = time.monotonic() + HOLD_SECONDS
        while True:
            settle()
            now = desired(self._redis, self._run_id)
            if now.state == "stop":
                self._announce("stopping")
                return "stop"
            if now.checkpoints > self._promised:
                self._taken = now.checkpoints - self._promised
                return "checkpoint"
            if now.state == "run":
                self._announce("running")
                return None
            self._announce("paused")
            if time.monotonic() > deadline:
                return "idle"
            time.sleep(HOLD_POLL_SECONDS)

    def pending(self) -> bool:
        """Whether `next` would return something, so that a wait for groups should end."""
        now = desired(self._redis, self._run_id)
        return now.state != "run" or now.checkpoints > self._promised

    def answer_checkpoint(self, *, in_flight: bool) -> None:
        """Answer the requests taken last: they are done, or promised while their checkpoint is `in_flight`."""
        if in_flight:
            self._promised += self._taken
        else:
            checkpoints_done(self._redis, self._run_id, self._taken)
        self._taken = 0

    def checkpoint_committed(self) -> None:
        """Note that the checkpoint in flight is committed: the promised requests are done."""
        if self._promised:
            checkpoints_done(self._redis, self._run_id, self._promised)
            self._promised = 0

    def announce_saving(self) -> None:
        """Write the phase `saving`: the last step is done. After a stop the phase stays `stopping`."""
        if not self.stopping:
            self._announce("saving")

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested, and taken."""
        return self._phase == "stopping"

    def announce_learned(self) -> None:
        """Write the phase `learned`: the learner has nothing left to write."""
        self._announce("learned")

    def _announce(self, phase: Phase) -> None:
        """Write the phase if it changed. A paused run writes it each time, which renews the heartbeat."""
        if phase == "paused" or self._phase != phase:
            update_status(self._redis, self._run_id, phase=phase, epoch=self._epoch)
        self._phase = phase
