"""Shared by the studies of this folder: runs of `scope compare` that are kept and reused between studies.

A finished unit under runs/ is not run again; one with another configuration is refused. Finished units are checked in,
compressed, under benchmarks/results/units, so an interrupted study continues from them on any machine and every figure
can be recomputed from them. To run a unit again, delete it in both places.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.compare.plan import Plan, Unit, make_plan
from services.compare.results import RESULT_FILE, UnitResult, read_result
from services.compare.run import compare
from services.driver.progress import Progress
from trainer.files import write_atomically

REPOSITORY = Path(__file__).parents[2]
CONFIG = REPOSITORY / "deploy" / "configs" / "countdown-cpu.yaml"
RESULTS = REPOSITORY / "benchmarks" / "results"
IMAGES = REPOSITORY / "docs" / "images"
UNITS = REPOSITORY / "runs" / "entropy"
EVALUATE_EVERY = 40
"""learner steps"""
TUNING_SEEDS = (1, 2)
"""seeds on which every tuned value was chosen; comparisons are reported on `SEEDS` only"""
SEEDS = (11, 12, 13, 14, 15)
FIXED_GAIN = "entropy_control.split_range.gain_memory=0"
"""setting of every run unless a study says otherwise: the law uses its configured gain, not a measured one"""


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every study has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=int, default=len(SEEDS), help=f"seeds per control, starting at {SEEDS[0]}"
    )
    parser.add_argument("--parallel", type=int, default=2, help="concurrent runs, one thread each")
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
    settings: Sequence[str] = (FIXED_GAIN,),
) -> tuple[dict[str, list[UnitResult]], dict[str, Any]]:
    """Run the missing units. Returns the units of each label, by seed, and the document of `scope compare`.

    Raises SystemExit if the comparison does not finish.
    """
    arguments = ["compare", str(config.relative_to(REPOSITORY)), "--controls", ",".join(controls)]
    arguments += ["--seeds", str(seeds), "--first-seed", str(first_seed)]
    if in_process:
        arguments += ["--in-process", "--evaluate-every", str(EVALUATE_EVERY)]
    plan = make_plan(
        config,
        controls,
        settings=settings,
        seeds=seeds,
        first_seed=first_seed,
        out=units,
        in_process=in_process,
        parallel=parallel,
        evaluate_every=EVALUATE_EVERY if in_process else None,
    )
    _restore(plan)
    try:
        status = compare(plan, Progress(), arguments=arguments)
    finally:
        _archive(plan)
    if status:
        raise SystemExit(status)
    found = {
        label: [read_result(units / "units" / unit.name) for unit in plan.units if unit.label == label]
        for label in plan.labels
    }
    return found, json.loads((units / "comparison.json").read_text())


def _restore(plan: Plan) -> None:
    for unit in plan.units:
        archived, result = _archived(plan, unit), _result(plan, unit)
        if archived.exists() and not result.exists():
            result.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(result, gzip.decompress(archived.read_bytes()))


def _archive(plan: Plan) -> None:
    for unit in plan.units:
        archived, result = _archived(plan, unit), _result(plan, unit)
        if result.exists() and not archived.exists():
            archived.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(archived, gzip.compress(result.read_bytes(), mtime=0))


def _result(plan: Plan, unit: Unit) -> Path:
    return plan.out / "units" / unit.name / RESULT_FILE


def _archived(plan: Plan, unit: Unit) -> Path:
    return RESULTS / "units" / plan.out.name / f"{unit.name}.json.gz"


def keep(name: str, document: dict[str, Any], pictures: Sequence[str] = (), units: Path = UNITS) -> None:
    """Write the document as entropy-NAME.json, and copy the named plots to docs/images as entropy-NAME-PICTURE.

    Paths in the document become relative to the repository.
    """
    text = json.dumps(document, indent=1, allow_nan=False).replace(f"{REPOSITORY}/", "")
    (RESULTS / f"entropy-{name}.json").write_text(text + "\n")
    for picture in pictures:
        shutil.copyfile(units / picture, IMAGES / f"entropy-{name}-{picture}")
