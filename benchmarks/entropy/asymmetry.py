"""The asymmetry behind SCOPE: entropy after training on positives only or negatives only, by sampling temperature.

    .venv/bin/python benchmarks/entropy/asymmetry.py

From the warm start, every learner step raises the likelihood of the correct auxiliary rollouts (or lowers that of the
incorrect ones), all sampled at one temperature. Alpha is so large that the surrogate contributes one part in ten
thousand of the gradient; surprisal weights are off. Prints entropy and pass@1 after training, as mean and range over
seeds, and writes benchmarks/results/entropy-asymmetry.json.
"""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import study
import torch
from plant import Constant

from services.compare.in_process import starting_model
from trainer.config.load import load_config
from trainer.entropy_control import Actuators
from trainer.in_process.run import InProcessRun

TEMPERATURES = (0.8, 1.0, 1.2)
SAMPLES = ("positives", "negatives")
STEPS = 24
ALPHA = 1e4
LAST = 4
"""final learner steps over which entropy is averaged"""


def main() -> None:
    """Run every cell, then report."""
    options = study.options(__doc__).parse_args()
    cells = list(product(SAMPLES, TEMPERATURES, study.SEEDS[: options.seeds]))
    starting_model(load_config(study.CONFIG), lambda _: None)
    with ProcessPoolExecutor(
        options.parallel, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        rows = list(pool.map(cell, *zip(*cells, strict=True)))
    print(
        f"\nafter {STEPS} steps on the auxiliary term alone; entropy at the start: {rows[0]['entropies'][0]:.3f} nats"
    )
    print(f"{'samples':10} {'T':>4} {'entropy':>8} {'[seeds]':>16} {'pass@1':>7} {'start':>7}")
    for samples, temperature in product(SAMPLES, TEMPERATURES):
        of_cell = [r for r in rows if (r["samples"], r["temperature"]) == (samples, temperature)]
        ends = [float(np.mean(r["entropies"][-LAST:])) for r in of_cell]
        first, last = (np.mean([r["pass@1"][i] for r in of_cell]) for i in (0, 1))
        print(
            f"{samples:10} {temperature:4.1f} {np.mean(ends):8.3f} [{min(ends):.3f}, {max(ends):.3f}] "
            f"{last:7.3f} {first:7.3f}"
        )
    study.keep("asymmetry", {"made_by": sys.argv, "steps": STEPS, "cells": rows})


def cell(samples: str, temperature: float, seed: int) -> dict[str, Any]:
    """Entropy at every step, and pass@1 before and after, of one run."""
    torch.set_num_threads(1)
    config = load_config(
        study.CONFIG, [f"seed={seed}", f"steps={STEPS}", f"entropy_control.samples={samples}"]
    )
    model = starting_model(config, lambda _: None)
    run = InProcessRun(config, model, controller=Constant(Actuators(temperature, ALPHA)))
    before = run.evaluate(0, samples=16)
    steps = list(run.steps())
    after = run.evaluate(STEPS, samples=16)
    return {
        "samples": samples,
        "temperature": temperature,
        "seed": seed,
        "entropies": [s.entropy for s in steps],
        "learned_from": [s.positives for s in steps],
        "pass@1": [before.pass_at(1), after.pass_at(1)],
    }


if __name__ == "__main__":
    main()
