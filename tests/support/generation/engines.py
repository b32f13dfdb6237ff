"""The two engines that tests of engines and generators share, each on its own event loop."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from services.inference.engine import SamplingEngine
from tests.support.generation.tiny import LearnerView, tiny_config
from trainer.roles import Role
from trainer.rollouts.trajectory import PolicyVersion

T = TypeVar("T")
LENGTH = 320
"""tokens; enough for prompts that fill a block of the key-value cache"""
ROLES: tuple[Role, ...] = ("base", "adaptive")


class Engines:
    """A base and an adaptive engine in this process, each on an event loop that lives as long as this object."""

    def __init__(self, model_dir: Path) -> None:
        config, self._lineage = tiny_config(), 0

        # Positions are rotary, so the weights do not limit the context length.
        longer = model_dir.with_name(f"{model_dir.name}-longer")
        shutil.copytree(model_dir, longer, dirs_exist_ok=True)
        text = json.loads((longer / "config.json").read_text())
        (longer / "config.json").write_text(json.dumps(text | {"max_position_embeddings": LENGTH}))

        def start(role: Role) -> SamplingEngine:
            version = PolicyVersion(0, 0)
            return self.run(
                role,
                SamplingEngine.start(
                    longer, config.generators, role=role, max_length=LENGTH, seed=1, version=version
                ),
            )

        self._loops = {role: asyncio.new_event_loop() for role in ROLES}
        self._threads = [
            threading.Thread(target=loop.run_forever, daemon=True) for loop in self._loops.values()
        ]
        for thread in self._threads:
            thread.start()
        with ThreadPoolExecutor() as pool:
            self._of = dict(zip(ROLES, pool.map(start, ROLES), strict=True))

    def run(self, role: Role, coroutine: Coroutine[Any, Any, T], timeout: float = 280) -> T:
        """Run a coroutine on the event loop of the engine of `role`."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loops[role]).result(timeout)

    def reset(self, role: Role, weights: LearnerView) -> SamplingEngine:
        """Return the engine of `role` with `weights` loaded as step 0 of a new lineage."""
        self._lineage += 1
        engine = self._of[role]
        self.run(role, engine.load(PolicyVersion(self._lineage, 0), weights.payload, weights.probe()))
        return engine

    def close(self) -> None:
        """Stop the engines and their loops."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(SamplingEngine.shutdown, self._of.values()))
        for loop, thread in zip(self._loops.values(), self._threads, strict=True):
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
