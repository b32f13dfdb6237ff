"""Alarms of steps from which nothing is learned: nothing to reward, or rewards without a gradient.

One step proves little: a curriculum, a refill that failed or a small batch may make every group uniform once. These
alarms therefore need several steps in a row, and enough groups in them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from services.records.alarms import Alarm, alarm
from trainer.config import RunConfig

STEPS = 3
STARVED_STEPS = 5
"""learner steps in a row that raise an alarm"""
LEAST_GROUPS = 12
"""groups in these steps; runs with few prompts a step need more steps"""
REMEMBERED = LEAST_GROUPS
"""newest steps that the alarms depend on: a step that counts has at least one group"""
TRUNCATED_SHARE = 0.9
UNSCORED_SHARE = 0.05
LARGEST_SHARE = 0.5
"""of the weight of all positives; one rollout with more decides what the auxiliary loss teaches"""
MOST = 0.5
"""share of rollouts from which on their truncation, or the lack of scores, explains equal rewards"""
LEAST_UNSCORED = 3
"""rollouts without a score in the last `STEPS` steps, so that one mishap in a small batch is no alarm"""

_ADVICE = {
    "failed": (
        " of 0",
        "read some with `scope rollouts`; if right answers have 0, the verifier does not read their form (see "
        "task.verifier and model.system_prompt), else take easier problems or a stronger model.path",
    ),
    "truncated": (
        " of 0",
        "most answers are cut off at the length limit; raise rollout.max_new_tokens",
    ),
    "solved": (
        " of 1",
        "the policy solves every problem; take harder ones for the task, or end the run",
    ),
    "mixed": (
        "",
        "raise rollout.refills or rollout.base_samples, or take problems that are solved now and then",
    ),
    "unscored": ("", "most rollouts have no score; mend the verifier first"),
}
"""by what the rewards are: the words after `equal rewards`, and what to do"""

Record = Mapping[str, Any]
"""fields of a step record by name; a field that an older version did not write is missing"""


class LearningSignal:
    """The newest steps of a run. Two instances that have seen the same newest `REMEMBERED` steps agree.

    earlier: the newest records before the learner started, in order.
    """

    def __init__(self, config: RunConfig, earlier: Iterable[Record]) -> None:
        self._config = config
        self._newest: deque[Record] = deque(earlier, REMEMBERED)

    def observe(self, record: Record) -> list[Alarm]:
        """The alarms after one more step. record: its fields, except alarms."""
        self._newest.append(record)
        return list(self._alarms(record))

    def _alarms(self, record: Record) -> Iterator[Alarm]:
        if self._in_a_row(STEPS, _groups, lambda r: r["truncated_share"] >= TRUNCATED_SHARE):
            yield alarm("all_truncated", steps=STEPS, limit=self._config.rollout.max_new_tokens)
        if (failing := self._verifier(record)) is not None:
            yield failing
        if self._in_a_row(STEPS, _base_groups, _is_uniform):
            which, advice = _ADVICE[self._rewards()]
            yield alarm("all_uniform", steps=STEPS, which=which, advice=advice)
        control = self._config.entropy_control
        # With the samples `negatives` a positive is a wrong answer.
        if control.kind == "none" or control.samples != "positives":
            return
        if self._in_a_row(STEPS, _adaptive_groups, _has_no_positive):
            yield alarm("no_positives", steps=STEPS)
        if self._in_a_row(STEPS, _adaptive_groups, _has_one_positive):
            share, positives = record["auxiliary_largest_share"], record["auxiliary_positives"]
            yield alarm("one_positive", share=share, positives=positives, steps=STEPS)
        if control.kind == "split_range" and control.split_range.success_floor:
            # This law measures it itself, see `Recorder.learned`.
            return
        if self._in_a_row(STARVED_STEPS, _adaptive_groups, lambda r: _has_no_positive(r) and _heats(r)):
            hottest = "aepo_v1.t_hot" if control.kind == "aepo_v1" else f"{control.kind}.t_max"
            yield alarm("starved", few=f"none of the last {STARVED_STEPS} steps'", field=hottest)

    def _in_a_row(self, steps: int, groups: Callable[[Record], int], holds: Callable[[Record], bool]) -> bool:
        """Whether something holds in the newest `steps` steps, or in more until they have `LEAST_GROUPS` groups."""
        seen = 0
        for number, record in enumerate(reversed(self._newest), 1):
            if groups(record) == 0 or not holds(record):
                return False
            seen += groups(record)
            if number >= steps and seen >= LEAST_GROUPS:
                return True
        return False

    def _verifier(self, record: Record) -> Alarm | None:
        rollouts, unscored = _rollouts(record), _unscored(record)
        recent = sum(map(_unscored, list(self._newest)[-STEPS:]))
        if unscored <= UNSCORED_SHARE * rollouts or recent < LEAST_UNSCORED:
            return None
        return alarm(
            "verifier_failing", unscored=unscored, rollouts=rollouts, cause=record["unscored_example"]
        )

    def _rewards(self) -> str:
        """What the equal rewards of the newest `STEPS` steps are: a key of `_ADVICE`."""
        newest = list(self._newest)[-STEPS:]
        if sum(map(_unscored, newest)) > MOST * sum(map(_rollouts, newest)):
            return "unscored"
        if all(r["solved_groups"] == r["base_groups"] for r in newest):
            return "solved"
        if not all(r["failed_groups"] == r["base_groups"] for r in newest):
            return "mixed"
        return "truncated" if min(r["truncated_share"] for r in newest) > MOST else "failed"


def _groups(record: Record) -> int:
    return record["groups"]


def _base_groups(record: Record) -> int:
    return record.get("base_groups", 0)


def _adaptive_groups(record: Record) -> int:
    return record["groups"] - record.get("base_groups", record["groups"])


def _rollouts(record: Record) -> int:
    return sum(record["staleness"].values())


def _unscored(record: Record) -> int:
    return record.get("unscored_rollouts", 0)


def _is_uniform(record: Record) -> bool:
    return record["uniform_groups"] >= record["base_groups"]


def _has_no_positive(record: Record) -> bool:
    return record["positives"] == 0


def _has_one_positive(record: Record) -> bool:
    return record.get("auxiliary_largest_share", 0.0) > LARGEST_SHARE


def _heats(record: Record) -> bool:
    return record["next_temperature"] > 1
