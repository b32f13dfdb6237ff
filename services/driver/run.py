"""`scope train`: one run from its configuration to its report.

    check everything cheap → Redis → model (warm start) → Ray → control plane → generators → evaluate →
    learn until the last step or a stop → evaluate → report

Whatever is started is stopped on every way out, in the reverse order.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from redis import Redis

from services.driver.cluster import ray_cluster
from services.driver.progress import Progress
from services.driver.run_directory import RunDirectory, package_versions
from services.listen import bind
from services.redis_client import RedisAccess
from services.redis_client import check as check_redis
from services.redis_server import EmbeddedRedis, find_server
from services.run_state import RunSpec, initialise_run, read_status, request_stop, update_status
from services.tokens import RunSecrets, register_token
from trainer.config import RunConfig
from trainer.errors import ScopeError
from trainer.tasks import make_task
from trainer.trajectory import PolicyVersion

EVALUATIONS = "evaluations.json"
POLL_SECONDS = 0.5


def train(directory: RunDirectory, progress: Progress) -> int:
    """Drive the run; returns the exit status: 0 when it finished or stopped in order.

    Raises ScopeError for whatever a user can mend.
    """
    started = time.monotonic()
    config = directory.config
    preflight(config)
    with ExitStack() as stack:
        directory.lock()
        secrets = RunSecrets(directory.path)
        secrets.ensure()
        access = stack.enter_context(_redis(config, directory, secrets, progress))
        redis = access.sync()
        stack.callback(redis.close)
        register_token(redis, directory.run_id, secrets.token(), "owner", "admin")
        initialise_run(redis, directory.run_id, _spec(directory))
        stop = stack.enter_context(_StopSignals(redis, directory.run_id, progress))
        try:
            _run(directory, access, redis, progress, stop, stack, started)
        except BaseException as error:
            update_status(redis, directory.run_id, phase="failed", error=str(error) or type(error).__name__)
            raise
    return 0


def preflight(config: RunConfig) -> None:
    """Everything that can fail cheaply, before anything starts: task, model directory, programs, ports."""
    make_task(config.task)
    if config.model.path is not None and not (Path(config.model.path).expanduser() / "config.json").is_file():
        raise ScopeError(
            f"model.path={config.model.path!r} is not a Hugging Face model directory: it has no config.json. Give "
            "a directory that transformers loads, or leave model.path unset for the built-in tiny model."
        )
    if config.redis.url is None:
        find_server(config.redis)
    if config.control_plane.enabled:
        bind(config.control_plane.host, config.control_plane.port).close()
    if config.ray.address is None and config.ray.dashboard:
        bind("127.0.0.1", config.ray.dashboard_port, field="ray.dashboard_port").close()


def _run(
    directory: RunDirectory,
    access: RedisAccess,
    redis: Redis,
    progress: Progress,
    stop: _StopSignals,
    stack: ExitStack,
    started: float,
) -> None:
    config, run_id = directory.config, directory.run_id
    update_status(redis, run_id, phase="warm_start")
    try:
        model_dir = _model(config, directory, progress, stop)
    except _StoppedEarly:
        update_status(redis, run_id, phase="finished")
        progress.say("stopped before training began; nothing was learned yet")
        return
    progress.say("starting Ray")
    dashboard = stack.enter_context(ray_cluster(config, run_id, directory.path))
    if dashboard:
        progress.say(f"Ray dashboard: http://{dashboard}")
    if config.control_plane.enabled:
        from services.control_plane.serve_app import start_on_serve
        from services.control_plane.serve_app import stop as stop_serve

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        url = start_on_serve(access, config.control_plane.host, config.control_plane.port)
        if config.ray.address is not None:
            stack.callback(stop_serve)
        directory.write_endpoint(url)
        progress.say(f"control plane: {url}  (scope status, scope entropy set)")

    from services.driver.generator_pool import GeneratorPool
    from services.driver.learner_job import LearnerJob
    from services.generator import GeneratorSpec
    from services.learner.spec import LearnerSpec
    from services.report import Evaluations, write_report

    fresh = not any((directory.path / "checkpoints").glob("step-*"))
    specs = [
        GeneratorSpec(
            run_id, role, index, config, str(model_dir), access, PolicyVersion(0, 0) if fresh else None
        )
        for role in config.roles
        for index in range(config.generators.base if role == "base" else config.generators.adaptive)
    ]
    progress.say(f"starting {len(specs)} generators: {', '.join(spec.generator_id for spec in specs)}")
    pool = GeneratorPool(specs)
    stack.callback(pool.stop)
    pool.wait_ready()
    learner = LearnerJob(
        LearnerSpec(
            run_id,
            config,
            directory.config_hash,
            str(model_dir),
            str(directory.path),
            access,
            tuple(spec.generator_id for spec in specs),
        )
    )
    evaluations = Evaluations(directory.path / EVALUATIONS)
    if fresh:
        progress.say(f"evaluating the start on {config.evaluation.problems} held-out problems")
        evaluations.add(0, _evaluate(pool, config), config.evaluation)
        progress.say(evaluations.line(0))
    update_status(redis, run_id, phase="running")
    pool.run()
    learner.start()
    stack.callback(learner.abandon)
    while not learner.wait(POLL_SECONDS):
        for note in pool.supervise():
            progress.say(note)
        progress.show(read_status(redis, run_id))
    status = read_status(redis, run_id)
    progress.show(status)
    learner.result()
    done = status.step if status else 0
    if done == config.steps:
        progress.say(f"evaluating the end on {config.evaluation.problems} held-out problems")
        evaluations.add(done, _evaluate(pool, config), config.evaluation)
        progress.say(evaluations.line(done))
    write_report(directory, evaluations, redis, wall_seconds=time.monotonic() - started)
    update_status(redis, run_id, phase="finished")
    progress.say(f"results: {directory.path}/report.json, report.png, model/")
    if done < config.steps:
        progress.say(
            f"stopped at step {done} of {config.steps}; continue with: scope train --resume {directory.path}"
        )


def _evaluate(pool: Any, config: RunConfig) -> list[int]:
    return pool.evaluate(config.evaluation.problems, config.evaluation.samples, config.evaluation.temperature)


def _model(config: RunConfig, directory: RunDirectory, progress: Progress, stop: _StopSignals) -> Path:
    """The starting model's directory: the configured one, or the warm-started tiny one."""
    if config.model.path is not None:
        return Path(config.model.path).expanduser().resolve()
    from trainer.warm_start import WarmStartProgress, ensure_warm_start

    def on_progress(warm_start: WarmStartProgress) -> None:
        if stop.requested:
            raise _StoppedEarly
        progress.warm_start(warm_start)

    cache = Path(config.warm_start.cache_dir).expanduser()
    warm = ensure_warm_start(config, cache, on_progress)
    progress.say(
        f"warm start{' (from cache)' if warm.from_cache else ''}: {warm.parameters:,} parameters, "
        f"entropy {warm.entropy:.2f} nats/token, pass@1 {warm.pass_at_1:.2f}, {warm.path}"
    )
    directory.write_json("warm_start.json", {**asdict(warm), "path": str(warm.path)})
    return warm.path


