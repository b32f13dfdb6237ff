"""What can fail cheaply, checked before a run leaves anything behind: task, model directory, Redis, ports."""

from __future__ import annotations

from pathlib import Path

from services.listen import bind
from services.loggers import require_loggers
from services.redis_client import RedisAccess, check
from services.redis_server import find_server
from trainer.checkpoint_mirror import check_writable
from trainer.config import RunConfig
from trainer.errors import ScopeError
from trainer.tasks import Environment, make_task
from trainer.tokenizer_check import check_tokenizer


def preflight_learning(config: RunConfig) -> None:
    """The part that runs in one process need, too: task and model. Raises ScopeError."""
    task = make_task(config.task)
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
    if config.model.path is not None and not (Path(config.model.path).expanduser() / "config.json").is_file():
        raise ScopeError(
            f"model.path={config.model.path!r} is not a Hugging Face model directory: it has no config.json. Give "
            "a directory that transformers loads, or leave model.path unset for the built-in tiny model."
        )
    if config.model.path is not None:
        check_tokenizer(Path(config.model.path).expanduser(), config.model)


def preflight(config: RunConfig, *, patience_seconds: float = 0.0) -> None:
    """Raises ScopeError, which names the field, for what the run would fail on later.

    patience_seconds: how long to wait for ports that are taken, perhaps by processes of a killed driver.
    """
    preflight_learning(config)
    require_loggers(config.loggers)
    if config.checkpoint.mirror is not None:
        check_writable(config.checkpoint.mirror)
    if config.redis.url is None:
        find_server(config.redis)
    else:
        check(RedisAccess(config.redis.url, None, config.redis.connect_timeout_seconds))
    if config.control_plane.enabled:
        host, port = config.control_plane.host, config.control_plane.port
        bind(host, port, patience_seconds=patience_seconds).close()
    if config.ray.address is None and config.ray.dashboard:
        port, field = config.ray.dashboard_port, "ray.dashboard_port"
        bind("127.0.0.1", port, field=field, patience_seconds=patience_seconds).close()
