"""Held-out pass@16 and pass@1 of the quickstart against the entropy target, by `scope tune`.

    .venv/bin/python benchmarks/entropy/search.py

Eight trials of 120 steps on a tuning seed, of which none is stopped early. Prints the table and writes
benchmarks/results/entropy-search.json. An interrupted search continues where it was.
"""

from __future__ import annotations

import json
import sys

import study

from services.cli.main import main as scope
from services.tuning.plot import PLOT
from services.tuning.run import RESULTS

OUT = study.UNITS / "search"
SEARCH = ["tune", str(study.CONFIG), "--search", "entropy_control.target=0.1:0.7", "--trials", "8"]
RUNS = ["--set", "steps=120", "--evaluate-every", "0", "--first-seed", str(study.TUNING_SEEDS[0])]


def main() -> int:
    """Run the missing trials, then report."""
    status = scope([*SEARCH, *RUNS, "--out", str(OUT)])
    if status == 0:
        document = json.loads((OUT / RESULTS).read_bytes())
        study.keep("search", document | {"made_by": sys.argv}, [PLOT], OUT)
    return status


if __name__ == "__main__":
    sys.exit(main())