def _spec(directory: RunDirectory) -> RunSpec:
    return RunSpec(
        run_id=directory.run_id,
        config=directory.config.model_dump(mode="json"),
        config_hash=directory.config_hash,
        started_at=time.time(),
        versions=package_versions(),
    )


@contextmanager
def _redis(
    config: RunConfig, directory: RunDirectory, secrets: RunSecrets, progress: Progress
) -> Iterator[RedisAccess]:
    if config.redis.url is not None:
        access = RedisAccess(config.redis.url, None, config.redis.connect_timeout_seconds)
        for warning in check_redis(access):
            progress.say(f"warning: {warning}")
        yield access
        return
    server = EmbeddedRedis(config.redis, data_dir=directory.path / "redis", state_dir=secrets.directory)
    with server:
        yield server.access


class _StoppedEarly(Exception):
    """A stop was asked for before there was anything to checkpoint."""


class _StopSignals:
    """First Ctrl-C or SIGTERM: stop in order. Second: give up at once."""

    def __init__(self, redis: Redis, run_id: str, progress: Progress) -> None:
        self._redis, self._run_id, self._progress = redis, run_id, progress
        self.requested = False

    def __enter__(self) -> _StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in getattr(self, "_before", {}).items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self._progress.say(
            f"{signal.Signals(number).name}: stopping after this step (again to give up at once)"
        )
        threading.Thread(target=request_stop, args=(self._redis, self._run_id), daemon=True).start()
