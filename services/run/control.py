"""Requests to a run: its desired state (run, pause or stop) and checkpoints beside those of its schedule.

People make them through the control plane, and the driver makes them on signals. The learner reads them at step
boundaries; groups are leased only in the state `run`. A stop is final for an incarnation: `initialise_run` sets the
next one to `run`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from services.redis.keys import RunKeys
from services.redis.query import Read, as_text, combine, command, fetch
from services.redis.scripts import script_text

if TYPE_CHECKING:
    from redis import Redis

State = Literal["run", "pause", "stop"]
Action = Literal["pause", "resume", "stop", "checkpoint"]


class Refused(Exception):
    """The run has ended or is stopping, and accepts no requests."""

    def __init__(self, state: str) -> None:
        self.state = state
        super().__init__(f"the run is {state}" if state == "stopping" else f"the run has {state}")


class Desired(NamedTuple):
    """The requests to a run."""

    state: State
    checkpoints: int
    """requested and not written yet"""


def request_action(redis: Redis, run_id: str, action: Action, by: str, origin: str = "local") -> None:
    """Request a state, or a checkpoint at the next step boundary; the request enters the audit.

    Requesting a state again changes nothing. Each request for a checkpoint counts. Raises Refused for a run that has
    ended or is stopping, unless `action` is `stop`.
    """
    keys, script = RunKeys(run_id), redis.register_script(script_text("services.run", "request_action"))
    reply = script(keys=[keys.control, keys.checkpoints, keys.status, keys.audit], args=[action, by, origin])
    outcome, state = (as_text(part) for part in cast("list[Any]", reply))
    if outcome == "refused":
        raise Refused(state)


def desired(redis: Redis, run_id: str) -> Desired:
    """The desired state of the run, and the checkpoints requested of it."""
    return fetch(redis, desired_read(run_id))


def desired_read(run_id: str) -> Read[Desired]:
    """`desired` as a `Read`."""
    keys = RunKeys(run_id)
    asked, done = (
        command(lambda n: int(n or 0), "HGET", keys.checkpoints, name) for name in ("requested", "done")
    )
    return combine(state_read(run_id), asked, done).map(lambda found: Desired(found[0], found[1] - found[2]))


def state_read(run_id: str) -> Read[State]:
    """The desired state of the run, as a `Read`."""
    return command(lambda stored: cast("State", as_text(stored or b"run")), "GET", RunKeys(run_id).control)


def checkpoints_done(redis: Redis, run_id: str, count: int) -> None:
    """Record that `count` of the requested checkpoints are written."""
    redis.hincrby(RunKeys(run_id).checkpoints, "done", count)
