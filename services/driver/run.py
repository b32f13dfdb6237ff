"""`scope train`: one run from its configuration to its report.

    Redis → model (warm start) → Ray → generators, and the control plane beside them → evaluate →
    learn until the last step or a stop → evaluate → report

Everything that was started is stopped in reverse order, however the run ends.
"""

from __future__ import annotations

import contextlib
import time
from contextlib import ExitStack

from redis.exceptions import RedisError

from services.access.run_secrets import RunSecrets
from services.access.tokens import register_token
from services.driver.drive import Drive
from services.driver.heartbeat import DriverHeartbeat
from services.driver.progress import Progress
from services.driver.recovery import check_recoverable, fetch_checkpoint
from services.driver.redis_supervisor import RedisSupervisor
from services.driver.stop_signals import StopSignals, Work
from services.driver.storage import Storage
from services.driver.unbegun import begin, withdraw
from services.entropy_target.store import initialise_entropy_target
from services.host.children import Descendants
from services.host.environment import package_versions
from services.recorded.saved_state import StateFile
from services.run.control import request_action
from services.run.directory import RunDirectory
from services.run.state import RunSpec, initialise_run, update_status
from trainer.checkpoint.store import what_is_safe
from trainer.errors import ScopeError


def train(directory: RunDirectory, progress: Progress, stop: StopSignals) -> int:
    """Drive the run in `directory`; returns the exit status: 0 when it has finished or was stopped in order.

    A signal before the first learner step ends the run with the status of that signal, and leaves no directory that
    this start has created. Raises ScopeError for what the user can fix.
    """
    storage = Storage(directory.path)
    stop.say = progress.say
    stop.at_forced_exit(lambda: progress.say(_stopped_early(directory)))
    started = Descendants()
    stop.at_forced_exit(started.end)
    try:
        with ExitStack() as stack:
            # First on the stack, so last: what is still alive after everything was stopped in order is ended.
            stack.callback(started.end)
            _train(directory, progress, stop, storage, stack)
    except KeyboardInterrupt:
        progress.say(_stopped_early(directory))
        return stop.status
    except Exception as error:
        explained = storage.explain(error)
        withdraw(directory, explained or error)
        if explained is None:
            raise
        raise explained from error
    return 0


def _stopped_early(directory: RunDirectory) -> str:
    """Remove the directory if this start has created it and made no step; returns what to tell the user."""
    if withdraw(directory):
        return "stopped before the first step; nothing was kept"
    return f"stopped; continue with: scope train --resume {directory.path}"


def _train(
    directory: RunDirectory, progress: Progress, stop: StopSignals, storage: Storage, stack: ExitStack
) -> None:
    secrets = RunSecrets(directory.path)
    secrets.ensure()
    progress.enter("starting", "Redis")
    queue = stack.enter_context(RedisSupervisor(directory, secrets))
    for warning in queue.warnings:
        progress.say(f"warning: {warning}")
    redis = queue.access.sync()
    stack.callback(redis.close)
    if directory.resumed and (fetched := fetch_checkpoint(directory)) is not None:
        progress.say(fetched)
    for note in check_recoverable(directory, redis):
        progress.say(f"warning: {note}")
    register_token(redis, directory.run_id, secrets.token(), "owner", "admin")
    initialise_entropy_target(redis, directory.run_id)
    initialise_run(redis, directory.run_id, _spec(directory))
    stack.enter_context(StateFile(directory.path, directory.run_id, queue.access))
    heartbeat = stack.enter_context(DriverHeartbeat(redis, directory.run_id))
    stop.request = lambda: request_action(redis, directory.run_id, "stop", "signal")
    try:
        Drive(directory, queue, redis, progress, stop, storage, heartbeat, stack).run()
        begin(directory)
    except KeyboardInterrupt:
        with contextlib.suppress(RedisError):
            update_status(redis, directory.run_id, phase="finished")
        raise
    except RedisError as error:
        url = directory.config.redis.url
        server = "The embedded Redis" if url is None else f"redis.url={url!r}"
        raise ScopeError(
            f"{server} was lost during the run: {error}. "
            f"{what_is_safe(directory.path / 'checkpoints')} When Redis is back: scope train --resume {directory.path}"
        ) from error
    except BaseException as error:
        # Redis itself may be the cause; a second error must not hide the first.
        with contextlib.suppress(RedisError):
            update_status(redis, directory.run_id, phase="failed", error=str(error) or type(error).__name__)
        raise
    finally:
        # A signal must not interrupt the end of what was started.
        stop.work = Work.END


def _spec(directory: RunDirectory) -> RunSpec:
    return RunSpec(
        run_id=directory.run_id,
        config=directory.config.model_dump(mode="json"),
        config_hash=directory.config_hash,
        started_at=time.time(),
        versions=package_versions(),
    )
