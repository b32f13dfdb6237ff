"""How step time scales with rollouts per step, response length, model size, generators and learner ranks.

    .venv/bin/python benchmarks/performance/growth.py [--dimensions rollouts length model generators workers]

Each row is a run of the whole system in which one number differs from the first row of its table; times are medians
over the measured steps. `wait` is the time in which the learner waits for rollouts. The exponent is the slope of a line
fitted to the logarithms: 1 is proportional, 0 is constant. Generators and ranks share the machine's cores, so more of
them help only where cores are idle. Writes benchmarks/results/performance-growth.json and
docs/images/performance-growth.png.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2])]

import numpy as np  # noqa: E402

from benchmarks.performance.endless import make_model  # noqa: E402
from benchmarks.performance.shared import REPOSITORY, keep  # noqa: E402
from tests.chaos.subject import Subject  # noqa: E402
from tests.support.runs.run_harness import new_run  # noqa: E402
from trainer.config import ModelConfig  # noqa: E402

START_SECONDS, RUN_SECONDS, FIRST_STEPS = 900.0, 1800.0, 4
SETTINGS = [
    "task.name=benchmarks.performance.endless:Endless",
    "task.heldout=64",
    "control_plane.enabled=false",
    "ray.dashboard=false",
    "evaluation.problems=2",
    "evaluation.samples=1",
    "evaluation.ks=[1]",
    "checkpoint.every_steps=500",
    "entropy_control.target=1.0",
]


@dataclass(frozen=True)
class Case:
    """The sizes of one run; each table varies one of them."""

    prompts: int = 8
    tokens: int = 48
    hidden: int = 64
    layers: int = 2
    generators: int = 1
    workers: int = 1

    @property
    def model(self) -> ModelConfig:
        """The model: heads of 32 channels, and a feed-forward layer of four times the hidden size."""
        return ModelConfig(
            hidden_size=self.hidden,
            layers=self.layers,
            heads=self.hidden // 32,
            ffn_size=4 * self.hidden,
            max_length=256,
        )

    @property
    def settings(self) -> list[str]:
        """The settings of `scope train`."""
        return [
            f"rollout.prompts_per_step={self.prompts}",
            "rollout.base_samples=4",
            "rollout.adaptive_samples=4",
            f"rollout.max_new_tokens={self.tokens}",
            "model.max_length=256",
            f"generators.base={self.generators}",
            f"generators.adaptive={self.generators}",
            f"learner.workers={self.workers}",
        ]


DIMENSIONS = {
    "rollouts": [Case(prompts=prompts) for prompts in (8, 16, 32, 64)],
    "length": [Case(tokens=tokens) for tokens in (24, 48, 96, 192)],
    "model": [Case(), Case(hidden=256, layers=5), Case(hidden=768, layers=8)],
    "generators": [Case(prompts=32, generators=number) for number in (1, 2)],
    "workers": [Case(prompts=32, workers=number) for number in (1, 2)],
}
AXES = {
    "rollouts": "rollouts a step",
    "length": "tokens of a response",
    "model": "parameters",
    "generators": "generators of each role",
    "workers": "learner ranks",
}


def main() -> None:
    """Run the requested dimensions, print their tables, and write the document and the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dimensions", nargs="+", choices=DIMENSIONS, default=list(DIMENSIONS))
    parser.add_argument("--steps", type=int, default=8, help="measured steps of each run")
    options = parser.parse_args()
    done: dict[Case, dict[str, float]] = {}
    found: dict[str, Any] = {}
    for dimension in options.dimensions:
        rows = []
        for case in DIMENSIONS[dimension]:
            done[case] = done.get(case) or measure(case, options.steps)
            rows.append({"at": place(dimension, case, done[case]), **done[case]})
        found[dimension] = {"rows": rows, "exponents": exponents(rows)}
        table(dimension, found[dimension])
    keep("performance-growth", {"steps": options.steps, "dimensions": found})
    plot(found)


