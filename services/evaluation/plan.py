"""The plan of an evaluation: model, tasks with their configurations, and sampling. Saved before it starts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from services.evaluation.models import EvaluatedModel
from trainer.config import GeneratorConfig, RunConfig
from trainer.config.engine_limits import COLDEST, HOTTEST, MOST_RESPONSES, MOST_SEEDS
from trainer.config.load import config_over, load_config, validate_config
from trainer.errors import ScopeError
from trainer.tasks import Task, make_task
from trainer.tasks.datasets.presets import PRESETS
from trainer.tasks.datasets.sources import is_file_name, without_ending
from trainer.tasks.datasets.task import Benchmark

GYM = "reasoning_gym/"


class TaskPlan(msgspec.Struct, frozen=True):
    """One task to evaluate on."""

    label: str
    """name of its results file"""
    config: dict[str, Any]
    """a complete configuration tree: task, prompts, lengths, engine"""
    benchmark: str | None
    """a data set of which every problem is evaluated, instead of the task's held-out problems"""

    @property
    def run_config(self) -> RunConfig:
        """The validated configuration."""
        return validate_config(self.config)

    def make(self) -> Task:
        """Make the task. Raises ScopeError when it cannot be made."""
        config = self.run_config.task
        return make_task(config) if self.benchmark is None else Benchmark(self.benchmark, config, "--tasks")


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How responses are sampled; the same for every task."""

    samples: int
    """responses to each problem"""
    ks: list[int]
    temperature: float
    """0 is greedy"""
    top_p: float
    max_problems: int | None
    """evaluate the first problems of each task only; None: all"""
    seed: int

    def check(self) -> None:
        """Raise ScopeError for a value that is out of range."""
        if not 1 <= self.samples <= MOST_RESPONSES:
            raise ScopeError(f"--n={self.samples} is not allowed: from 1 to {MOST_RESPONSES}.")
        if not self.ks or min(self.ks) < 1 or max(self.ks) > self.samples:
            raise ScopeError(f"--k={_listed(self.ks)} is not allowed: from 1 to --n={self.samples}.")
        if not (self.temperature == 0 or COLDEST <= self.temperature <= HOTTEST):
            raise ScopeError(
                f"--temperature={self.temperature} is not allowed: 0 (greedy), or from {COLDEST} to {HOTTEST:g}."
            )
        if self.temperature == 0 and self.samples > 1:
            raise ScopeError(
                f"--temperature=0 is greedy: all --n={self.samples} responses would be the same. Use --n 1 --k 1."
            )
        if not 0 < self.top_p <= 1:
            raise ScopeError(f"--top-p={self.top_p} is not allowed: above 0, at most 1.")
        if self.max_problems is not None and self.max_problems < 1:
            raise ScopeError(f"--max-problems={self.max_problems} is not allowed: at least 1.")
        if not 0 <= self.seed < MOST_SEEDS:
            raise ScopeError(f"--seed={self.seed} is not allowed: from 0 to {MOST_SEEDS - 1}.")


class EvaluationPlan(msgspec.Struct, frozen=True):
    """Everything that determines the results, except the random draws."""

    model: str
    """a Hugging Face directory"""
    model_files: list[list[Any]]
    tasks: list[TaskPlan]
    sampling: Sampling

    @property
    def engine(self) -> GeneratorConfig:
        """Configuration of every engine, taken from the first task."""
        return self.tasks[0].run_config.generators

    @property
    def digest(self) -> str:
        """SHA-256 of the plan."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


def make_plan(
    model: EvaluatedModel,
    *,
    names: Sequence[str],
    configs: Sequence[Path],
    overrides: Sequence[str],
    samples: int | None,
    ks: Sequence[int] | None,
    temperature: float | None,
    top_p: float,
    max_problems: int | None,
    seed: int,
) -> EvaluationPlan:
    """Make and check the plan. Without `names` and `configs`, the task is that of the run that made the model.

    samples, ks, temperature: None to use the first task's `evaluation` block. Raises ScopeError for anything that is
    not allowed, before an engine starts.
    """
    tasks = [_from_file(path, overrides) for path in configs] + [
        _by_name(name, model, overrides) for name in names
    ]
    if not tasks:
        if model.run is None:
            raise ScopeError(
                "scope eval needs --tasks NAME[,NAME] or --config FILE for a model without a run."
            )
        config = load_config(model.run / "config.yaml", overrides)
        tasks = [TaskPlan(config.task.name, config.model_dump(mode="json"), None)]
    labels = [task.label for task in tasks]
    if len(set(labels)) < len(labels):
        raise ScopeError(f"the tasks {_listed(labels)} are not all different.")
    configured = tasks[0].run_config.evaluation
    samples = configured.samples if samples is None else samples
    sampling = Sampling(
        samples=samples,
        ks=sorted({k for k in configured.ks if k <= samples} if ks is None else set(ks)),
        temperature=configured.temperature if temperature is None else temperature,
        top_p=top_p,
        max_problems=max_problems,
        seed=seed,
    )
    sampling.check()
    return EvaluationPlan(str(model.directory), model.identity, tasks, sampling)


def _from_file(path: Path, overrides: Sequence[str]) -> TaskPlan:
    return TaskPlan(path.stem, load_config(path, overrides).model_dump(mode="json"), None)


def _by_name(name: str, model: EvaluatedModel, overrides: Sequence[str]) -> TaskPlan:
    """Plan a task with its defaults; prompts, lengths and engines are those of the model's run, if it has one."""
    if model.run is None:
        context = model.context()
        # Half of the context, which leaves the other half for the prompt.
        tree: dict[str, Any] = {
            "model": {"max_length": context},
            "rollout": {"max_new_tokens": context // 2},
        }
    else:
        config = load_config(model.run / "config.yaml").model_dump(mode="json")
        engines = {k: v for k, v in config["generators"].items() if k not in ("adaptive", "ray_resource")}
        tree = {
            "model": config["model"],
            "rollout": {"max_new_tokens": config["rollout"]["max_new_tokens"]},
            "generators": engines,
        }
    benchmark = None
    if name in PRESETS or is_file_name(name):
        benchmark, tree["task"] = name, {"name": "dataset", "dataset": {"train": name}}
    elif name.startswith(GYM):
        gym = {"dataset": name.removeprefix(GYM)}
        tree["task"] = {"name": "reasoning_gym", "reasoning_gym": gym}
    else:
        tree["task"] = {"name": name}
    # An evaluation writes no checkpoints, so their limits on Redis do not apply.
    tree["pipeline"], tree["checkpoint"] = {"unacked_bytes": 1 << 62}, {"every_steps": 1}
    label = without_ending(name) if is_file_name(name) else name.replace("/", "-").replace(":", "-")
    return TaskPlan(label, config_over(tree, overrides).model_dump(mode="json"), benchmark)


def _listed(values: Sequence[object]) -> str:
    return ",".join(map(str, values))
