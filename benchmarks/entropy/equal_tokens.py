"""SCOPE at GRPO's number of generated tokens: adaptive rollouts replace half of the base rollouts, and all teach.

    .venv/bin/python benchmarks/entropy/equal_tokens.py

Four base and four adaptive rollouts per prompt, where GRPO and the adaptive coefficient have eight base rollouts.
Prints the comparison, with differences to GRPO, and the response to live steps at three limits of staleness; writes
benchmarks/results/entropy-equal-tokens.json and the plots. The split was chosen on the tuning seeds (`--choose`), among
7 + 1, 6 + 2 and 4 + 4, with and without adaptive rollouts that teach the reward. The law is the default one.
"""

from __future__ import annotations

import sys

import study
from tracking import LIVE, report

UNITS = study.REPOSITORY / "runs" / "entropy-equal-tokens"
TARGET = "entropy_control.target"
POOL = "entropy_control.positives_from=all"
TEACH = "entropy_control.reward_from=all"


def split(base: int, adaptive: int, *more: str) -> str:
    """The settings of `base` and `adaptive` rollouts per prompt that are learned from together."""
    return ",".join([f"rollout.base_samples={base}", f"rollout.adaptive_samples={adaptive}", POOL, *more])


SHARED = split(4, 4, TEACH)
CANDIDATES = [
    "grpo",
    f"twice-the-tokens@scope:{TARGET}=0.29",
    f"7-and-1@scope:{TARGET}=0.29,{split(7, 1, TEACH)}",
    f"6-and-2@scope:{TARGET}=0.29,{split(6, 2, TEACH)}",
    f"6-and-2-base-reward@scope:{TARGET}=0.29,{split(6, 2)}",
    f"4-and-4@scope:{TARGET}=0.29,{SHARED}",
]
CONTROLS = [
    "grpo",
    f"scope-0.29@scope:{TARGET}=0.29,{SHARED}",
    f"scope-0.24@scope:{TARGET}=0.24,{SHARED}",
    *(
        f"adaptive-{target}@adaptive_coefficient:{TARGET}={target},regularizer.adaptive_coefficient.delta=0.005"
        for target in (0.24, 0.29)
    ),
    *(
        f"live-staleness-{staleness}@scope:{LIVE},{SHARED},pipeline.max_staleness={staleness}"
        for staleness in (0, 2, 4)
    ),
]


def main() -> None:
    """Run the missing units, then report."""
    parser = study.options(__doc__)
    parser.add_argument(
        "--choose", action="store_true", help="compare the splits on the tuning seeds instead"
    )
    options = parser.parse_args()
    if options.choose:
        _, document = study.run(
            CANDIDATES,
            seeds=2,
            first_seed=study.TUNING_SEEDS[0],
            parallel=options.parallel,
            units=UNITS,
            settings=(),
        )
        study.keep("equal-tokens-choice", document | {"made_by": sys.argv}, units=UNITS)
        return
    groups, document = study.run(
        CONTROLS, seeds=options.seeds, parallel=options.parallel, units=UNITS, settings=()
    )
    document |= {"live": report(groups), "made_by": sys.argv}
    study.keep("equal-tokens", document, ["entropy.png", "pass_at_k.png"], units=UNITS)


if __name__ == "__main__":
    main()