def measure(case: Case, steps: int) -> dict[str, float]:
    """Medians over the measured steps of one run."""
    with tempfile.TemporaryDirectory(prefix="scope-growth-") as folder:
        parameters = make_model(Path(folder) / "model", case.model)
        settings = [*SETTINGS, *case.settings, f"steps={FIRST_STEPS + steps + 5}"]
        run = new_run(Path(folder) / "runs", "growth", [*settings, f"model.path={folder}/model"])
        subject = Subject(run)
        try:
            subject.await_step(FIRST_STEPS + steps, START_SECONDS + RUN_SECONDS)
            records = run.records()[FIRST_STEPS : FIRST_STEPS + steps]
            subject.preempt(120)
        finally:
            subject.kill()
    medians = {
        "step_seconds": statistics.median(r.step_seconds for r in records),
        "wait_seconds": statistics.median(r.wait_seconds for r in records),
        "learn_seconds": statistics.median(r.step_seconds - r.wait_seconds for r in records),
        "response_tokens": statistics.median(r.response_length for r in records),
    }
    return medians | {"parameters": float(parameters)}


def place(dimension: str, case: Case, found: dict[str, float]) -> float:
    """Position of a row on the axis of its table."""
    return {
        "rollouts": 8.0 * case.prompts,
        "length": found["response_tokens"],
        "model": found["parameters"],
        "generators": float(case.generators),
        "workers": float(case.workers),
    }[dimension]


def exponents(rows: list[dict[str, float]]) -> dict[str, float]:
    """Exponents of step time and learning time along the axis."""
    at = np.log([row["at"] for row in rows])
    return {
        name: float(np.polyfit(at, np.log([row[name] for row in rows]), 1)[0])
        for name in ("step_seconds", "learn_seconds")
    }


def table(dimension: str, found: dict[str, Any]) -> None:
    """Print the table of one dimension."""
    print(f"\n{AXES[dimension]:>24}{'step':>9}{'ratio':>8}{'wait':>9}{'learn':>9}")
    first = found["rows"][0]["step_seconds"]
    for row in found["rows"]:
        times = f"{row['step_seconds']:>9.2f}{row['step_seconds'] / first:>8.2f}"
        print(f"{row['at']:>24,.0f}{times}{row['wait_seconds']:>9.2f}{row['learn_seconds']:>9.2f}")
    fitted = found["exponents"]
    print(f"{'exponent':>24}{fitted['step_seconds']:>9.2f}{'':17}{fitted['learn_seconds']:>9.2f}", flush=True)


def plot(found: dict[str, Any]) -> None:
    """Plot step time and learning time along each axis, as multiples of the first row."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(3.2 * len(found), 3.2), squeeze=False)
    for axis, (dimension, of) in zip(axes[0], found.items(), strict=True):
        rows = of["rows"]
        at = [row["at"] for row in rows]
        for name, label in (("step_seconds", "step"), ("learn_seconds", "learning")):
            axis.plot(at, [row[name] / rows[0][name] for row in rows], marker="o", label=label)
        axis.plot(at, [x / at[0] for x in at], color="0.7", linestyle=":", label="proportional")
        axis.set(xscale="log", yscale="log", xlabel=AXES[dimension])
        axis.set_xticks(at, [f"{x:,.3g}" if x < 1e4 else f"{x / 1e6:.3g} M" for x in at], minor=False)
        axis.set_xticks([], minor=True)
        most = max(row["step_seconds"] / rows[0]["step_seconds"] for row in rows)
        ticks = [1, 1.5, 2] if most < 2 else [1, 2, 4, 8] if most < 10 else [1, 3, 10, 30, 100]
        axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_yticks([], minor=True)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("times the first")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(REPOSITORY / "docs" / "images" / "performance-growth.png", dpi=110)


if __name__ == "__main__":
    main()
