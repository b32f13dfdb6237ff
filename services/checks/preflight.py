"""Cheap checks before a run writes anything: task, model directory, loggers, Redis, ports."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from services.checks.engine import check_engine
from services.checks.prompts import check_plain_prompts, check_prompts
from services.host.sockets import bind, bind_one
from services.records.loggers import require_loggers
from services.redis.access import RedisAccess, check
from services.redis.embedded import find_server
from trainer.checkpoint.mirror import check_writable
from trainer.config import CONTROL_PLANE_PORT, RunConfig
from trainer.errors import ScopeError
from trainer.starting_model.checks import check_model, check_tokenizer
from trainer.starting_model.find import StartingModel, cached_starting_model, find_starting_model
from trainer.tasks import Environment, Task, TaskWithNotes, make_task
from trainer.tasks.verification import Verification

PROMPTS = "task.unusable_prompts"
"""field of the check that encodes the task's prompts"""


class Check(NamedTuple):
    """A check of one field that the run would fail on later."""

    field: str
    value: object
    passed: str
    """what a pass means, as text"""
    run: Callable[[], list[str]]
    """returns warnings, one sentence each; raises ScopeError, which names the field and what to do"""


def preflight_learning(config: RunConfig) -> None:
    """The checks of task and model, which in-process runs need as well. Raises ScopeError."""
    for check_ in _learning_checks(config):
        check_.run()


def preflight(config: RunConfig, *, patience_seconds: float = 0.0) -> list[str]:
    """Run every check; returns notes on the task's data and prompts. Raises ScopeError, which names the field.

    patience_seconds: how long to wait for ports in use, perhaps by processes of a killed driver.
    """
    warnings = {
        check_.field: check_.run() for check_ in preflight_checks(config, patience_seconds=patience_seconds)
    }
    if config.learner.gpus_per_worker or config.generators.gpus_per_generator:
        from services.checks.machine import check_gpus

        # Ray would wait for GPUs that never come.
        check_gpus(config)
    return warnings["task.name"] + warnings[PROMPTS]


def preflight_checks(
    config: RunConfig, *, patience_seconds: float = 0.0, download: bool = True
) -> list[Check]:
    """Every check in the order of `preflight`, none of them run yet.

    download: download the files of a hub model that its check reads; otherwise only look into the hub's cache.
    """
    checks = _learning_checks(config, download=download)
    length = config.model.max_length
    checks.append(
        Check("model.max_length", length, "fits the model", lambda: _check_engine(config, download=download))
    )
    loggers = config.loggers
    checks.append(Check("loggers", loggers, "installed", lambda: _silent(require_loggers, loggers)))
    mirror, redis, plane, ray = config.checkpoint.mirror, config.redis, config.control_plane, config.ray
    if mirror is not None:
        checks.append(Check("checkpoint.mirror", mirror, "writable", lambda: _silent(check_writable, mirror)))
    if redis.url is None:
        checks.append(
            Check("redis.server_binary", redis.server_binary, "a server", lambda: _silent(find_server, redis))
        )
    else:
        access = RedisAccess(redis.url, None, redis.connect_timeout_seconds)
        checks.append(Check("redis.url", redis.url, "answers and can hold a run", lambda: check(access)))
    if plane.enabled:

        def bind_plane() -> list[str]:
            if plane.port is None:
                bind_one(plane.host, None, CONTROL_PLANE_PORT).close()
            else:
                bind(plane.host, plane.port, patience_seconds=patience_seconds).close()
            return []

        which = "it" if plane.port is not None else f"{CONTROL_PLANE_PORT} or a later one"
        checks.append(Check("control_plane.port", plane.port, f"{which} is free on {plane.host}", bind_plane))
    if ray.address is None and ray.dashboard and (port := ray.dashboard_port) is not None:

        def bind_dashboard() -> list[str]:
            bind("127.0.0.1", port, field="ray.dashboard_port", patience_seconds=patience_seconds).close()
            return []

        checks.append(Check("ray.dashboard_port", port, "free on 127.0.0.1", bind_dashboard))
    return checks


def _learning_checks(config: RunConfig, *, download: bool = True) -> list[Check]:
    @cache
    def task() -> Task:
        return make_task(config.task)

    def prompts() -> list[str]:
        if config.model.path is None:
            return check_plain_prompts(task(), config)
        model = _settings_of_model(config, download=download)
        return [] if model is None else check_prompts(task(), config, model.directory)

    unusable = config.task.unusable_prompts
    return [
        Check("task.name", config.task.name, "can be made", lambda: _check_task(task(), config)),
        Check("model.path", config.model.path, "a model", lambda: _check_model(config, download=download)),
        Check(PROMPTS, unusable, "every prompt can be used", prompts),
    ]


def _check_task(task: Task, config: RunConfig) -> list[str]:
    if config.evaluation.problems > task.heldout_size:
        raise ScopeError(
            f"evaluation.problems={config.evaluation.problems} must be at most {task.heldout_size}, the number of "
            "held-out problems of the task (task.heldout)."
        )
    if config.determinism.strict and isinstance(task, Environment):
        raise ScopeError(
            f"determinism.strict=true cannot run task.name={config.task.name!r}: its rollouts take several turns, "
            "whose requests enter the engine at different times."
        )
    notes = list(task.notes) if isinstance(task, TaskWithNotes) else []
    return notes + Verification(task, config.task).trial()


def _check_model(config: RunConfig, *, download: bool) -> list[str]:
    if config.model.path is None:
        return []
    found = _settings_of_model(config, download=download)
    if found is None:
        from huggingface_hub import constants

        if constants.is_offline_mode():
            find_starting_model(config.model)  # raises, with the files that are missing
        return [
            f"not a directory, and not complete in the cache of the Hugging Face hub, {constants.HF_HUB_CACHE}: scope "
            "train downloads it; not checked before that"
        ]
    check_model(found.directory, config)
    check_tokenizer(found.directory, config.model)
    return []


def _check_engine(config: RunConfig, *, download: bool) -> list[str]:
    try:
        found = _settings_of_model(config, download=download)
    except ScopeError:
        return []  # The check of model.path says why.
    if found is None and config.model.path is not None:
        return []
    return check_engine(config, None if found is None else found.directory)


def _settings_of_model(config: RunConfig, *, download: bool) -> StartingModel | None:
    """The model with at least its settings; None for the built-in one, and for one that has to be downloaded."""
    return (
        find_starting_model(config.model, weights=False) if download else cached_starting_model(config.model)
    )


def _silent(action: Callable[[Any], object], argument: object) -> list[str]:
    """Run a check that has no warnings."""
    action(argument)
    return []
