"""`scope train`: one run from its configuration to its report.

    Redis → model (warm start) → Ray → generators, and the control plane beside them → evaluate →
    learn until the last step or a stop → evaluate → report

Everything that was started is stopped in reverse order, however the run ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from redis import Redis
from redis.exceptions import RedisError

from services.access.run_secrets import RunSecrets
from services.access.tokens import register_token
from services.driver.cluster import ray_cluster
from services.driver.progress import Progress
from services.driver.recovery import (
    check_recoverable,
    checkpoint_mirror,
    checkpoint_store,
    fetch_checkpoint,
)
from services.driver.redis_supervisor import RedisSupervisor
from services.driver.stop_signals import StoppedEarly, StopSignals
from services.entropy_target.store import initialise_entropy_target
from services.host.environment import package_versions
from services.online_eval.scheduler import EvaluationScheduler
from services.recorded.saved_state import StateFile
from services.records.ledger import FOLDER
from services.results.evaluations import EVALUATIONS
from services.run.directory import RunDirectory
from services.run.state import RunSpec, add_evaluation, initialise_run, read_status, update_status
from trainer.checkpoint.store import Best
from trainer.determinism import compute_environment
from trainer.errors import ScopeError
from trainer.rollouts.trajectory import PolicyVersion

if TYPE_CHECKING:
    from services.driver.generator_pool import GeneratorPool
    from services.driver.learner_supervisor import LearnerSupervisor
    from services.results.evaluations import Evaluations
    from trainer.starting_model.warm_start_result import WarmStartProgress

POLL_SECONDS = 0.5


def train(directory: RunDirectory, progress: Progress) -> int:
    """Drive the run in `directory`; returns 0, the exit status, when it has finished or was stopped in order.

    Raises ScopeError for what the user can fix.
    """
    with ExitStack() as stack:
        secrets = RunSecrets(directory.path)
        secrets.ensure()
        queue = stack.enter_context(RedisSupervisor(directory, secrets))
        for warning in queue.warnings:
            progress.say(f"warning: {warning}")
        redis = queue.access.sync()
        stack.callback(redis.close)
        if directory.resumed and (fetched := fetch_checkpoint(directory)) is not None:
            progress.say(fetched)
        check_recoverable(directory, redis)
        register_token(redis, directory.run_id, secrets.token(), "owner", "admin")
        initialise_entropy_target(redis, directory.run_id)
        initialise_run(redis, directory.run_id, _spec(directory))
        stack.enter_context(StateFile(directory.path, directory.run_id, queue.access))
        stop = stack.enter_context(StopSignals(redis, directory.run_id, progress))
        try:
            _Drive(directory, queue, redis, progress, stop, stack).run()
        except RedisError as error:
            url = directory.config.redis.url
            server = "The embedded Redis" if url is None else f"redis.url={url!r}"
            raise ScopeError(
                f"{server} was lost during the run: {error}. The last checkpoint is "
                f"safe. When Redis is back: scope train --resume {directory.path}"
            ) from error
        except BaseException as error:
            # Redis itself may be the cause; a second error must not hide the first.
            with contextlib.suppress(RedisError):
                update_status(
                    redis, directory.run_id, phase="failed", error=str(error) or type(error).__name__
                )
            raise
    return 0


class _Drive:
    """One incarnation of a run, with its Redis running."""

    def __init__(
        self,
        directory: RunDirectory,
        queue: RedisSupervisor,
        redis: Redis,
        progress: Progress,
        stop: StopSignals,
        stack: ExitStack,
    ) -> None:
        self._directory, self._config, self._run_id = directory, directory.config, directory.run_id
        self._queue, self._redis = queue, redis
        self._progress, self._stop, self._stack = progress, stop, stack
        self._started = time.monotonic()
        self._fresh = not any((directory.path / "checkpoints").glob("step-*"))

    def run(self) -> None:
        """Do everything from the starting model to the report."""
        try:
            pool, learner, evaluations = self._prepare()
        except StoppedEarly:
            update_status(self._redis, self._run_id, phase="finished")
            self._progress.say("stopped before the learner began; nothing new was learned")
            return
        update_status(self._redis, self._run_id, phase="running")
        pool.run()
        learner.start(self._steps_done())
        store = checkpoint_store(self._directory)
        scheduler = EvaluationScheduler(
            self._redis, self._run_id, self._config, evaluations, store, self._steps_done()
        )
        self._watch(pool, learner, scheduler)
        self._say(scheduler.close())
        self._finish(pool, evaluations)

    def _prepare(self) -> tuple[GeneratorPool, LearnerSupervisor, Evaluations]:
        """Start everything up to the first learner step. Raises StoppedEarly when a stop is requested meanwhile."""
        from services.results.evaluations import Evaluations

        update_status(self._redis, self._run_id, phase="warm_start")
        model_dir = self._model()
        self._start_cluster()
        evaluations = Evaluations(self._directory.path / EVALUATIONS)
        pool, learner = self._workers(model_dir)
        # Start it while the engines start, which takes longest and leaves the CPU idle for part of it.
        self._start_control_plane()
        pool.wait_ready(self._raise_if_stopped)
        if self._fresh:
            self._evaluate(pool, evaluations, 0)
        self._raise_if_stopped()
        return pool, learner, evaluations

    def _raise_if_stopped(self) -> None:
        if self._stop.requested:
            raise StoppedEarly

    def _model(self) -> Path:
        """The starting model's directory: the configured model's, or that of the warm-started tiny model."""
        if (model := self._directory.model) is not None:
            if model.hub_id is not None:
                self._progress.say(f"starting model: {model.hub_id} at {model.commit}, {model.directory}")
            return model.directory
        # Read when torch loads OpenMP: spinning threads would take the CPU from other processes.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        os.environ.update(compute_environment(strict=self._config.determinism.strict))
        from trainer.starting_model.warm_start import ensure_warm_start

        cache = Path(self._config.warm_start.cache_dir).expanduser()
        warm = ensure_warm_start(self._config, cache, self._warm_start_progress)
        self._progress.say(
            f"warm start{' (from cache)' if warm.from_cache else ''}: {warm.parameters:,} parameters, "
            f"entropy {warm.entropy:.2f} nats/token, pass@1 {warm.pass_at_1:.2f}, {warm.path}"
        )
        self._directory.write_json("warm_start.json", {**asdict(warm), "path": str(warm.path)})
        return warm.path

    def _warm_start_progress(self, warm_start: WarmStartProgress) -> None:
        self._raise_if_stopped()
        self._progress.warm_start(warm_start)

    def _start_cluster(self) -> None:
        self._progress.say("starting Ray")
        dashboard = self._stack.enter_context(ray_cluster(self._config, self._run_id, self._directory.path))
        # Ray installs a SIGTERM handler that ends the process at once.
        self._stop.install()
        if dashboard:
            self._progress.say(f"Ray dashboard: http://{dashboard}")

    def _start_control_plane(self) -> None:
        if not self._config.control_plane.enabled:
            return
        from services.control_plane.ray_serve import start_on_serve, stop

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        url = start_on_serve(self._queue.access, self._config.control_plane)
        if self._config.ray.address is not None:
            self._stack.callback(stop)
        self._directory.write_endpoint(url)
        self._progress.say(f"control plane: {url}  (scope status, scope entropy set)")

    def _workers(self, model_dir: Path) -> tuple[GeneratorPool, LearnerSupervisor]:
        """Begin to start the generators, and make the learner without starting it."""
        from services.driver.elastic_pool import ElasticPool
        from services.driver.generator_pool import GeneratorPool
        from services.driver.learner_supervisor import LearnerSupervisor
        from services.generation.spec import GeneratorSpec
        from services.learner.spec import LearnerSpec

        counts = {"base": self._config.generators.base, "adaptive": self._config.generators.adaptive}
        # A strict run samples only from weights that its learner has published, so that no load falls into step 0.
        samples_at_once = self._fresh and not self._config.determinism.strict
        version = PolicyVersion(0, 0) if samples_at_once else None
        ledger = str(self._directory.path / FOLDER) if self._config.pipeline.ledger else None
        specs = [
            GeneratorSpec(
                self._run_id,
                role,
                i,
                self._config,
                str(model_dir),
                self._queue.access,
                version,
                ledger=ledger,
            )
            for role in self._config.roles
            for i in range(counts[role])
        ]
        names = tuple(spec.generator_id for spec in specs)
        self._progress.say(f"starting {len(specs)} generators: {', '.join(names)}")
        pool = ElasticPool(specs) if self._config.generators.elastic else GeneratorPool(specs)
        self._stack.callback(pool.stop)
        spec = LearnerSpec(
            run_id=self._run_id,
            config=self._config,
            config_hash=self._directory.config_hash,
            model_dir=str(model_dir),
            run_dir=str(self._directory.path),
            redis=self._queue.access,
            generator_ids=names,
        )
        return pool, LearnerSupervisor(spec)

    def _evaluate(self, pool: GeneratorPool, evaluations: Evaluations, step: int) -> None:
        evaluation = self._config.evaluation
        self._progress.say(f"evaluating step {step} on {evaluation.problems} held-out problems")
        correct = pool.evaluate(evaluation.problems, evaluation.samples, evaluation.temperature)
        added = evaluations.add(step, correct, evaluation)
        add_evaluation(self._redis, self._run_id, step, {k: float(added.at(k).mean()) for k in added.ks})
        self._progress.say(evaluations.line(step))
        self._offer_best(step, float(added.at(self._config.best_k).mean()))

    def _offer_best(self, step: int, value: float) -> None:
        store = checkpoint_store(self._directory)
        if not store.offer(Best(step, self._config.best_k, value)):
            return
        if (mirror := checkpoint_mirror(self._directory)) is not None:
            mirror.put_best(store)

    def _watch(self, pool: GeneratorPool, learner: LearnerSupervisor, scheduler: EvaluationScheduler) -> None:
        """Supervise everything until the learner has finished. Raises ScopeError when a part cannot be restarted."""
        self._queue.answered()
        # A client that retries would wait here for the server that only this loop can restart.
        with self._queue.access.without_retries() as redis:
            while not learner.wait(POLL_SECONDS):
                self._say(self._queue.keep_alive(), *pool.supervise())
                try:
                    status = read_status(redis, self._run_id)
                    done = status.step if status else 0
                    self._say(learner.restart(done), *scheduler.update(redis, done))
                except RedisError as error:
                    self._queue.missed(error)
                else:
                    self._queue.answered()
                    self._progress.show(status)
        self._progress.show(read_status(self._redis, self._run_id))

    def _say(self, *notes: str | None) -> None:
        for note in filter(None, notes):
            self._progress.say(note)

    def _steps_done(self) -> int:
        status = read_status(self._redis, self._run_id)
        return status.step if status else 0

    def _finish(self, pool: GeneratorPool, evaluations: Evaluations) -> None:
        from services.results.report import write_report

        done = self._steps_done()
        if done == self._config.steps:
            self._evaluate(pool, evaluations, done)
        wall_seconds = time.monotonic() - self._started
        write_report(self._directory, evaluations, self._redis, steps_done=done, wall_seconds=wall_seconds)
        update_status(self._redis, self._run_id, phase="finished")
        path = self._directory.path
        self._progress.say(f"results: {path}/report.json, report.png, model/")
        if done < self._config.steps:
            left = f"stopped at step {done} of {self._config.steps}"
            self._progress.say(f"{left}; continue with: scope train --resume {path}")


def _spec(directory: RunDirectory) -> RunSpec:
    return RunSpec(
        run_id=directory.run_id,
        config=directory.config.model_dump(mode="json"),
        config_hash=directory.config_hash,
        started_at=time.time(),
        versions=package_versions(),
    )
