"""The Ray cluster of a run: a local one that ends with the run, or an existing one by its address."""

from __future__ import annotations

import math
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.access.ray_token import private_ray, require_loopback
from services.access.run_secrets import RunSecrets
from services.host.interrupts import be_quiet
from services.host.orphans import kill_orphans
from services.host.private_folder import PrivateFolder
from services.run.ids import actor_namespace
from trainer.config import RunConfig
from trainer.errors import ScopeError

BOOKKEEPING_CPUS = 1.0
"""Logical CPUs for the controllers of Ray Serve and Ray Train, which use very little."""

START_TRIES = 3
RAY = "ray"
"""Ray's own folder in the private folder of a local cluster"""


@contextmanager
def ray_cluster(
    config: RunConfig, run_id: str, run_dir: Path, at_forced_exit: Callable[[Callable[[], object]], object]
) -> Iterator[str | None]:
    """Connect to Ray for the run; yields the dashboard's address, or None without a dashboard.

    A local cluster keeps its files, and the temporary files of its workers, in a private folder under the system's
    temporary directory, because socket paths must be short. Its logs are moved into the run directory at the end.
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
            with _signal_handlers_kept():
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
    logs = run_dir / "logs" / "ray"
    with (
        private_ray(RunSecrets(run_dir).ray_token_file),
        PrivateFolder(logs=f"{RAY}/session_latest/logs", keep_logs_in=logs) as folder,
    ):
        at_forced_exit(folder.remove)
        context = _start(config, folder.path, logs, common)
        try:
            require_loopback()
            yield context.dashboard_url
        finally:
            # Ray's orderly end takes seconds and saves nothing: its processes are killed with their folder.
            be_quiet()


def _start(config: RunConfig, folder: Path, logs: Path, common: dict[str, Any]) -> Any:
    """Start the local cluster. Tries again when a busy machine exceeds Ray's fixed start timeout of 30 s."""
    import ray

    # Ray opens its folder to every user of the machine, so that folder lies in one that is closed to them.
    session, temporary = folder / RAY, folder / "tmp"
    temporary.mkdir()
    tries = 0
    while True:
        tries += 1
        kill_orphans(session)
        shutil.rmtree(session, ignore_errors=True)
        try:
            with _temporary_files_in(temporary), _signal_handlers_kept():
                return ray.init(
                    "local",
                    num_cpus=max(os.cpu_count() or 1, math.ceil(_logical_cpus(config))),
                    include_dashboard=config.ray.dashboard,
                    dashboard_host="127.0.0.1",
                    # None lets Ray take a free port. Without a dashboard its head server still runs.
                    dashboard_port=config.ray.dashboard_port if config.ray.dashboard else None,
                    object_store_memory=config.ray.object_store_mib << 20,
                    _temp_dir=str(session),
                    **common,
                )
        except Exception as error:
            ray.shutdown()
            if "timed out during startup" not in str(error):
                first = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise ScopeError(f"Ray did not start: {first} Its logs are in {logs}.") from error
            if tries == START_TRIES:
                raise ScopeError(
                    f"Ray did not start in {START_TRIES} tries of 30 seconds: the machine is too busy. Stop other "
                    "programs, or set ray.address to a running cluster."
                ) from error


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Keep Ray from replacing the handler of SIGTERM by its own, which ends the process with a stack trace.

    Ray has one in Python and, from its connection on, one in C++.
    """
    from ray._private import utils

    replace = utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = replace
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Let processes that are started within the block keep their temporary files, sockets included, in `folder`."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


def _logical_cpus(config: RunConfig) -> float:
    generators = (config.generators.base + config.generators.adaptive) * config.generators.cpus_per_generator
    return generators + config.learner.workers * config.learner.cpus_per_worker + BOOKKEEPING_CPUS
