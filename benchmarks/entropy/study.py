"""What the studies of this folder share: runs of `scope compare`, kept, and reused between studies.

A finished unit under runs/ is not run again; one of another configuration is refused.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.compare.plan import make_plan
from services.compare.results import UnitResult, read_result
from services.compare.run import compare
from services.driver.progress import Progress

REPOSITORY = Path(__file__).parents[2]
CONFIG = REPOSITORY / "deploy" / "configs" / "countdown-cpu.yaml"
RESULTS = REPOSITORY / "benchmarks" / "results"
IMAGES = REPOSITORY / "docs" / "images"
UNITS = REPOSITORY / "runs" / "entropy"
EVALUATE_EVERY = 40
"""learner steps"""
TUNING_SEEDS = (1, 2)
"""Everything that was chosen was chosen on them; no reported figure comes from them."""
SEEDS = (11, 12, 13, 14, 15)


def options(description: str | None) -> argparse.ArgumentParser:
    """The options that every study has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=int, default=len(SEEDS), help=f"runs of each control, from {SEEDS[0]} on"
    )
    parser.add_argument("--parallel", type=int, default=2, help="runs at once, one thread each")
    return parser


def run(
    controls: Sequence[str],
    *,
    seeds: int,
    parallel: int,
    first_seed: int = SEEDS[0],
    config: Path = CONFIG,
    units: Path = UNITS,
    in_process: bool = True,
) -> tuple[dict[str, list[UnitResult]], dict[str, Any]]:
    """Units of each label, by seed, and the document of `scope compare`. Exits when a run was interrupted."""
    arguments = ["compare", str(config.relative_to(REPOSITORY)), "--controls", ",".join(controls)]
    arguments += ["--seeds", str(seeds), "--first-seed", str(first_seed)]
    if in_process:
        arguments += ["--in-process", "--evaluate-every", str(EVALUATE_EVERY)]
    plan = make_plan(
        config,
        controls,
        seeds=seeds,
        first_seed=first_seed,
        out=units,
        in_process=in_process,
        parallel=parallel,
        evaluate_every=EVALUATE_EVERY if in_process else None,
    )
    status = compare(plan, Progress(), arguments=arguments)
    if status:
        raise SystemExit(status)
    found = {
        label: [read_result(units / "units" / unit.name) for unit in plan.units if unit.label == label]
        for label in plan.labels
    }
    return found, json.loads((units / "comparison.json").read_text())


def keep(name: str, document: dict[str, Any], pictures: Sequence[str] = (), units: Path = UNITS) -> None:
    """Check in the figures as entropy-NAME.json, and the named pictures of the comparison as entropy-NAME-PICTURE."""
    (RESULTS / f"entropy-{name}.json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    for picture in pictures:
        shutil.copyfile(units / picture, IMAGES / f"entropy-{name}-{picture}")
