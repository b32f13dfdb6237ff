"""Which alpha and rho hold an entropy target best: both are fixed on a grid, and only the temperature is controlled.

    .venv/bin/python benchmarks/entropy/alpha_rho.py --seeds 2

The first row is the law with all three actuators. Prints the tracking error and pass@k and writes
benchmarks/results/entropy-alpha-rho.json.
"""

from __future__ import annotations

import sys
from itertools import product

import study

LAW = "entropy_control.split_range"
TARGET = "entropy_control.target=0.29"
CONTROLS = [
    f"held-0.29@scope:{TARGET}",
    *(
        f"alpha-{alpha}-rho-{rho}@scope:{TARGET},{LAW}.alpha={alpha},{LAW}.alpha_max={alpha},"
        f"{LAW}.surprisal_exponent={rho},{LAW}.surprisal_exponent_max={rho}"
        for alpha, rho in product((0.3, 1.0, 2.0), (0.0, 1.0, 2.0))
    ),
]


def main() -> None:
    """Run the missing units, then report."""
    options = study.options(__doc__).parse_args()
    _, document = study.run(CONTROLS, seeds=options.seeds, parallel=options.parallel)
    study.keep("alpha-rho", document | {"made_by": sys.argv})


if __name__ == "__main__":
    main()
