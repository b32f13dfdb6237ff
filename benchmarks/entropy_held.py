"""Entropy held against entropy collapsing: the same run with SCOPE and with plain GRPO, one after the other.

    .venv/bin/python benchmarks/entropy_held.py            # two runs of about ten minutes each
    .venv/bin/python benchmarks/entropy_held.py --reuse runs/quickstart runs/quickstart-grpo

Prints a table, writes it to benchmarks/results/entropy_held.json and the picture to docs/images/entropy.png.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from services.driver.run_directory import package_versions
from services.metrics import StepRecord, read_records
from services.report import Evaluations

REPOSITORY = Path(__file__).parent.parent
CONFIG = REPOSITORY / "deploy" / "configs" / "countdown-cpu.yaml"
RESULTS = REPOSITORY / "benchmarks" / "results" / "entropy_held.json"
PICTURE = REPOSITORY / "docs" / "images" / "entropy.png"
RUNS = {"SCOPE": [], "GRPO": ["--set", "entropy_control.kind=none"]}
COLOURS = {"SCOPE": "#1b6ca8", "GRPO": "#8d99ae"}
TARGET = "#d1495b"


def main() -> None:
    """Run or reuse, then report."""
    parser = argparse.ArgumentParser(description="Entropy held against entropy collapsing")
    parser.add_argument(
        "--reuse", nargs=2, type=Path, metavar=("SCOPE_RUN", "GRPO_RUN"), help="finished runs"
    )
    options = parser.parse_args()
    paths = (
        dict(zip(RUNS, options.reuse, strict=True)) if options.reuse else {name: _run(name) for name in RUNS}
    )
    rows = {name: _row(path) for name, path in paths.items()}
    print(_table(rows))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    machine = {"machine": platform.machine(), "cpus": os.cpu_count(), "versions": package_versions()}
    RESULTS.write_text(json.dumps({"runs": rows, **machine}, indent=2) + "\n")
    _picture(paths)


def _run(name: str) -> Path:
    run_id = f"entropy-held-{name.lower()}"
    command = [sys.executable, "-m", "services.cli", "train", str(CONFIG), "--run-id", run_id, "--replace"]
    subprocess.run([*command, *RUNS[name]], check=True, cwd=REPOSITORY)
    return REPOSITORY / "runs" / run_id


def _row(path: Path) -> dict[str, Any]:
    report = json.loads((path / "report.json").read_text())
    evaluation, entropy = report["evaluation"], report["entropy"]
    return {
        "steps": report["steps"],
        "config_hash": report["config_hash"],
        "wall_seconds": report["wall_seconds"],
        "median_step_seconds": report["throughput"]["median_step_seconds"],
        "entropy_start": entropy["start"],
        "entropy_last_third": entropy["last_third_mean"],
        "set_point": entropy.get("set_point"),
        "over_set_point": entropy.get("last_third_mean_over_set_point"),
        "start": {k: v for k, v in evaluation["start"].items() if k.startswith("pass@")},
        "end": {k: v for k, v in evaluation["end"].items() if k.startswith("pass@")},
        "difference": evaluation["difference"],
    }


def _table(rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        "control  entropy: start  last third  (of set-point)   pass@1: start  end   change [95 %]          "
        "pass@16: start  end"
    ]
    for name, row in rows.items():
        change = row["difference"]["pass@1"]
        share = f"{row['over_set_point']:.0%}" if row["over_set_point"] else "-"
        lines.append(
            f"{name:<8} {row['entropy_start']:14.3f} {row['entropy_last_third']:11.3f} {share:>15} "
            f"{row['start']['pass@1']['mean']:15.3f} {row['end']['pass@1']['mean']:5.3f} "
            f"{change['mean']:+.3f} [{change['low95']:+.3f}, {change['high95']:+.3f}] "
            f"{row['start']['pass@16']['mean']:14.3f} {row['end']['pass@16']['mean']:5.3f}"
        )
    return "\n".join(lines)


def _picture(paths: dict[str, Path]) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    records = {name: read_records(path / "steps.jsonl") for name, path in paths.items()}
    _entropy(left, records)
    for name, path in paths.items():
        last = Evaluations(path / "evaluations.json").all
        for evaluation, style in ((last[0], ":"), (last[-1], "-")):
            ks = [2**i for i in range(evaluation.samples.bit_length()) if 2**i <= evaluation.samples]
            means = [float(evaluation.at(k).mean()) for k in ks]
            start = style == ":"
            label = "start" if start else f"{name} after {evaluation.step} steps"
            if start and name != "SCOPE":
                continue
            right.plot(
                ks, means, style, marker="o", ms=3.5, color="#444444" if start else COLOURS[name], label=label
            )
            right.set_xticks(ks, [str(k) for k in ks])
    right.set_xscale("log", base=2)
    right.set(title="Held-out pass@k", xlabel="k", ylabel="problems solved", ylim=(0, 1))
    right.minorticks_off()
    right.legend(frameon=False)
    for axis in (left, right):
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def _entropy(axis: Axes, records: dict[str, list[StepRecord]]) -> None:
    for name, of_run in records.items():
        axis.plot(
            [r.step for r in of_run], [r.entropy for r in of_run], color=COLOURS[name], lw=1.7, label=name
        )
    controlled = records["SCOPE"]
    target = [r.set_point if r.set_point is not None else float("nan") for r in controlled]
    steps = [r.step for r in controlled]
    axis.step(steps, target, where="post", color=TARGET, ls="--", lw=1.3, label="set-point")
    axis.fill_between(
        steps, [0.9 * t for t in target], [1.1 * t for t in target], color=TARGET, alpha=0.12, lw=0
    )
    axis.set(title="Policy entropy", xlabel="learner step", ylabel="nats per token", ylim=(0, None))
    axis.legend(frameon=False)


if __name__ == "__main__":
    main()
