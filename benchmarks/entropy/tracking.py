"""How well entropy follows its set-point: held at three levels, stepped live, and under staleness, over seeds.

    .venv/bin/python benchmarks/entropy/tracking.py --seeds 11 12 13 14 15 --parallel 2

Runs Countdown in one process a unit (trainer/in_process.py), keeps each finished unit under --units and skips it the
next time, prints the tables and writes benchmarks/results/entropy-tracking.json. Gains were chosen on seed 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).parents[2]
CONFIG = REPOSITORY / "deploy" / "configs" / "countdown-cpu.yaml"
RESULTS = REPOSITORY / "benchmarks" / "results" / "entropy-tracking.json"
LAST = 60
BAND = 0.04
UP, DOWN = 60, 110
"""learner steps at which the live steps of +0.12 and -0.12 nats happen"""

HELD = {"held 30 %": 0.175, "held 50 %": 0.29, "held 70 %": 0.41}
LIVE = [
    "entropy_control.target=0.29",
    "entropy_control.schedule.kind=step",
    f"entropy_control.schedule.points=[[{UP},0.41],[{DOWN},0.29]]",
]
CASES: dict[str, list[str]] = {
    **{name: [f"entropy_control.target={target}"] for name, target in HELD.items()},
    "live": LIVE,
    **{f"live, staleness {d}": [*LIVE, f"pipeline.max_staleness={d}"] for d in (0, 2, 4)},
    **{
        f"held 50 %, staleness {d}": ["entropy_control.target=0.29", f"pipeline.max_staleness={d}"]
        for d in (0, 2, 4)
    },
    "GRPO": ["entropy_control.kind=none"],
}


def main() -> None:
    """Run what is missing, then report; or, as a child, one unit."""
    parser = argparse.ArgumentParser(description="entropy against its set-point")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[11, 12, 13, 14, 15])
    parser.add_argument("--parallel", type=int, default=2, help="units at once, one thread each")
    parser.add_argument("--units", type=Path, default=REPOSITORY / "runs" / "entropy-tracking")
    parser.add_argument("--unit", nargs=2, metavar=("CASE", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.units.mkdir(parents=True, exist_ok=True)
    if options.unit:
        run_unit(options.unit[0], int(options.unit[1]), options.units)
        return
    wanted = [(case, seed) for seed in options.seeds for case in options.cases]
    missing = [unit for unit in wanted if not _path(options.units, *unit).exists()]
    with ThreadPoolExecutor(options.parallel) as pool:
        for done, (case, seed) in enumerate(pool.map(lambda u: _child(options.units, *u), missing), start=1):
            print(f"{done}/{len(missing)} {case}, seed {seed}", flush=True)
    results = report({unit: json.loads(_path(options.units, *unit).read_text()) for unit in wanted})
    machine = {"machine": platform.machine(), "cpus": os.cpu_count(), "command": sys.argv[1:]}
    RESULTS.write_text(json.dumps({"cases": results, **machine}, indent=1) + "\n")


def run_unit(case: str, seed: int, units: Path) -> None:
    """One run; its file appears when it is finished."""
    import torch

    from services.compare.in_process import starting_model
    from trainer.config_load import load_config
    from trainer.in_process import InProcessRun

    torch.set_num_threads(1)
    config = load_config(CONFIG, [*CASES[case], f"seed={seed}"])
    model = starting_model(config, lambda _: None)
    run, started = InProcessRun(config, model), time.perf_counter()
    evaluations = [run.evaluate(0, samples=64)]
    evaluated = time.perf_counter() - started
    steps = [asdict(step) for step in run.steps()]
    seconds = time.perf_counter() - started - evaluated
    evaluations.append(run.evaluate(config.steps, samples=64))
    unit = {"case": case, "seed": seed, "overrides": CASES[case], "training_seconds": seconds, "steps": steps}
    unit["evaluations"] = [
        asdict(e) | {"pass": {k: e.pass_at(k) for k in (1, 4, 16, 64)}} for e in evaluations
    ]
    path = _path(units, case, seed)
    path.with_suffix(".writing").write_text(json.dumps(unit))
    path.with_suffix(".writing").replace(path)


def report(units: dict[tuple[str, int], dict[str, Any]]) -> dict[str, Any]:
    """Print the tables; returns every number in them, by case."""
    results: dict[str, Any] = {}
    for case in dict.fromkeys(case for case, _ in units):
        of_case = [unit for (name, _), unit in units.items() if name == case]
        results[case] = {
            "held": [held(unit) for unit in of_case],
            "live": [live(unit) for unit in of_case] if case.startswith("live") else [],
            "passes": [[e["pass"] for e in unit["evaluations"]] for unit in of_case],
            "seeds": [unit["seed"] for unit in of_case],
        }
    print(f"\nlast {LAST} of {160} steps, mean over seeds [worst seed]")
    print(f"{'case':28} {'target':>6} {'entropy':>8} {'mean error':>18} {'RMS of MA5':>18} {'saturated':>10}")
    for case, result in results.items():
        rows = result["held"]
        if "target" not in rows[0]:
            print(f"{case:28} {'-':>6} {_mean(rows, 'entropy'):8.3f}")
            continue
        error, rms = ([row[key] for row in rows] for key in ("error", "rms5"))
        worst = max(error, key=abs)
        print(
            f"{case:28} {rows[0]['target']:6.3f} {_mean(rows, 'entropy'):8.3f} "
            f"{np.mean(error):+9.4f} [{worst:+.3f}] {np.mean(rms):9.4f} [{max(rms):.3f}] "
            f"{_mean(rows, 'saturated'):9.0%}"
        )
    print(f"\nlive steps of 0.12 nats: learner steps until the 5-step mean stays within {BAND}; overshoot")
    for case, result in results.items():
        for direction in ("up", "down") if result["live"] else ():
            settled = [row[direction]["settled"] for row in result["live"]]
            over = [row[direction]["overshoot"] for row in result["live"]]
            print(
                f"{case:28} {direction:5} settled {np.mean(settled):5.1f} [{max(settled)}]   "
                f"overshoot {np.mean(over):4.0%} [{max(over):.0%}]"
            )
    print("\npass@k on held-out problems at the end, mean over seeds (start in brackets)")
    for case, result in results.items():
        ends, starts = [p[-1] for p in result["passes"]], [p[0] for p in result["passes"]]
        cells = [f"@{k} {_mean(ends, k):.3f} ({_mean(starts, k):.3f})" for k in ("1", "4", "16", "64")]
        print(f"{case:28} {'  '.join(cells)}")
    return results


def held(unit: dict[str, Any]) -> dict[str, float]:
    """Tracking over the last steps; without a set-point, only where entropy was."""
    steps = unit["steps"]
    entropy = np.array([s["entropy"] for s in steps])
    smooth = np.convolve(entropy, np.ones(5) / 5, "valid")
    reached = {"entropy": float(entropy[-LAST:].mean()), "lowest5": float(smooth.min())}
    if steps[0]["set_point"] is None:
        return reached
    target = np.array([s["set_point"] for s in steps])
    return reached | {
        "target": float(target[-1]),
        "error": float((entropy - target)[-LAST:].mean()),
        "rms5": float(np.sqrt(((smooth - target[4:])[-LAST:] ** 2).mean())),
        "saturated": float(np.mean([s["saturated"] for s in steps[-LAST:]])),
    }


def live(unit: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Settling and overshoot of both live steps; a window ends at the next one or with the run."""
    entropy = np.array([s["entropy"] for s in unit["steps"]])
    found = {}
    for name, begin, end in (("up", UP, DOWN), ("down", DOWN, len(entropy))):
        target, before = unit["steps"][begin]["set_point"], unit["steps"][begin - 1]["set_point"]
        smooth = np.convolve(entropy[begin - 4 : end], np.ones(5) / 5, "valid") - target
        outside = np.flatnonzero(np.abs(smooth) > BAND)
        beyond = float(max(0.0, (smooth * np.sign(target - before)).max()))
        found[name] = {
            "settled": int(outside[-1]) + 1 if len(outside) else 0,
            "overshoot": beyond / abs(target - before),
        }
    return found


def _child(units: Path, case: str, seed: int) -> tuple[str, int]:
    command = [sys.executable, str(Path(__file__)), "--units", str(units), "--unit", case, str(seed)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    with (units / f"{_path(units, case, seed).stem}.log").open("w") as log:
        subprocess.run(command, check=True, env=environment, stdout=log, stderr=log)
    return case, seed


def _path(units: Path, case: str, seed: int) -> Path:
    name = case.lower().replace(" %", "").replace(",", "").replace(" ", "-")
    return units / f"{name}-s{seed}.json"


def _mean(rows: list[dict[str, float]], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))


if __name__ == "__main__":
    main()
