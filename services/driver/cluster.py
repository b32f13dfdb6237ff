"""The Ray cluster of a run: a local one that ends with the run, or an existing one by its address."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.access.ray_token import private_ray, require_loopback
from services.access.run_secrets import RunSecrets
from services.host.orphans import kill_orphans
from services.run.ids import actor_namespace
from trainer.config import RunConfig
from trainer.errors import ScopeError

BOOKKEEPING_CPUS = 1.0
"""Logical CPUs for the controllers of Ray Serve and Ray Train, which use very little."""

START_TRIES = 3


@contextmanager
def ray_cluster(config: RunConfig, run_id: str, run_dir: Path) -> Iterator[str | None]:
    """Connect to Ray for the run; yields the dashboard's address, or None without a dashboard.

    A local cluster keeps its files in a private directory under the system's temporary directory, because socket paths
    must be short. Its logs are moved into the run directory at the end.
    """
    # No usage report, no colour codes in log files.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    # Ray would lower the priority of every worker; only the learner and the generators need that, and do it themselves.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # The default is to check the one application ten times a second.
    os.environ.setdefault("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", "0.5")
    # The default keeps 100,000 tasks in Ray's control store: a run starts several a second, so it would grow for days.
    os.environ.setdefault("RAY_task_events_max_num_task_in_gcs", "2000")
    import ray

    common = {"namespace": actor_namespace(run_id), "log_to_driver": False, "logging_level": "ERROR"}
    if config.ray.address is not None:
        try:
            context = ray.init(address=config.ray.address, **common)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ScopeError(
                f"ray.address={config.ray.address!r} cannot be reached: {error}. Start that cluster, correct the "
                "address, or leave ray.address unset for a local one."
            ) from error
        try:
            yield context.dashboard_url
        finally:
            ray.shutdown()
        return
    temporary = Path(tempfile.gettempdir()) / f"scope-{hashlib.sha256(str(run_dir).encode()).hexdigest()[:8]}"
    with private_ray(RunSecrets(run_dir).ray_token_file):
        context = _start(config, temporary, common)
        try:
            require_loopback()
            yield context.dashboard_url
        finally:
            ray.shutdown()
            kill_orphans(temporary)
            _keep_logs(temporary, run_dir / "logs" / "ray")


def _start(config: RunConfig, temporary: Path, common: dict[str, Any]) -> Any:
    """Start the local cluster. Tries again when a busy machine exceeds Ray's fixed start timeout of 30 s."""
    import ray

    tries = 0
    while True:
        tries += 1
        kill_orphans(temporary)
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            return ray.init(
                "local",
                num_cpus=max(os.cpu_count() or 1, math.ceil(_logical_cpus(config))),
                include_dashboard=config.ray.dashboard,
                dashboard_host="127.0.0.1",
                # None lets Ray take a free port. Without a dashboard its head server still runs.
                dashboard_port=config.ray.dashboard_port if config.ray.dashboard else None,
                object_store_memory=config.ray.object_store_mib << 20,
                _temp_dir=str(temporary),
                **common,
            )
        except Exception as error:
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
            if tries == START_TRIES:
                raise ScopeError(
                    f"Ray did not start in {START_TRIES} tries of 30 seconds: the machine is too busy. Stop other "
                    "programs, or set ray.address to a running cluster."
                ) from error


def _logical_cpus(config: RunConfig) -> float:
    generators = (config.generators.base + config.generators.adaptive) * config.generators.cpus_per_generator
    return generators + config.learner.workers * config.learner.cpus_per_worker + BOOKKEEPING_CPUS


def _keep_logs(temporary: Path, destination: Path) -> None:
    session = temporary / "session_latest"
    if session.exists():
        shutil.rmtree(destination, ignore_errors=True)
        shutil.copytree(session.resolve() / "logs", destination, ignore_dangling_symlinks=True)
    shutil.rmtree(temporary, ignore_errors=True)
