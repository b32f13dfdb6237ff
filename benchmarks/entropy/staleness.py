"""How well entropy follows a constant and a stepped target at each limit of staleness.

    .venv/bin/python benchmarks/entropy/staleness.py

`pipeline.max_staleness` is 0, 2 and 4; `tracking.py` has the same runs at 1. Prints the tables and writes
benchmarks/results/entropy-staleness.json.
"""

from __future__ import annotations

import sys

import study
from tracking import LIVE, report

CONTROLS = [
    f"{label}-staleness-{staleness}@scope:{settings},pipeline.max_staleness={staleness}"
    for label, settings in (("live", LIVE), ("held-0.29", "entropy_control.target=0.29"))
    for staleness in (0, 2, 4)
]


def main() -> None:
    """Run the missing units, then report."""
    options = study.options(__doc__).parse_args()
    groups, document = study.run(CONTROLS, seeds=options.seeds, parallel=options.parallel)
    study.keep("staleness", document | {"live": report(groups), "made_by": sys.argv}, ["entropy.png"])


if __name__ == "__main__":
    main()
