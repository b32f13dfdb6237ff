"""Problems that ask a real language model for the sum of two numbers, and their reward: the last number counts."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any


def write_problems(path: Path, count: int, seed: int) -> None:
    """Write `count` problems to `path` as JSON lines with `problem` and `answer`, which `task.name=dataset` reads."""
    pairs = [(a, b) for a in range(2, 60) for b in range(2, 60)]
    random.Random(seed).shuffle(pairs)
    rows = [{"problem": f"What is {a} + {b}?", "answer": str(a + b)} for a, b in pairs[:count]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None
) -> float:
    """1 for a response whose last number is the sum, else 0."""
    del data_source, extra_info
    numbers = re.findall(r"\d+", solution_str)
    return float(bool(numbers) and numbers[-1] == ground_truth)
