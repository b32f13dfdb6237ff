"""Plots of a comparison, one PNG each: a line is the mean over seeds, a band spans the smallest and the largest seed.

The colours are those of Okabe and Ito, which colour-blind readers can tell apart. They repeat after eight controls,
with another dash and marker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from services.compare.report import headline_ks
from services.compare.results import StepPoint, UnitResult
from services.compare.statistics import AVERAGE_STEPS, moving_average
from services.compare.table import Groups
from trainer.pass_at_k import pass_at_k

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A800")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)))
MARKERS = ("o", "s", "^")
TARGET = "#444444"
WIDTH, DPI = 9.0, 120


def plot_all(directory: Path, groups: Groups, document: dict[str, Any]) -> list[str]:
    """Write every plot that has data; returns their file names."""
    drawn = {
        "entropy.png": _entropy(groups),
        "actuators.png": _actuators(groups),
        "reward.png": _reward(groups),
        "pass_at_k.png": _pass_at_k(document),
        "trajectory.png": _trajectory(groups, headline_ks(document["ks"])),
    }
    names = []
    for name, figure in drawn.items():
        if figure is not None:
            figure.savefig(directory / name, dpi=DPI)
            plt.close(figure)
            names.append(name)
    return names


def _entropy(groups: Groups) -> Figure:
    figure, axis = _axes(1, 4.4)
    targets = {
        label: _column(units, lambda s: s.entropy_target).mean(axis=0) for label, units in groups.items()
    }
    known = [target for target in targets.values() if np.isfinite(target).any()]
    one = all(len(t) == len(known[0]) and np.allclose(t, known[0], equal_nan=True) for t in known)
    for i, (label, units) in enumerate(groups.items()):
        _band(axis, i, label, _column(units, lambda s: s.entropy))
        if not one and np.isfinite(targets[label]).any():
            axis.plot(targets[label], color=COLOURS[i % len(COLOURS)], ls=":", lw=1.2)
    if known and one:
        axis.plot(known[0], color=TARGET, ls="--", lw=1.2, label="entropy target", zorder=1)
    elif known:
        axis.plot([], color=TARGET, ls=":", lw=1.2, label="entropy targets")
    axis.set(xlabel="learner step", ylabel="policy entropy, nats per token", ylim=(0, None))
    axis.set_title("Policy entropy and its target")
    return _finish(figure, [axis])


def _actuators(groups: Groups) -> Figure | None:
    acting = {label for label, units in groups.items() if any(s.alpha > 0 for u in units for s in u.steps)}
    if not acting:
        return None
    figure, axes = plt.subplots(3, 1, figsize=(WIDTH, 6.6), layout="constrained", sharex=True)
    panels: list[tuple[str, Callable[[StepPoint], float]]] = [
        ("temperature T", lambda s: s.temperature),
        ("weight α", lambda s: s.alpha),
        ("surprisal exponent ρ", lambda s: s.surprisal_exponent),
    ]
    for axis, (name, value) in zip(axes, panels, strict=True):
        for i, (label, units) in enumerate(groups.items()):
            if label in acting:
                _band(axis, i, label, _column(units, value))
        axis.set_ylabel(name)
    axes[0].axhline(1, color=TARGET, lw=0.8, ls=":")
    for axis in axes[1:]:
        axis.set_ylim(bottom=min(0, axis.get_ylim()[0]))
    axes[0].set_title("Actuators of the controls that have them")
    axes[-1].set_xlabel("learner step")
    return _finish(figure, list(axes))


def _reward(groups: Groups) -> Figure:
    figure, axis = _axes(1, 4.0)
    for i, (label, units) in enumerate(groups.items()):
        rewards = _column(units, lambda s: s.reward)
        smooth = np.stack([moving_average(row) for row in rewards])
        _band(axis, i, label, smooth, first=rewards.shape[1] - smooth.shape[1])
    axis.set(xlabel="learner step", ylabel="mean reward of base rollouts")
    axis.set_title(f"Reward in training, averages of {AVERAGE_STEPS} steps")
    return _finish(figure, [axis])


def _pass_at_k(document: dict[str, Any]) -> Figure:
    figure, axis = _axes(1, 4.4)
    ks = document["ks"]
    for i, (label, control) in enumerate(document["controls"].items()):
        ends = [control["pass"][str(k)]["end"] for k in ks]
        means, lows, highs = ([end[name] for end in ends] for name in ("mean", "low95", "high95"))
        axis.plot(ks, means, **_style(i), marker=_marker(i), ms=4, lw=1.6, label=label)
        axis.fill_between(ks, lows, highs, color=COLOURS[i % len(COLOURS)], alpha=0.13, lw=0)
    baseline = document["controls"][document["baseline"]]
    start = [baseline["pass"][str(k)]["start"]["mean"] for k in ks]
    axis.plot(ks, start, color=TARGET, ls="--", lw=1.3, label="start", zorder=1)
    axis.set_xscale("log", base=2)
    axis.set_xticks(ks, [str(k) for k in ks])
    axis.minorticks_off()
    axis.set(xlabel="k", ylabel="held-out pass@k", ylim=(0, 1))
    axis.set_title("Held-out pass@k at the end of training, 95 % intervals")
    return _finish(figure, [axis])


def _trajectory(groups: Groups, ks: Sequence[int]) -> Figure | None:
    if len(ks) < 2:
        return None
    few, many = ks[0], ks[-1]
    starts = []
    figure, axis = _axes(1, 5.2)
    for i, (label, units) in enumerate(groups.items()):
        points = [
            [
                [float(pass_at_k(e.samples, e.correct, k).mean()) for k in (few, many)]
                for e in unit.evaluations
                if e.samples >= many
            ]
            for unit in units
        ]
        x, y = np.array(points).mean(axis=0).T
        axis.plot(x, y, **_style(i), lw=1.3, label=label)
        axis.plot(x[1:-1], y[1:-1], _marker(i), color=COLOURS[i % len(COLOURS)], ms=3.5)
        axis.plot(x[-1], y[-1], _marker(i), color=COLOURS[i % len(COLOURS)], ms=9, mec="white")
        starts.append((x[0], y[0]))
    axis.plot(*np.mean(starts, axis=0), "*", color=TARGET, ms=13, ls="", zorder=3, label="start")
    axis.set(xlabel=f"held-out pass@{few}", ylabel=f"held-out pass@{many}")
    axis.set_title(f"pass@{few} against pass@{many} over training, mean over seeds; large marker: end")
    return _finish(figure, [axis])


def _axes(rows: int, height: float) -> tuple[Figure, Axes]:
    figure, axis = plt.subplots(rows, 1, figsize=(WIDTH, height), layout="constrained")
    return figure, axis


def _column(units: Sequence[UnitResult], value: Callable[[StepPoint], float | None]) -> NDArray[np.float64]:
    """Return one field of every step, float64[seeds, steps]; NaN where a step has none."""
    return np.array([[value(step) for step in unit.steps] for unit in units], dtype=np.float64)


def _band(axis: Axes, i: int, label: str, values: NDArray[np.floating], first: int = 0) -> None:
    steps = np.arange(first, first + values.shape[1])
    axis.plot(steps, values.mean(axis=0), **_style(i), lw=1.6, label=label)
    if len(values) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axis.fill_between(steps, low, high, color=COLOURS[i % len(COLOURS)], alpha=0.16, lw=0)


def _style(i: int) -> dict[str, Any]:
    return {"color": COLOURS[i % len(COLOURS)], "ls": DASHES[i // len(COLOURS) % len(DASHES)]}


def _marker(i: int) -> str:
    return MARKERS[i // len(COLOURS) % len(MARKERS)]


def _finish(figure: Figure, axes: Sequence[Axes]) -> Figure:
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    return figure
