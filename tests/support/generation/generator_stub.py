"""A stand-in for generators in tests of the driver's supervision."""

from __future__ import annotations

import os
import signal

from services.generation.spec import GeneratorSpec
from services.online_eval.jobs import ResponseCounts


class Stub:
    """Starts immediately, runs until it is killed, and counts as many correct responses to a problem as its index."""

    def __init__(self, spec: GeneratorSpec) -> None:
        self._spec, self._stopped = spec, False

    async def start(self) -> int:
        return os.getpid()

    async def run(self) -> None:
        import asyncio

        while not self._stopped:
            await asyncio.sleep(0.05)

    async def process_id(self) -> int:
        return os.getpid()

    async def evaluate(self, problems: list[int], samples: int, temperature: float) -> list[ResponseCounts]:
        if self._spec.index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return [ResponseCounts(problem, 0) for problem in problems]

    async def stop(self) -> None:
        self._stopped = True
