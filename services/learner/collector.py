"""Fills learner steps with groups: reads and decodes the queue on its own thread while the learner computes.

The group at ordinal o of a role belongs to learner step o // prompts_per_step, so a step waits for its last group. An
entry that cannot be used (undecodable, too stale, of another run, late) is dead-lettered with the reason, and
its place in the step stays empty.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from services.learner.validation import GroupValidator, late_reason
from services.redis.fencing import FencedError
from services.replay.consumer import ReplayConsumer
from services.replay.entries import Entry
from trainer.config import RunConfig
from trainer.errors import ScopeError
from trainer.rollouts.trajectory import Group

READ_COUNT = 64
READ_BLOCK_MS = 500
WAIT_SECONDS = 0.5


@dataclass
class StepGroups:
    """The groups of one step that have arrived."""

    groups: dict[tuple[str, int], tuple[Entry, Group]] = field(default_factory=dict)
    """(role, ordinal) -> entry and group"""
    missing: set[tuple[str, int]] = field(default_factory=set)
    """(role, ordinal) of dead-lettered groups"""

    @property
    def filled(self) -> int:
        """Number of places that have arrived or are known to be missing."""
        return len(self.groups) + len(self.missing)

    def consumed(self) -> list[tuple[str, str]]:
        """(entry id, group id) of the groups, for the checkpoint, ordered by role and ordinal."""
        ordered = sorted(self.groups.items())
        return [(entry.entry_id, group.group_id) for _, (entry, group) in ordered]


class Collector:
    """Rank 0's reader; `take` returns the groups of one step after another.

    first_step: the first one to be taken; vocabulary: number of token ids, None where it is unknown.
    """

    def __init__(
        self,
        consumer: ReplayConsumer,
        config: RunConfig,
        run_id: str,
        first_step: int,
        vocabulary: int | None = None,
    ) -> None:
        self._consumer = consumer
        self._config = config
        self._validator = GroupValidator(config, run_id, vocabulary)
        self._steps: dict[int, StepGroups] = {}
        self._next_step = first_step
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._closing = False
        self._caught_up = False
        """whether everything that earlier incarnations had read has been read again"""
        self._applied: frozenset[str] = frozenset()
        self._thread = threading.Thread(target=self._read, name="replay-reader", daemon=True)

    def start(self, consumed: Iterable[tuple[str, str]]) -> None:
        """Begin reading, first what earlier incarnations had read and not acknowledged.

        consumed: (entry id, group id) that the checkpoint lists as applied; these are skipped.
        """
        self._applied = frozenset(entry_id for entry_id, _ in consumed)
        self._thread.start()

    def take(self, step: int, keep_waiting: Callable[[], bool]) -> StepGroups | None:
        """The groups of `step`, once all have arrived or are known to be missing; marks them as being learned from.

        No step begins before everything that earlier incarnations had read has been read again: otherwise an entry that
        kills the reader would count a delivery against the groups of the step.

        Returns None when `keep_waiting`, called about twice a second, returns False. Raises ScopeError after
        `pipeline.batch_timeout_seconds`, and what the reading thread raised.
        """
        deadline = time.monotonic() + self._config.pipeline.batch_timeout_seconds
        while True:
            self._note_lost(step)
            with self._changed:
                if self._failure is not None:
                    raise self._failure
                if self._complete(step):
                    self._next_step = step + 1
                    taken = self._steps.pop(step)
                    break
                self._changed.wait_for(
                    lambda: self._failure is not None or self._complete(step), WAIT_SECONDS
                )
                if self._complete(step) or self._failure is not None:
                    continue
                timeout = self._timeout_message(step) if time.monotonic() > deadline else ""
            if timeout:
                raise ScopeError(timeout)
            if not keep_waiting():
                return None
        self._consumer.mark_learning([entry_id for entry_id, _ in taken.consumed()])
        return taken

    def close(self) -> None:
        """Stop reading."""
        self._closing = True
        self._thread.join()
        with contextlib.suppress(
            FencedError
        ):  # the newer learner has already counted what this one was reading
            self._consumer.reading_done()

    def _read(self) -> None:
        try:
            for entry in self._consumer.pending(self._applied):
                self._place(entry)
            with self._changed:
                self._caught_up = True
                self._changed.notify_all()
            while not self._closing:
                for entry in self._consumer.read(READ_COUNT, READ_BLOCK_MS):
                    self._place(entry)
        except Exception as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _place(self, entry: Entry) -> None:
        place = entry.place
        if place is None:
            self._consumer.dead_letter(entry.entry_id, "it names no group")
            return
        step = place[1] // self._config.rollout.prompts_per_step
        validated = self._validator.validate(entry, step, self._next_step)
        with self._changed:
            reason = validated if isinstance(validated, str) else self._put(step, place, entry, validated)
        if reason is None:
            return
        self._consumer.dead_letter(entry.entry_id, reason)
        with self._changed:
            if step >= self._next_step and place[0] in self._config.roles:
                filling = self._steps.setdefault(step, StepGroups())
                if place not in filling.groups:
                    filling.missing.add(place)
                if self._complete(step):
                    self._changed.notify_all()

    def _put(self, step: int, place: tuple[str, int], entry: Entry, group: Group) -> str | None:
        """Add a group to its step; returns the reason if its step has begun or its place is filled."""
        if step < self._next_step:
            return late_reason(step)
        filling = self._steps.setdefault(step, StepGroups())
        if place in filling.groups:
            return f"its place is taken by {filling.groups[place][0].group_id}"
        filling.groups[place] = (entry, group)
        filling.missing.discard(place)
        if self._complete(step):
            self._changed.notify_all()
        return None

    def _note_lost(self, step: int) -> None:
        """Mark as missing the places of `step` that were dead-lettered, also by an earlier incarnation."""
        size = self._config.rollout.prompts_per_step
        ordinals = range(step * size, (step + 1) * size)
        lost = {(role, o) for role in self._config.roles for o in self._consumer.lost(role, ordinals)}
        with self._changed:
            filling = self._steps.setdefault(step, StepGroups())
            filling.missing |= lost - filling.groups.keys()

    def _complete(self, step: int) -> bool:
        filled = self._steps[step].filled if step in self._steps else 0
        return self._caught_up and filled == self._config.groups_per_step

    def _timeout_message(self, step: int) -> str:
        arrived = self._steps[step].groups
        present = {role: sum(r == role for r, _ in arrived) for role in self._config.roles}
        return (
            f"learner step {step} had {present} of {self._config.rollout.prompts_per_step} groups a role after "
            f"pipeline.batch_timeout_seconds={self._config.pipeline.batch_timeout_seconds:g}. Are the generators "
            "alive (scope status), and is the timeout longer than the longest rollout takes?"
        )
