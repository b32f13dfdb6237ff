"""Scores hostile answers to a problem of every data set of reasoning-gym, and prints those without a score.

.venv/bin/python -m benchmarks.reasoning_gym_hostile
"""

from __future__ import annotations

import json
import time
from collections import Counter

from reasoning_gym.factory import DATASETS

from tests.support.hostile_answers import HOSTILE_ANSWERS
from trainer.config.task import GymConfig
from trainer.tasks.bounded_pool import BoundedError, BoundedPool
from trainer.tasks.reasoning_gym import work

SECONDS = 5.0
"""limit of a score"""


def causes(pool: BoundedPool, dataset: str) -> Counter[str]:
    """Causes of answers without a score to the first problem of a data set. Raises BoundedError without a problem."""
    gym = GymConfig(dataset=dataset)
    (entry,) = pool.call("problems", gym, 17, 100, [0], seconds=120.0)
    found: Counter[str] = Counter()
    for answer in (*HOSTILE_ANSWERS, str(entry["answer"]) + "x", str(entry["answer"])[:-1]):
        try:
            pool.call("score", gym, entry, f"<answer>{answer}</answer>")
        except BoundedError as error:
            found[str(error)] += 1
    return found


def main() -> None:
    """Try every data set."""
    pool = BoundedPool(work, workers=1, seconds=SECONDS, memory_mib=2048)
    tried = unscored = 0
    for dataset in sorted(DATASETS):
        started = time.perf_counter()
        try:
            found = causes(pool, dataset)
        except BoundedError as error:
            print(f"{dataset}: no problem without options: {error}")
            continue
        tried += len(HOSTILE_ANSWERS) + 2
        unscored += found.total()
        if found:
            print(f"{dataset} ({time.perf_counter() - started:.1f} s): {json.dumps(found)}")
    print(f"{tried:,} answers, {unscored} without a score, none that ended the process of the caller")


if __name__ == "__main__":
    main()
