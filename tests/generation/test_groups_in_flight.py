"""The groups that a generator has in flight: free slots, failures and cancellation."""

from __future__ import annotations

import asyncio

import pytest

from services.generation.groups_in_flight import GroupsInFlight


def test_a_group_that_is_no_longer_sampled_frees_a_slot_up_to_twice_the_limit() -> None:
    async def scene() -> None:
        done, gate = [], asyncio.Event()
        groups = GroupsInFlight(2, lambda: done.append(True))

        async def make(ordinal: int) -> None:
            await gate.wait()

        def start(ordinal: int) -> None:
            groups.sampling.add(ordinal)
            groups.start(make(ordinal))

        assert groups.free_slots == 2
        start(0)
        start(1)
        assert (groups.free_slots, len(groups)) == (0, 2)
        groups.sampling.discard(0)
        assert groups.free_slots == 1
        start(2)
        groups.sampling -= {1, 2}
        assert groups.free_slots == 1, "three of four groups wait to be scored or added"
        start(3)
        assert groups.free_slots == 0
        gate.set()
        await groups.wait()
        await asyncio.sleep(0)
        assert len(done) == 4
        groups.raise_failures()
        assert len(groups) == 0

    asyncio.run(scene())


def test_what_a_group_failed_with_is_raised_and_a_cancelled_group_ends() -> None:
    async def fails() -> None:
        raise ValueError("no verdict")

    async def scene() -> None:
        groups = GroupsInFlight(2, lambda: None)
        groups.start(fails())
        groups.start(asyncio.sleep(60, None))
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="no verdict"):
            groups.raise_failures()
        groups.raise_failures()
        assert len(groups) == 1
        groups.cancel()
        await asyncio.wait_for(groups.wait(), 1)

    asyncio.run(scene())
