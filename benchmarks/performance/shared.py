"""What the benchmarks of this folder share: the document that each writes, with the machine and the versions."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results"


def keep(name: str, document: dict[str, Any], packages: Sequence[str]) -> None:
    """Write `document` as benchmarks/results/NAME.json. packages: those whose versions matter."""
    path = RESULTS / f"{name}.json"
    about = {
        "made_by": ["python", *sys.argv],
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg(), "platform": platform.platform()},
        "versions": {package: importlib.metadata.version(package) for package in packages},
    }
    path.write_text(json.dumps(document | about, indent=2) + "\n")
    print(f"written to {path.relative_to(REPOSITORY)}")
