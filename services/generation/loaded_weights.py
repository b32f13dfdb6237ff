"""The weights that a generator's engine runs: which policy version, and whether it may be trusted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from services.inference.engine import SamplingEngine
    from services.weights.probe import Probe
    from services.weights.process_group import Rendezvous
    from trainer.rollouts.trajectory import PolicyVersion


class LoadedWeights:
    """Loads policy versions into one engine; tracks which version it runs and whether that may be trusted.

    A version is trusted once the engine's log-probabilities of its probe agree with the learner's. While a load is
    under way, and after one that failed, `trusted` waits: what was sampled must not leave the generator.
    """

    def __init__(
        self,
        version: PolicyVersion | None,
        *,
        before_load: Callable[[], None] = lambda: None,
        after_load: Callable[[], None] = lambda: None,
    ) -> None:
        """version: what the engine starts with; None when the learner must send a version before the first rollout.

        before_load, after_load: called around every load that is not skipped, whether or not it succeeds.
        """
        self.version = version
        self.loads = 0
        """loads that replaced the weights"""
        self.loading = False
        self.failure: Exception | None = None
        """error of a load that failed; the generator must then stop"""
        self._before_load, self._after_load = before_load, after_load
        self._engine: SamplingEngine
        self._attached = asyncio.Event()
        self._trusted = asyncio.Event()
        self._trusted.set()

    def attach(self, engine: SamplingEngine) -> None:
        """Attach the engine once it has started; loads wait for it."""
        self._engine = engine
        self._attached.set()

    async def trusted(self) -> None:
        """Wait until the engine has proven that it runs `version`."""
        await self._trusted.wait()

    async def load(self, version: PolicyVersion, payload: np.ndarray, probe: Probe) -> float:
        """Load serialized weights, uint8[N]; returns the seconds it took. An older version than `version` is skipped.

        Raises WeightLoadError when the engine does not run them afterwards; `failure` then keeps the error.
        """
        await self._attached.wait()
        return await self._apply(version, probe, lambda: self._engine.load(version, payload, probe))

    async def join_broadcasts(self, rendezvous: Rendezvous, first_rank: int) -> None:
        """Have the engine's workers join a broadcast group, at `first_rank` and the ranks after it."""
        await self._attached.wait()
        await self._engine.join_group(rendezvous, first_rank)

    async def receive(self, version: PolicyVersion, buckets: str, probe: Probe) -> float:
        """Receive weights by broadcast, then load them as `load` does.

        Raises TransferError when they did not arrive; the engine then keeps the version it runs.
        """
        await self._attached.wait()
        await self._engine.receive(buckets)
        return await self._apply(version, probe, lambda: self._engine.load_received(version, probe))

    async def _apply(
        self, version: PolicyVersion, probe: Probe, load: Callable[[], Awaitable[None]]
    ) -> float:
        started = time.monotonic()
        if self.version is not None and version < self.version:
            return 0.0
        self._before_load()
        self.loading = True
        try:
            self._trusted.clear()
            if version == self.version:
                await self._engine.verify(probe)
            else:
                await load()
                self.loads += 1
            self.version = version
            self._trusted.set()
        except Exception as error:
            self.failure = error
            raise
        finally:
            self.loading = False
            self._after_load()
        return time.monotonic() - started
