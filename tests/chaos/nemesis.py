"""The nemesis: kills and freezes the processes of a run and cuts its links to Redis, in an order set by its seed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.chaos.firewall import drop, permitted
from tests.chaos.processes import alive, processes
from tests.chaos.subject import Subject

KINDS = (
    "kill generator",
    "kill learner",
    "kill redis",
    "kill control plane",
    "kill driver",
    "freeze generator",
    "freeze learner",
    "freeze redis",
    "cut redis",
    *(
        ("drop redis", "drop generator", "drop learner", "drop control plane", "drop driver")
        if permitted()
        else ()
    ),
)
LONGEST_CALM_SECONDS = 4.0
FREEZE_SECONDS = (2.0, 8.0)
CUT_SECONDS = (1.0, 4.0)
"""Shorter than the time for which a Redis client retries."""
CUT_EVERY_SECONDS = 0.02
FURTHER_STEPS = {"generator": 4}
"""A killed generator may have finished its groups of the next steps, but not of this many at a staleness of 1."""


@dataclass(frozen=True)
class Strike:
    """One fault, and the time until the process was replaced and the run had passed its highest earlier step."""

    kind: str
    at_step: int
    recovery_seconds: float


class Nemesis:
    """Injects faults into `subject`; recovery_seconds: the longest that one recovery may take."""

    def __init__(self, subject: Subject, seed: int, *, recovery_seconds: float) -> None:
        self._subject = subject
        self._chance = random.Random(seed)
        self._longest = recovery_seconds

    def campaign(self, faults: int) -> Iterator[Strike]:
        """Inject `faults` faults, each kind at least once if there are enough; each begins after the previous recovery.

        Raises AssertionError, with the driver's output, if the run does not recover.
        """
        for kind in self._order(faults):
            time.sleep(self._chance.uniform(0, LONGEST_CALM_SECONDS))
            yield self._strike(kind)

    def _order(self, faults: int) -> list[str]:
        order = [*KINDS[:faults], *self._chance.choices(KINDS, k=max(0, faults - len(KINDS)))]
        self._chance.shuffle(order)
        return order

    def _strike(self, kind: str) -> Strike:
        self._subject.look()
        action, _, target = kind.partition(" ")
        at_step, lineage, started = self._subject.steps_done(), self._subject.lineage(), time.monotonic()
        if kind == "kill driver":
            self._subject.driver.kill()
            self._subject.driver.wait()
            self._subject.resume()
            # A learner whose driver was killed may record a few more steps before it exits too.
            self._subject.await_lineage(lineage + 1, self._longest)
            self._subject.await_step(at_step + 1, self._longest)
        elif action == "kill":
            victim = self._victim(target)
            before = set(processes(self._subject.driver.pid, target))
            os.kill(victim, signal.SIGKILL)
            self._await_replacement(target, before, victim)
            if target == "learner":
                self._subject.await_lineage(lineage + 1, self._longest)
            self._subject.await_step(at_step + FURTHER_STEPS.get(target, 1), self._longest)
        elif action in ("cut", "drop"):
            seconds = self._chance.uniform(*CUT_SECONDS)
            if action == "cut":
                self._cut_redis(seconds)
            else:
                self._drop(target, seconds)
            started = time.monotonic()
            self._subject.await_step(max(at_step, self._subject.steps_done()) + 1, self._longest)
        else:
            victim = self._victim(target)
            os.kill(victim, signal.SIGSTOP)
            time.sleep(self._chance.uniform(*FREEZE_SECONDS))
            os.kill(victim, signal.SIGCONT)
            started = time.monotonic()
            self._subject.await_step(max(at_step, self._subject.steps_done()) + 1, self._longest)
        return Strike(kind, at_step, time.monotonic() - started)

    def _cut_redis(self, seconds: float) -> None:
        """Reset every connection to the run's Redis, and new ones immediately. This needs no privilege."""
        until = time.monotonic() + seconds
        with self._subject.redis() as client:
            while time.monotonic() < until:
                client.client_kill_filter(_type="normal", skipme=True)
                time.sleep(CUT_EVERY_SECONDS)

    def _drop(self, target: str, seconds: float) -> None:
        """Drop packets between Redis and all processes of a kind, or all packets to and from Redis."""
        driver = self._subject.driver.pid
        victims = {"redis": None, "driver": [driver]}
        if target not in victims:
            self._victim(target)
            victims[target] = processes(driver, target)
        assert drop(self._subject.redis_port, victims[target], seconds), f"{target} has no link to Redis"

    def _victim(self, target: str) -> int:
        """A process of that kind; waits while it is being replaced."""
        found: list[int] = self._subject.run.wait_for(
            f"{target} process",
            lambda: processes(self._subject.driver.pid, target),
            self._subject.driver,
            self._longest,
        )
        return self._chance.choice(found)

    def _await_replacement(self, target: str, before: set[int], victim: int) -> None:
        self._subject.run.wait_for(
            f"another {target} in place of process {victim}",
            lambda: not alive(victim) and set(processes(self._subject.driver.pid, target)) - before,
            self._subject.driver,
            self._longest,
        )
