"""Adds a generator's finished groups to the replay queue, and records them in the ledger."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from services.generation.counters import GeneratorWork
from services.generation.group import build_group
from services.generation.spec import GeneratorSpec
from services.records.ledger import Ledger, Offered
from services.replay.outbox import Outbox
from services.replay.producer import Finished, Lease, ReplayProducer
from trainer.rollouts.trajectory import encode_group
from trainer.tasks import Problem, Verdict

if TYPE_CHECKING:
    from services.inference.sample import Sample


class GroupWriter:
    """Adds the groups of one generator to the queue.

    trusted: waits until the weights that sampled a group are proven; no group is added before.
    """

    def __init__(
        self,
        spec: GeneratorSpec,
        producer: ReplayProducer,
        work: GeneratorWork,
        trusted: Callable[[], Awaitable[None]],
    ) -> None:
        self._spec = spec
        self._outbox = Outbox(producer, spec.role, spec.generator_id)
        self._ledger = (
            None if spec.ledger is None else Ledger(Path(spec.ledger) / f"{spec.generator_id}.jsonl")
        )
        self._work, self._trusted = work, trusted

    async def add(
        self,
        ordinal: int,
        lease: Lease,
        problem: Problem,
        prompt: Sequence[int],
        rollouts: Sequence[Sample],
        verdicts: Sequence[Verdict],
        started: float,
    ) -> None:
        """Add a group and count it; waits while the queue is full. Raises what the codec and Redis raise.

        prompt: token ids. started: when its sampling began, seconds since the epoch.
        """
        group = build_group(
            self._spec,
            problem,
            prompt,
            rollouts,
            verdicts,
            ordinal=ordinal,
            temperature=self._spec.temperature(lease),
            entropy_target_generation=lease.entropy_target_generation,
            sequence=self._work.groups,
            started_at=started,
        )
        data = encode_group(group, size_cap=self._spec.config.pipeline.entry_bytes)
        await self._trusted()
        self._record(Offered(group.group_id, "offered"))
        outcome = await self._outbox.put(Finished(group.ordinal, group.attempt, data))
        duplicate = outcome == "duplicate"
        self._record(Offered(group.group_id, "duplicate" if duplicate else "added"))
        self._work.count(group, duplicate=duplicate)

    async def end(self) -> None:
        """Cancel the groups that wait; one that is being sent may still be added."""
        await self._outbox.end()

    def _record(self, event: Offered) -> None:
        if self._ledger is not None:
            self._ledger.append(event)
