"""The control plane under attack: how long others wait for their reads while clients without a token misbehave.

    .venv/bin/python -m benchmarks.control_plane.attack

Starts a control plane, `scope serve`, with the default limits over a Redis of its own. While each attack of
`benchmarks.control_plane.attacks` runs, four clients with a token read ten times a second each, from the same address
as the attackers. Prints a table of the latencies (p50, p99, largest) and errors of these reads and of the share of a
core that the control plane uses, and writes benchmarks/results/control-plane-attack.json. p99 is to stay below 200 ms.
Attackers, readers, control plane and Redis share the cores of the machine, so other work on them is a part of the
latencies.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.control_plane.attacks import ATTACKS
from benchmarks.control_plane.clients import Seen, Task
from benchmarks.control_plane.load import PATHS, idle_control_plane, under
from benchmarks.control_plane.processes import cpu_seconds, used

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results" / "control-plane-attack.json"
PORT = 8112
READERS, READ_SECONDS = 4, 0.1
MOST_MS = 200.0
SETTLE_SECONDS = 1.0
"""head start of an attack, so that its connections are open when the first read comes"""


def measured(name: str | None, url: str, token: str, seconds: float, server: int) -> dict[str, Any]:
    """The reads during one attack, None: without one. server: process id of the control plane."""
    attackers = None
    if name is not None:
        command = [sys.executable, "-m", "benchmarks.control_plane.attacks", name, str(PORT)]
        attackers = subprocess.Popen(
            [*command, str(seconds + 3 * SETTLE_SECONDS)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )
        time.sleep(SETTLE_SECONDS)
    attack: dict[str, Any] = {}
    try:
        before = cpu_seconds(server)
        reads = under(Task(url, token, seconds, PATHS, READERS, READ_SECONDS))
        spent = used(before, cpu_seconds(server))
        if attackers is not None:
            attack = json.loads(attackers.communicate(timeout=60)[0])
    finally:
        if attackers is not None:
            attackers.kill()
            attackers.wait()
    return {
        "reads": latencies(reads),
        "attack": attack,
        "core": round(sum(spent.values()) / seconds, 2),
    }


def latencies(seen: Seen) -> dict[str, Any]:
    """Latencies in milliseconds, and errors."""
    milliseconds = 1000 * np.asarray(seen.reads)
    p50, p99 = np.percentile(milliseconds, (50, 99))
    return {
        "count": len(seen.reads),
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "largest_ms": round(float(milliseconds.max()), 1),
        "errors": seen.errors,
    }


def main() -> None:
    """Measure every attack, print the table and write the document. Exits with 1 where a read took too long."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each attack")
    parser.add_argument("--attack", action="append", choices=[*ATTACKS], help="only this one; repeatable")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    columns = "".join(f"{name:>9}" for name in ("reads", "p50 ms", "p99 ms", "largest", "errors", "core"))
    print(f"{'attack':22}{columns}  attackers: connections, answers")
    with (
        tempfile.TemporaryDirectory(prefix="scope-attack-") as folder,
        idle_control_plane(Path(folder), PORT) as idle,
    ):
        for name in (None, *(options.attack or ATTACKS)):
            label = name or "none"
            found[label] = result = measured(name, idle.url, idle.token, options.seconds, idle.process)
            reads, attack = result["reads"], result["attack"]
            numbers = [reads[key] for key in ("count", "p50_ms", "p99_ms", "largest_ms")]
            numbers += [len(reads["errors"]), result["core"]]
            row = "".join(f"{number:>9}" for number in numbers)
            print(f"{label:22}{row}  {attack.get('connections', '')} {attack.get('answers', '')}", flush=True)
    document = {
        "made_by": ["python", "-m", "benchmarks.control_plane.attack", *sys.argv[1:]],
        "machine": {"processor": platform.processor() or platform.machine(), "cpus": os.cpu_count()},
        "seconds": options.seconds,
        "readers": READERS,
        "attacks": found,
    }
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    slow = [
        name for name, one in found.items() if one["reads"]["p99_ms"] >= MOST_MS or one["reads"]["errors"]
    ]
    print(f"slow or failing: {slow or 'none'}")
    sys.exit(bool(slow))


if __name__ == "__main__":
    main()
