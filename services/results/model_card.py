"""The model card of an exported policy: README.md with a plot, from the run's records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.host.environment import package_versions
from services.records.step_record import StepRecord
from services.results.evaluations import Evaluation
from services.results.report import BOOTSTRAP_SEED
from trainer.config import RunConfig
from trainer.config.load import dump_yaml
from trainer.config.task import SingleTaskConfig
from trainer.pass_at_k import bootstrap_mean

PICTURE = "training.png"
_METADATA = """---
library_name: transformers
pipeline_tag: text-generation
tags: [reinforcement-learning, scope-rl]
"""


@dataclass(frozen=True)
class Exported:
    """The data of the card. Records and evaluations are those up to `step`."""

    run_id: str
    step: int
    """learner steps done"""
    config: RunConfig
    config_hash: str
    records: Sequence[StepRecord]
    evaluations: Sequence[Evaluation]
    commit: str | None = None
    """commit of the starting model's repository on the hub"""


def write_card(directory: Path, exported: Exported) -> None:
    """Write README.md and, if there are step records, its plot."""
    if exported.records:
        from services.results.report_plot import plot

        plot(directory / PICTURE, exported.run_id, list(exported.records), list(exported.evaluations))
    (directory / "README.md").write_text(card(exported))


def card(exported: Exported) -> str:
    """The text of the card: the hub's metadata and Markdown."""
    parts = [
        _metadata(exported),
        f"# {exported.run_id}, after {exported.step} learner steps",
        "A policy post-trained by reinforcement learning with SCOPE-RL service, which holds policy entropy at a "
        "target (SCOPE-RL, arXiv 2510.08141).",
        "## Training",
        _table(_facts(exported)),
    ]
    if exported.records:
        parts += [
            "## Entropy",
            f"![Policy entropy, actuators, reward and held-out pass@k by learner step]({PICTURE})",
            _entropy(exported.records),
        ]
    if exported.evaluations:
        parts += ["## Evaluation", _evaluations(exported.evaluations)]
    parts += [
        "## Versions",
        _table([(name, version) for name, version in package_versions().items()], ("package", "version")),
        "## Configuration",
        f"SHA-256 `{exported.config_hash}`",
        f"```yaml\n{dump_yaml(exported.config)}```",
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(exported: Exported) -> str:
    base = "" if exported.commit is None else f"base_model: {exported.config.model.path}\n"
    return f"{_METADATA}{base}---"


def _starting_model(exported: Exported) -> str:
    if exported.config.model.path is None:
        return "the built-in tiny model, warm-started"
    at = "" if exported.commit is None else f" at commit `{exported.commit}`"
    return f"`{exported.config.model.path}`{at}"


def _facts(exported: Exported) -> list[tuple[str, str]]:
    config = exported.config
    tasks: Sequence[SingleTaskConfig] = config.task.mixture or (config.task,)
    control = config.entropy_control
    entropy_control = (
        "none" if not config.tracks_entropy_target else f"{control.kind}, entropy target {control.target}"
    )
    return [
        ("starting model", _starting_model(exported)),
        ("tasks", ", ".join(map(_task, tasks))),
        ("learner steps", f"{exported.step} of {config.steps}"),
        ("prompts per step", str(config.rollout.prompts_per_step)),
        (
            "rollouts per prompt",
            f"{config.rollout.base_samples} base, {config.rollout.adaptive_samples} adaptive",
        ),
        ("response length", f"at most {config.rollout.max_new_tokens} tokens"),
        ("entropy control", entropy_control),
        ("regularizer", config.regularizer.kind),
        ("learning rate", f"{config.optimizer.learning_rate:g}"),
        ("seed", str(config.seed)),
    ]


def _task(task: SingleTaskConfig) -> str:
    match task.name:
        case "dataset":
            return f"`{task.dataset.train}`, verified by {task.verifier.kind}"
        case "reasoning_gym":
            return f"reasoning-gym `{task.reasoning_gym.dataset}`"
        case name:
            return f"`{name}`"


def _entropy(records: Sequence[StepRecord]) -> str:
    """Entropy at about ten steps, including the first and the last."""
    known = [record for record in records if math.isfinite(record.entropy)]
    if not known:
        return "The entropy could not be measured at any step."
    last = len(known) - 1
    shown = sorted({round(i * last / 9) for i in range(10)})
    rows = [
        (
            str(known[i].step),
            f"{known[i].entropy:z.4f}",
            "-" if (target := known[i].entropy_target) is None else f"{target:z.4f}",
            f"{known[i].reward:z.3f}",
        )
        for i in shown
    ]
    return _table(rows, ("learner step", "entropy, nats per token", "entropy target", "reward"))


def _evaluations(evaluations: Sequence[Evaluation]) -> str:
    ks = sorted({k for evaluation in evaluations for k in evaluation.ks})
    rows = []
    for evaluation in evaluations:
        figures = []
        for k in ks:
            if k > evaluation.samples:
                figures.append("-")
                continue
            found = bootstrap_mean(evaluation.at(k), seed=BOOTSTRAP_SEED)
            figures.append(f"{found.mean:z.3f} [{found.low:z.3f}, {found.high:z.3f}]")
        rows.append((str(evaluation.step), str(len(evaluation.correct)), str(evaluation.samples), *figures))
    heads = ("after step", "problems", "samples", *(f"pass@{k}" for k in ks))
    note = "Unbiased pass@k on held-out problems: mean over problems with its 95 % bootstrap interval."
    return f"{_table(rows, heads)}\n\n{note}"


def _table(rows: Sequence[Sequence[str]], heads: Sequence[str] = ("", "")) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
