"""SCOPE against GRPO on the full system, and the same runs in one process to show that the two agree.

    .venv/bin/python benchmarks/entropy/headline.py            # about seven minutes per run of the full system

Prints the comparison and writes benchmarks/results/entropy-headline.json and the plots: those in the README show the
full system, entropy-headline-agreement.png shows both. The entropy target was chosen on the tuning seeds by the sweep
of `rivals.py`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import study

from services.compare.plots import plot_all
from services.compare.report import terminal
from services.compare.table import comparison

TARGET = 0.29
FULL_UNITS = study.REPOSITORY / "runs" / "entropy-full-system"
CONTROLS = ["grpo", f"scope-{TARGET}@scope:entropy_control.target={TARGET}"]


def main() -> None:
    """Run the missing units of both kinds, then report them side by side."""
    options = study.options(__doc__).parse_args()
    full, document = study.run(CONTROLS, seeds=options.seeds, parallel=1, units=FULL_UNITS, in_process=False)
    alone, _ = study.run(CONTROLS, seeds=options.seeds, parallel=options.parallel)
    groups = {**full, **{f"{label}, in process": units for label, units in alone.items()}}
    document |= {
        "title": "SCOPE and GRPO",
        "source": "full system, and in process where said",
        "made_by": sys.argv,
    }
    document |= comparison(groups)
    print(f"\n{terminal(document)}")
    with TemporaryDirectory() as pictures, TemporaryDirectory() as agreement:
        plot_all(Path(pictures), full, comparison(full))
        plot_all(Path(agreement), groups, document)
        study.keep("headline", document, ["entropy.png", "pass_at_k.png"], units=Path(pictures))
        shutil.copyfile(Path(agreement) / "entropy.png", study.IMAGES / "entropy-headline-agreement.png")


if __name__ == "__main__":
    main()
