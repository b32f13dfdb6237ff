"""The plot of a run: entropy and its target, the actuators, reward, pass@k."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from services.records.step_record import StepRecord

if TYPE_CHECKING:
    from services.results.evaluations import Evaluation

ENTROPY, TARGET, TEMPERATURE, ALPHA, REWARD = "#1b6ca8", "#d1495b", "#e08e0b", "#6a4c93", "#2a7f62"
BAND = 0.1


def plot(path: Path, run_id: str, records: list[StepRecord], evaluations: list[Evaluation]) -> None:
    """Write a PNG of four panels over the learner step."""
    figure, axes = plt.subplots(2, 2, figsize=(12, 7.5), layout="constrained")
    figure.suptitle(f"Run {run_id}: {len(records)} learner steps", fontsize=13)
    steps = [r.step for r in records]
    _entropy(axes[0, 0], steps, records)
    _actuators(axes[0, 1], steps, records)
    _reward(axes[1, 0], steps, records)
    _pass_at_k(axes[1, 1], evaluations)
    for axis in axes.flat:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _entropy(axis: Axes, steps: list[int], records: list[StepRecord]) -> None:
    axis.plot(steps, [r.entropy for r in records], color=ENTROPY, lw=1.6, label="policy entropy")
    targets = [float("nan") if r.entropy_target is None else r.entropy_target for r in records]
    if any(r.entropy_target is not None for r in records):
        axis.step(steps, targets, where="post", color=TARGET, lw=1.4, ls="--", label="entropy target")
        low, high = [t * (1 - BAND) for t in targets], [t * (1 + BAND) for t in targets]
        axis.fill_between(steps, low, high, step="post", color=TARGET, alpha=0.12, label=f"±{BAND:.0%}")
    axis.set(title="Policy entropy", xlabel="learner step", ylabel="nats per token")
    axis.set_ylim(bottom=0)
    axis.legend(loc="best", frameon=False)


def _actuators(axis: Axes, steps: list[int], records: list[StepRecord]) -> None:
    axis.plot(steps, [r.temperature for r in records], color=TEMPERATURE, lw=1.4)
    axis.axhline(1.0, color=TEMPERATURE, lw=0.7, ls=":")
    axis.set_ylabel("temperature of adaptive rollouts", color=TEMPERATURE)
    axis.set(title="Actuators", xlabel="learner step")
    twin = axis.twinx()
    twin.plot(steps, [r.alpha for r in records], color=ALPHA, lw=1.4)
    twin.set_ylabel("alpha (weight of positives)", color=ALPHA)
    twin.set_ylim(bottom=0)
    twin.spines["top"].set_visible(False)


def _reward(axis: Axes, steps: list[int], records: list[StepRecord]) -> None:
    axis.plot(steps, [r.reward for r in records], color=REWARD, lw=1.4, label="base rollouts")
    if any(r.adaptive_reward is not None for r in records):
        adaptive = [float("nan") if r.adaptive_reward is None else r.adaptive_reward for r in records]
        axis.plot(steps, adaptive, color=TEMPERATURE, lw=0.9, alpha=0.7, label="adaptive rollouts")
    axis.set(title="Reward during training", xlabel="learner step", ylabel="mean reward")
    axis.set_ylim(bottom=0)
    axis.legend(loc="best", frameon=False)


def _pass_at_k(axis: Axes, evaluations: list[Evaluation]) -> None:
    if len(evaluations) > 2:
        _course(axis, evaluations)
        return
    axis.set(title="Held-out pass@k (unbiased)", xlabel="k", ylabel="pass@k", ylim=(0, 1))
    shown = evaluations[:1] + evaluations[1:][-1:]
    if not shown:
        axis.text(0.5, 0.5, "no evaluation", ha="center", transform=axis.transAxes)
        return
    highest = {k: max(float(e.at(k).mean()) for e in shown) for k in shown[0].ks}
    for e, style in zip(shown, ("--", "-"), strict=False):
        ks = [2**i for i in range(e.samples.bit_length()) if 2**i <= e.samples]
        means = [float(e.at(k).mean()) for k in ks]
        axis.plot(ks, means, style, marker="o", ms=4, color=ENTROPY, label=f"after {e.step} steps")
        for k, mean in zip(ks, means, strict=True):
            if k in e.ks:
                axis.annotate(
                    f"{mean:z.2f}",
                    (k, mean),
                    textcoords="offset points",
                    xytext=(0, 7 if mean == highest.get(k, mean) else -14),
                    ha="center",
                    fontsize=8,
                )
    axis.set_xscale("log", base=2)
    axis.set_xticks(ks, [str(k) for k in ks])
    axis.legend(loc="best", frameon=False)


def _course(axis: Axes, evaluations: list[Evaluation]) -> None:
    """pass@k over the learner step."""
    axis.set(title="Held-out pass@k (unbiased)", xlabel="learner step", ylabel="pass@k", ylim=(0, 1))
    for k, colour in zip(evaluations[-1].ks, (ENTROPY, TARGET, TEMPERATURE, ALPHA, REWARD), strict=False):
        known = [e for e in evaluations if k <= e.samples]
        means = [float(e.at(k).mean()) for e in known]
        axis.plot([e.step for e in known], means, marker="o", ms=4, color=colour, label=f"pass@{k}")
    axis.legend(loc="best", frameon=False)
