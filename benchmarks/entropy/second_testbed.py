"""The control laws on a task where most tokens do not change the reward: countdown_cot, whose answers are derivations.

    .venv/bin/python benchmarks/entropy/second_testbed.py --seeds 1

Prints the comparison and writes benchmarks/results/entropy-second-testbed.json.
"""

from __future__ import annotations

import sys

import study

CONFIG = study.REPOSITORY / "deploy" / "configs" / "countdown-cot-cpu.yaml"
UNITS = study.REPOSITORY / "runs" / "entropy-cot"
TARGET = "entropy_control.target=0.6"
CONTROLS = [
    "grpo",
    f"scope:{TARGET}",
    f"scope_paper:{TARGET}",
    f"aepo_v1:{TARGET}",
    f"adaptive_coefficient:{TARGET}",
    "scope:entropy_control.target=0.45",
]


def main() -> None:
    """Run the missing units, then report."""
    options = study.options(__doc__).parse_args()
    _, document = study.run(
        CONTROLS, seeds=options.seeds, parallel=options.parallel, config=CONFIG, units=UNITS
    )
    study.keep(
        "second-testbed",
        document | {"made_by": sys.argv},
        ["entropy.png", "actuators.png", "pass_at_k.png"],
        units=UNITS,
    )


if __name__ == "__main__":
    main()
