"""The plant: how fast entropy responds to each actuator, measured open-loop from a policy at a given entropy.

    .venv/bin/python benchmarks/entropy/plant.py --level 0.42 --out benchmarks/results/plant-0.42.json

A closed-loop run brings the policy to the level. From that policy, each cell holds its actuators constant for some
steps. Prints each cell's slope (nats per step, least squares, with its standard error) and the scatter of entropy about
the line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from services.compare.in_process import starting_model
from trainer.config.load import load_config
from trainer.entropy_control import Actuators
from trainer.in_process.run import InProcessRun

CONFIG = Path(__file__).parents[2] / "deploy" / "configs" / "countdown-cpu.yaml"
CELLS = [
    Actuators(1.0, 0.0),
    *(Actuators(1.0, alpha, rho) for alpha in (0.3, 1.0, 2.0) for rho in (0.0, 1.0, 2.0)),
    *(Actuators(t, 1.0, rho) for t in (0.6, 1.4) for rho in (0.0, 1.0, 2.0)),
]


class Constant:
    """A controller with constant actuators."""

    def __init__(self, actuators: Actuators) -> None:
        self.actuators = actuators

    def update(
        self, entropy: float, entropy_target: float, *, positives: int, rollouts: int, error: float = 0.0
    ) -> Actuators:
        """The constant actuators; the arguments are ignored."""
        del entropy, entropy_target, positives, rollouts, error
        return self.actuators

    def state(self) -> dict[str, float]:
        """Empty: there is no state."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Do nothing: there is no state."""
        del state

    def take_over(self, temperature: float) -> None:
        """Do nothing: the actuators are given."""
        del temperature


def _cell(text: str) -> Actuators:
    temperature, alpha, rho = (float(part) for part in text.split(","))
    return Actuators(temperature, alpha, rho)


def slope_of(entropies: list[float]) -> dict[str, float]:
    """Least-squares slope per step, its standard error, and the scatter about the line."""
    x = np.arange(len(entropies)) - (len(entropies) - 1) / 2
    y = np.asarray(entropies)
    slope = float((x * (y - y.mean())).sum() / (x**2).sum())
    residual = y - y.mean() - slope * x
    scatter = float(np.sqrt((residual**2).sum() / (len(y) - 2)))
    return {"slope": slope, "slope_error": scatter / float(np.sqrt((x**2).sum())), "noise": scatter}


def main() -> None:
    """Bring the policy to the level, then measure every cell."""
    parser = argparse.ArgumentParser(description="open-loop response of policy entropy to its actuators")
    parser.add_argument("--level", type=float, required=True, help="nats per token")
    parser.add_argument("--approach", type=int, default=60, help="closed-loop steps before the cells")
    parser.add_argument("--steps", type=int, default=12, help="open-loop steps per cell")
    parser.add_argument(
        "--cells",
        nargs="+",
        type=_cell,
        default=CELLS,
        metavar="T,ALPHA,RHO",
        help="cells to measure instead of the default grid",
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(
        CONFIG, [f"entropy_control.target={options.level}", f"steps={options.approach}", *options.set]
    )
    model = starting_model(config, lambda _: None)
    run = InProcessRun(config, model)
    approach = [step.entropy for step in run.steps()]
    print(f"level {options.level}: entropy {np.mean(approach[-5:]):.3f} after {options.approach} steps")
    rows: list[dict[str, Any]] = []
    kept = tempfile.TemporaryDirectory()
    run.save(Path(kept.name))
    longer = config.model_copy(update={"steps": options.approach + options.steps})
    for cell in options.cells:
        branch = InProcessRun(longer, model, controller=Constant(cell))
        branch.start_from(Path(kept.name), options.approach)
        steps = list(branch.steps())
        row = asdict(cell) | slope_of([s.entropy for s in steps]) | {"entropies": [s.entropy for s in steps]}
        row |= {"positives": float(np.mean([s.positives for s in steps]))}
        rows.append(row)
        print(
            f"T {cell.temperature:.1f} alpha {cell.alpha:.1f} rho {cell.surprisal_exponent:.0f}: "
            f"{row['slope']:+.4f} ± {row['slope_error']:.4f} nats/step, noise {row['noise']:.3f}, "
            f"{row['positives']:.0f} positives",
            flush=True,
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps({"level": options.level, "approach": approach, "cells": rows}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
