"""Shared by the benchmarks: write a result document, with the command, the machine and the package versions."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from services.host.environment import package_versions

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results"


def keep(name: str, document: dict[str, Any]) -> None:
    """Write `document`, with command, machine and versions, as benchmarks/results/NAME.json."""
    path = RESULTS / f"{name}.json"
    about = {
        "made_by": ["python", *sys.argv],
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg(), "platform": platform.platform()},
        "versions": package_versions(),
    }
    path.write_text(json.dumps(document | about, indent=2) + "\n")
    print(f"written to {path.relative_to(REPOSITORY)}")
