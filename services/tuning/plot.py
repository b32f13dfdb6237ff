"""The plot of a search: the metric against each value that was searched, one panel a field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

PLOT = "search.png"
COLOURS = ("#0072B2", "#D55E00")
"""of the metric and of pass@1 beside it"""
WIDTH, HEIGHT, DPI = 7.5, 4.4, 120


def plot_search(directory: Path, document: dict[str, Any]) -> str | None:
    """Write the plot; returns its file name, or None when no trial has a value yet."""
    trials = [trial for trial in document["trials"] if trial["pass"]]
    if not trials:
        return None
    panels = len(document["space"])
    figure, axes = plt.subplots(
        1,
        panels,
        figsize=(WIDTH * (1 + panels) / 2, HEIGHT),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for axis, dimension in zip(axes[0], document["space"], strict=True):
        for i, metric in enumerate(dict.fromkeys([document["metric"], "pass@1"])):
            _draw(axis, dimension["field"], metric, COLOURS[i], trials)
        if dimension["log"]:
            axis.set_xscale("log")
        axis.set(xlabel=dimension["field"])
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("held-out pass@k")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(f"Trials of {document['steps']} steps, 95 % intervals; hollow: stopped early")
    figure.savefig(directory / PLOT, dpi=DPI)
    plt.close(figure)
    return PLOT


def _draw(axis: Axes, field: str, metric: str, colour: str, trials: list[dict[str, Any]]) -> None:
    ordered = sorted(trials, key=lambda trial: trial["values"][field])
    for state, face in (("finished", colour), ("stopped", "white")):
        chosen = [trial for trial in ordered if trial["state"] == state]
        x = [trial["values"][field] for trial in chosen]
        found = [trial["pass"][metric] for trial in chosen]
        means = [interval["mean"] for interval in found]
        # The mean of a resample may lie a rounding error outside its own interval.
        below = [max(0.0, interval["mean"] - interval["low95"]) for interval in found]
        above = [max(0.0, interval["high95"] - interval["mean"]) for interval in found]
        axis.errorbar(
            x, means, yerr=[below, above], fmt="o", ms=5, mfc=face, color=colour, lw=1, capsize=2,
            label=metric if state == "finished" else None,
        )  # fmt: skip
        if state == "finished":
            axis.plot(x, means, color=colour, lw=1, alpha=0.5)
