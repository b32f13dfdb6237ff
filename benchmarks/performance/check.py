"""Compare ratios in the working tree's results with the recorded ones. Exits with status 1 if one is worse.

.venv/bin/python benchmarks/performance/check.py [--run generator replay_queue] [--against HEAD]

With --run the named benchmarks run first, one after the other, and write their results into the working tree. A ratio
that is more than 15 % worse than the recorded one is reported as fallen: explain it, fix it, or record it by committing
the new result. Absolute times are not compared, because they depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
RESULTS = Path("benchmarks") / "results"
FALL = 0.15
"""share of the recorded ratio that may be lost"""


@dataclass(frozen=True)
class Ratio:
    """A figure of a result file that does not depend on how fast the machine is."""

    benchmark: str
    file: str
    keys: tuple[str, ...]
    better: int = 1
    """1 where larger is better, -1 where smaller is"""

    @property
    def name(self) -> str:
        """The name that the table prints."""
        return f"{self.benchmark}: {' '.join(self.keys)}"

    def read(self, text: str) -> float:
        """The ratio in a file's content. Raises KeyError if it is not there."""
        value: Any = json.loads(text)
        for key in self.keys:
            value = value[key]
        return float(value)

    def loss(self, recorded: float, found: float) -> float:
        """Share of the recorded ratio that was lost; negative for a gain."""
        return self.better * (1 - found / recorded)


RATIOS = (
    Ratio("generator", "performance-generator.json", ("generator_over_bare", "median")),
    Ratio("generator", "performance-generator.json", ("bare_over_in_process",)),
    Ratio("engine_processes", "performance-engine-processes.json", ("in_the_core_over_a_process", "median")),
    Ratio("pipeline", "performance-pipeline.json", ("sizes", "balanced", "recompute", "efficiency")),
    Ratio("pipeline", "performance-pipeline.json", ("sizes", "balanced", "keep", "efficiency")),
    Ratio("replay_queue", "performance-queue.json", ("speed_over_plain", "all", "median")),
    Ratio("weights", "performance-weights.json", ("over_copy", "object_store", "pause"), better=-1),
    Ratio("weights", "performance-weights.json", ("over_copy", "object_store", "load"), better=-1),
    Ratio("head", "head.json", ("time", "fused_speed_over_eager", "cpu_seconds")),
    Ratio("head", "head.json", ("memory", "fused_over_eager"), better=-1),
    Ratio("against_trl", "performance-trl.json", ("cases", "short", "ours_over_trl", "samples_per_second")),
    Ratio(
        "against_trl", "performance-trl.json", ("cases", "long-tail", "ours_over_trl", "tokens_per_second")
    ),
)


def main(arguments: list[str] | None = None, repository: Path = REPOSITORY) -> int:
    """Run the requested benchmarks and compare their ratios. Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    benchmarks = list(dict.fromkeys(ratio.benchmark for ratio in RATIOS))
    parser.add_argument("--run", nargs="+", choices=benchmarks, default=[])
    parser.add_argument("--against", default="HEAD", help="revision with the recorded results")
    options = parser.parse_args(arguments)
    for name in options.run:
        script = repository / "benchmarks" / "performance" / f"{name}.py"
        subprocess.run([sys.executable, str(script)], check=True)
    compared = [r for r in RATIOS if not options.run or r.benchmark in options.run]
    print(f"{'':60}{'recorded':>10}{'now':>10}")
    fallen = 0
    for ratio in compared:
        path = RESULTS / ratio.file
        recorded = ratio.read(_recorded(repository, options.against, path))
        found = ratio.read((repository / path).read_text())
        fall = ratio.loss(recorded, found) > FALL
        fallen += fall
        print(f"{ratio.name:60}{recorded:>10.3f}{found:>10.3f}{'   fell' if fall else ''}")
    print(f"{fallen} of {len(compared)} fell by more than {FALL:.0%}")
    return 1 if fallen else 0


def _recorded(repository: Path, revision: str, path: Path) -> str:
    command = ["git", "-C", str(repository), "show", f"{revision}:{path.as_posix()}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
