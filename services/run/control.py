"""The desired state of a run: whether it works, holds or stops, and how many checkpoints were asked for beside its own.

Asked for by people (control plane) and by the driver's signals, read by the learner at step boundaries and by the
generators' leases. Stop is final for an incarnation: `initialise_run` begins the next one with "run".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from services.redis.keys import RunKeys
from services.redis.query import Read, as_text, fetch, one, together

if TYPE_CHECKING:
    from redis import Redis

State = Literal["run", "pause", "stop"]
Action = Literal["pause", "resume", "stop", "checkpoint"]

_ASK = """
local clock = redis.call('TIME')
local state = redis.call('GET', KEYS[1]) or 'run'
local phase = redis.call('HGET', KEYS[3], 'phase')
local wanted = ({pause = 'pause', resume = 'run', stop = 'stop'})[ARGV[1]] or state
local ended = phase == 'finished' or phase == 'failed'
if (ended or state == 'stop') and ARGV[1] ~= 'stop' then return {'refused', ended and phase or 'stopping'} end
if wanted ~= state then redis.call('SET', KEYS[1], wanted) end
if ARGV[1] == 'checkpoint' then redis.call('HINCRBY', KEYS[2], 'requested', 1) end
redis.call('XADD', KEYS[4], '*', 'action', ARGV[1], 'by', ARGV[2], 'origin', ARGV[3], 'before', state,
           'after', wanted, 'at', string.format('%d.%06d', clock[1], clock[2]))
return {'done', wanted}
"""


class Refused(Exception):
    """The run has ended or is stopping: nothing can be asked of it."""

    def __init__(self, state: str) -> None:
        self.state = state
        super().__init__(f"the run is {state}" if state == "stopping" else f"the run has {state}")


class Desired(NamedTuple):
    """What is asked of the run now."""

    state: State
    checkpoints: int
    """asked for and not written yet"""


def ask(redis: Redis, run_id: str, action: Action, by: str, origin: str = "local") -> None:
    """Ask for a state, or for a checkpoint at the next step boundary; the audit says who did. Idempotent but for that.

    Raises Refused for a run that has ended or stops, unless it is asked to stop.
    """
    keys = RunKeys(run_id)
    names = (keys.control, keys.checkpoints, keys.status, keys.audit)
    reply = redis.eval(_ASK, len(names), *names, action, by, origin)
    outcome, state = (as_text(part) for part in cast("list[Any]", reply))
    if outcome == "refused":
        raise Refused(state)


def desired(redis: Redis, run_id: str) -> Desired:
    """What is asked of the run at this moment."""
    return fetch(redis, desired_read(run_id))


def desired_read(run_id: str) -> Read[Desired]:
    """The read of `desired`."""
    keys = RunKeys(run_id)
    state = one(lambda stored: cast("State", as_text(stored or b"run")), "GET", keys.control)
    asked, done = (
        one(lambda n: int(n or 0), "HGET", keys.checkpoints, name) for name in ("requested", "done")
    )
    return together(state, asked, done).then(lambda found: Desired(found[0], found[1] - found[2]))


def checkpoints_done(redis: Redis, run_id: str, count: int) -> None:
    """Note that `count` of the checkpoints that were asked for are written."""
    redis.hincrby(RunKeys(run_id).checkpoints, "done", count)


def stop_requested(redis: Redis, run_id: str) -> bool:
    """Whether somebody asked this incarnation of the run to stop."""
    return desired(redis, run_id).state == "stop"
