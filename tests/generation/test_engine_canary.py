"""The canary: with equal weights every importance ratio is 1; stale or half-loaded weights are detected."""

from __future__ import annotations

from typing import Any

import pytest

from services.inference.engine import WeightLoadError
from services.inference.sample import Sample
from services.weights.serialization import serialize
from tests.support.generation.engine_canary import canary
from tests.support.generation.engines import ROLES, Engines
from tests.support.generation.sampled_groups import flat, sample_across, sample_groups
from tests.support.generation.tiny import LearnerView
from trainer.roles import Role
from trainer.rollouts.trajectory import PolicyVersion

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


@pytest.mark.parametrize("role", ROLES)
def test_canary_a_reload_of_the_same_weights_leaves_every_ratio_at_one(
    engines: Engines, old: LearnerView, role: Role
) -> None:
    engine = engines.reset(role, old)

    async def across_a_load() -> list[list[Sample]]:
        # On a busy machine every rollout may end before the load begins.
        for _ in range(40):
            version = PolicyVersion(engine.version.lineage, engine.version.step + 1)
            groups = await sample_across(engine, role, (version, old))
            if any(len(s.versions) == 2 for s in flat(groups)):
                return groups
        raise AssertionError("no rollout spans a load")

    async def before_across_after() -> list[list[list[Sample]]]:
        return [
            await sample_groups(engine, role, 8),
            await across_a_load(),
            await sample_groups(engine, role, 8),
        ]

    before, across, after = engines.run(role, before_across_after())
    for samples in (before, across, after):
        assert canary(samples, role, old).sings


@pytest.mark.parametrize("role", ROLES)
def test_half_loaded_weights_fail_the_probe_and_the_canary(
    engines: Engines, old: LearnerView, new: LearnerView, role: Role
) -> None:
    engine = engines.reset(role, old)
    names = sorted(new.weights)
    mixed = new.weights | {name: old.weights[name] for name in names[::2]}
    version = PolicyVersion(engine.version.lineage, engine.version.step + 1)
    with pytest.raises(WeightLoadError, match="does not run policy version"):
        engines.run(role, engine.load(version, serialize(mixed), new.probe()))
    assert not canary(engines.run(role, sample_groups(engine, role, 8)), role, new).sings


@pytest.mark.parametrize("role", ROLES)
def test_a_stale_engine_fails_the_probe_and_the_canary(
    engines: Engines, old: LearnerView, new: LearnerView, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines.reset(role, old)
    rpc = engine._engine.collective_rpc

    async def skip(method: str, **rest: Any) -> list[dict[str, int]]:
        return [{}] if method == "swap_weights" else await rpc(method, **rest)

    monkeypatch.setattr(engine._engine, "collective_rpc", skip)
    version = PolicyVersion(engine.version.lineage, engine.version.step + 1)
    with pytest.raises(WeightLoadError, match="does not run policy version"):
        engines.run(role, engine.load(version, new.payload, new.probe()))
    assert not canary(engines.run(role, sample_groups(engine, role, 8)), role, new).sings
    monkeypatch.undo()
    engines.run(role, engine.load(version, new.payload, new.probe()))
    assert canary(engines.run(role, sample_groups(engine, role, 8)), role, new).sings
