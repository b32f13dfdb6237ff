"""One incarnation of a run: what its driver does from the starting model to the report."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.exceptions import RedisError

from services.access.run_secrets import RunSecrets
from services.driver.cluster import ray_cluster
from services.driver.heartbeat import DriverHeartbeat
from services.driver.progress import Progress
from services.driver.recovery import checkpoint_mirror, checkpoint_store
from services.driver.redis_supervisor import RedisSupervisor
from services.driver.step_feed import StepFeed
from services.driver.stop_signals import StopSignals, Work
from services.driver.storage import Storage
from services.driver.unbegun import begin
from services.host.sockets import claimed_port, moved
from services.online_eval.scheduler import EvaluationScheduler
from services.records.ledger import FOLDER
from services.results.evaluations import EVALUATIONS
from services.run.directory import RunDirectory
from services.run.phases import Phase
from services.run.state import RunStatus, add_evaluation, read_status, update_status
from trainer.checkpoint.store import Best
from trainer.config import CONTROL_PLANE_PORT, DASHBOARD_PORT
from trainer.determinism import compute_environment
from trainer.rollouts.trajectory import PolicyVersion

if TYPE_CHECKING:
    from services.driver.generator_pool import GeneratorPool
    from services.driver.learner_supervisor import LearnerSupervisor
    from services.results.evaluations import Evaluations
    from trainer.starting_model.warm_start_result import WarmStartProgress

POLL_SECONDS = 0.5


class Drive:
    """One incarnation of a run, with its Redis running."""

    def __init__(
        self,
        directory: RunDirectory,
        queue: RedisSupervisor,
        redis: Redis,
        progress: Progress,
        stop: StopSignals,
        storage: Storage,
        heartbeat: DriverHeartbeat,
        stack: ExitStack,
    ) -> None:
        self._directory, self._config, self._run_id = directory, directory.config, directory.run_id
        self._queue, self._redis = queue, redis
        self._progress, self._stop, self._storage = progress, stop, storage
        self._heartbeat, self._stack = heartbeat, stack
        self._started = time.monotonic()
        self._learned = False
        """whether the learner has made a step since the start"""
        self._fresh = not checkpoint_store(directory).steps

    def run(self) -> None:
        """Do everything from the starting model to the report."""
        pool, learner, evaluations = self._prepare()
        self._enter("starting_learner")
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
        """Start everything up to the first learner step."""
        from services.results.evaluations import Evaluations

        self._enter("starting_model")
        model_dir = self._model()
        self._start_cluster()
        evaluations = Evaluations(self._directory.path / EVALUATIONS)
        pool, learner = self._workers(model_dir)
        # Start it while the engines start, which takes longest and leaves the CPU idle for part of it.
        self._start_control_plane()
        pool.wait_ready(lambda: self._await_engines(pool))
        if self._fresh:
            self._evaluate(pool, evaluations, 0)
        self._stop.raise_if_requested()
        return pool, learner, evaluations

    def _enter(self, phase: Phase, detail: str = "") -> None:
        """Write the phase to the run's status and to the terminal."""
        self._heartbeat.phase = phase
        update_status(self._redis, self._run_id, phase=phase, detail=detail)
        self._progress.enter(phase, detail)

    def _await_engines(self, pool: GeneratorPool) -> None:
        self._stop.raise_if_requested()
        self._storage.check()
        self._enter("starting_engines", pool.readiness)
        self._progress.wait()

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
            f"entropy {warm.entropy:z.2f} nats/token, pass@1 {warm.pass_at_1:z.2f}, {warm.path}"
        )
        self._directory.write_json("warm_start.json", {**asdict(warm), "path": str(warm.path)})
        return warm.path

    def _warm_start_progress(self, warm_start: WarmStartProgress) -> None:
        self._stop.raise_if_requested()
        self._enter("starting_model", f"warm start {warm_start.step} of {warm_start.of}")
        self._progress.warm_start(warm_start)

    def _start_cluster(self) -> None:
        self._enter("starting_ray")
        self._progress.say("starting Ray")
        cluster = ray_cluster(self._config, self._run_id, self._directory.path, self._stop.at_forced_exit)
        dashboard = self._stack.enter_context(cluster)
        self._stop.raise_if_requested()
        if dashboard:
            self._progress.say(f"Ray dashboard: http://{dashboard}{self._about_dashboard(dashboard)}")

    def _about_dashboard(self, address: str) -> str:
        ray = self._config.ray
        if ray.address is not None:
            return ""
        token = RunSecrets(self._directory.path).ray_token_file
        return f"{moved(ray.dashboard_port, int(address.rpartition(':')[2]), DASHBOARD_PORT)}  (its token: {token})"

    def _start_control_plane(self) -> None:
        if not self._config.control_plane.enabled:
            return
        from services.control_plane.ray_serve import start_on_serve, stop

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        plane = self._config.control_plane
        port = self._stack.enter_context(claimed_port(plane.host, plane.port, CONTROL_PLANE_PORT))
        url = start_on_serve(self._queue.access, plane, port)
        if self._config.ray.address is not None:
            self._stack.callback(stop)
        self._directory.write_endpoint(url)
        where = f"{url}{moved(plane.port, port, CONTROL_PLANE_PORT)}"
        self._progress.say(f"control plane: {where}  (scope status, scope entropy set)")

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
        self._enter("starting_engines", "the control plane beside them")
        self._progress.say(f"starting {len(specs)} generators: {', '.join(names)}")
        pool = ElasticPool(specs) if self._config.generators.elastic else GeneratorPool(specs)
        # Nothing that generators do before the first step is worth waiting for.
        self._stack.callback(lambda: pool.stop() if self._learned else pool.kill())
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
        evaluation, started = self._config.evaluation, time.monotonic()
        self._enter("evaluating", f"step {step}")
        self._progress.say(f"evaluating step {step} on {evaluation.problems} held-out problems")
        counts = pool.evaluate(evaluation.problems, evaluation.samples, evaluation.temperature)
        self._progress.evaluated(time.monotonic() - started)
        correct, unscored = [c.correct for c in counts], sum(c.unscored for c in counts)
        added = evaluations.add(step, correct, evaluation, unscored=unscored)
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
        before = self._steps_done()
        feed = StepFeed(self._run_id, read_status(self._redis, self._run_id))
        self._queue.answered()
        # A client that retries would wait here for the server that only this loop can restart.
        with self._queue.access.without_retries() as redis:
            while not learner.wait(POLL_SECONDS):
                self._storage.check()
                self._say(self._queue.keep_alive(), *pool.supervise())
                try:
                    status = read_status(redis, self._run_id)
                    records = feed.new(redis, status)
                    done = status.step if status else 0
                    if done > before and not self._learned:
                        self._learned, self._stop.work = True, Work.STEPS
                        begin(self._directory)
                    restarted = learner.restart(done)
                    if restarted is not None:
                        self._enter("starting_learner")
                    self._say(restarted, *scheduler.update(redis, done))
                except RedisError as error:
                    self._queue.missed(error)
                else:
                    self._queue.answered()
                    self._show(status, records)
                    if status is not None and status.phase == "learned":
                        # Ray Train takes seconds to end its workers, which have nothing left to write.
                        break
        status = read_status(self._redis, self._run_id)
        self._show(status, feed.new(self._redis, status))

    def _show(self, status: RunStatus | None, records: list[Mapping[str, Any]]) -> None:
        """Show what the learner has written."""
        if status is None:
            return
        self._heartbeat.phase = status.phase
        self._progress.enter(status.phase, status.phase_detail or "")
        self._progress.steps(records, status.of)
        self._progress.wait()

    def _say(self, *notes: str | None) -> None:
        for note in filter(None, notes):
            self._progress.say(note)

    def _steps_done(self) -> int:
        status = read_status(self._redis, self._run_id)
        return status.step if status else 0

    def _finish(self, pool: GeneratorPool, evaluations: Evaluations) -> None:
        from services.results.report import write_report
        from services.results.summary import summary

        done = self._steps_done()
        self._learned, whole = True, done < self._config.steps
        if not whole and not self._stop.requested:
            try:
                self._stop.work = Work.EVALUATION
                self._evaluate(pool, evaluations, done)
                whole = True
            except KeyboardInterrupt:
                self._progress.say("the evaluation at the end was not finished")
        self._stop.work = Work.END
        wall_seconds = time.monotonic() - self._started
        self._enter("reporting")
        report = write_report(
            self._directory, evaluations, self._redis, steps_done=done, wall_seconds=wall_seconds
        )
        self._enter("finished")
        path, here = self._directory.path, Path.cwd()
        self._progress.close_with(
            summary(report, path.relative_to(here) if path.is_relative_to(here) else path)
        )
        if done == self._config.steps and not whole:
            self._progress.say(f"to evaluate step {done}: scope train --resume {path}")
