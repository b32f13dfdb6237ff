"""What measuring the plant's gain improves, on the second testbed, where the gain is higher than the law assumes.

    .venv/bin/python benchmarks/entropy/measured_gain.py --seeds 2

Prints the comparison and writes benchmarks/results/entropy-measured-gain.json.
"""

from __future__ import annotations

import sys

import study
from second_testbed import CONFIG, UNITS

TARGET = "entropy_control.target=0.45"
CONTROLS = [
    f"scope:{TARGET}",
    f"measured-gain-0.45@scope:{TARGET},entropy_control.split_range.gain_memory=60",
]


def main() -> None:
    """Run the missing units, then report."""
    options = study.options(__doc__).parse_args()
    _, document = study.run(
        CONTROLS, seeds=options.seeds, parallel=options.parallel, config=CONFIG, units=UNITS
    )
    study.keep("measured-gain", document | {"made_by": sys.argv}, ["entropy.png"], units=UNITS)


if __name__ == "__main__":
    main()
