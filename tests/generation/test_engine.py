"""Two real engines, base and adaptive: outputs, the effect of a weight load on rollouts in flight, and the canary."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache

from services.inference.engine import WeightLoadError
from services.inference.environment import engine_environment
from services.inference.sample import version_spans
from services.weights.buckets import as_text, plan
from services.weights.process_group import TransferError, open_rendezvous
from services.weights.serialization import serialize
from tests.support.generation.engine_canary import canary
from tests.support.generation.engines import ROLES, Engines
from tests.support.generation.sampled_groups import (
    BASE_TEMPERATURE,
    EOS,
    GROUPS,
    PROMPT,
    SAMPLES,
    TEMPERATURES,
    TOKENS,
    Load,
    broadcast,
    flat,
    sample_across,
    sample_groups,
    whole,
)
from tests.support.generation.tiny import LearnerView, tiny_config
from tests.support.repository import ROOT
from trainer.config import LoraConfig
from trainer.policy.lora import add_adapters, merged_weights
from trainer.roles import Role
from trainer.rollouts.trajectory import PolicyVersion

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


@pytest.mark.parametrize("role", ROLES)
def test_behaviour_logprobs_equal_a_hugging_face_forward(
    engines: Engines, old: LearnerView, role: Role
) -> None:
    engine = engines.reset(role, old)
    samples = flat(engines.run(role, sample_groups(engine, role, groups=4)))
    assert len({len(s.tokens) for s in samples}) > 3, "all responses of one length"
    expectations = old.logprobs(PROMPT, [s.tokens for s in samples], TEMPERATURES[role].reported)
    for sample, expected in zip(samples, expectations, strict=True):
        np.testing.assert_allclose(sample.logprobs, expected, atol=1e-3)
        assert (sample.finish_reason == "stop") == (sample.tokens[-1] == EOS)
        assert sample.finish_reason == "stop" or len(sample.tokens) == TOKENS


@pytest.mark.parametrize(("role", "load"), [*((role, whole) for role in ROLES), ("base", broadcast)])
def test_a_load_keeps_rollouts_in_flight_and_marks_the_token_where_the_policy_changed(
    engines: Engines, old: LearnerView, new: LearnerView, role: Role, load: Load
) -> None:
    wanted = {"ended before the first load": (0,), "ended between": (0, 1), "lived through both": (0, 1, 2)}
    # On a busy machine the rollouts may all end between two polls.
    for _ in range(30):
        seen = check_loads_in_flight(engines, old, new, role, load)
        if all(seen[steps] for steps in wanted.values()):
            return
    pytest.fail(f"not seen: {[name for name, steps in wanted.items() if not seen[steps]]}")


def check_loads_in_flight(
    engines: Engines, old: LearnerView, new: LearnerView, role: Role, load: Load
) -> Counter[tuple[int, ...]]:
    """Load twice while rollouts are in flight and check every token; counts rollouts by the versions they span."""
    engine = engines.reset(role, old)
    versions = [PolicyVersion(engine.version.lineage, step) for step in range(3)]
    loads = [(versions[1], new), (versions[2], old)]
    samples = flat(engines.run(role, sample_across(engine, role, *loads, load=load)))
    assert len(samples) == GROUPS * SAMPLES
    responses = [s.tokens for s in samples]
    of_old, of_new = (v.logprobs(PROMPT, responses, TEMPERATURES[role].reported) for v in (old, new))
    seen = Counter[tuple[int, ...]]()
    for sample, by_old, by_new in zip(samples, of_old, of_new, strict=True):
        seen[tuple(span.step for span in sample.versions)] += 1
        assert {span.lineage for span in sample.versions} == {engine.version.lineage}
        ends = [span.first_token for span in sample.versions[1:]] + [len(sample.tokens)]
        for span, end in zip(sample.versions, ends, strict=True):
            tokens = slice(span.first_token, end)
            expected = by_new if span.step == 1 else by_old
            np.testing.assert_allclose(sample.logprobs[tokens], expected[tokens], atol=1e-3)
    assert seen.keys() <= {(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)}
    return seen


def test_kept_caches_go_on_under_new_weights_and_say_so(
    engines: Engines, old: LearnerView, new: LearnerView, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines.reset("base", old)
    monkeypatch.setattr(engine, "_keep_caches", True)
    versions = [PolicyVersion(engine.version.lineage, step) for step in (1, 2)]
    loads = zip(versions, (new, old), strict=True)
    samples = flat(engines.run("base", sample_across(engine, "base", *loads)))
    of_step = {0: old, 1: new, 2: old}
    several = [sample for sample in samples if len(sample.versions) > 1]
    assert several, "no rollout was in flight during the load"
    for sample in [*several[:40], *samples[:40]]:
        policies = [(span.first_token, of_step[span.step]) for span in sample.versions]
        expected = logprobs_on_kept_caches(policies, sample.tokens, BASE_TEMPERATURE)
        np.testing.assert_allclose(sample.logprobs, expected, atol=1e-3)


@torch.no_grad()
def logprobs_on_kept_caches(
    policies: list[tuple[int, LearnerView]], response: np.ndarray, temperature: float
) -> np.ndarray:
    """Like `LearnerView.logprobs`, for one response that several policies sampled, each from a given token index on.

    A policy attends to keys and values cached by earlier policies; the last sampled token is computed by the next one.
    """
    ids = torch.tensor([*PROMPT, *response.tolist()])[None]
    cache, logits = DynamicCache(), []
    begins = [0, *(len(PROMPT) + first - 1 for first, _ in policies[1:]), ids.shape[1]]
    for (_, policy), (begin, end) in zip(policies, pairwise(begins), strict=True):
        output = policy.policy.model(input_ids=ids[:, begin:end], past_key_values=cache, use_cache=True)
        logits.append(output.logits[0])
    of_response = torch.cat(logits)[len(PROMPT) - 1 : -1] / temperature
    return of_response.log_softmax(-1).gather(-1, ids[0, len(PROMPT) :, None])[:, 0].numpy()


def test_kept_caches_are_not_given_to_rollouts_that_begin_later(
    engines: Engines, old: LearnerView, new: LearnerView, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines.reset("base", old)
    monkeypatch.setattr(engine, "_keep_caches", True)
    block = engine._engine.vllm_config.cache_config.block_size
    prompt = [3 + i % 11 for i in range(2 * block + 1)]
    for step, policy in ((0, old), (1, new)):
        if step:
            engines.run("base", whole(engine, PolicyVersion(engine.version.lineage, step), policy))
        (sample,) = engines.run(
            "base", engine.sample(prompt, n=1, temperature=1.0, max_tokens=8, end_tokens=(EOS,))
        )
        (expected,) = policy.logprobs(prompt, [sample.tokens], 1.0)
        np.testing.assert_allclose(sample.logprobs, expected, atol=1e-3)


def test_a_response_ends_after_the_first_of_several_end_tokens(engines: Engines, old: LearnerView) -> None:
    engine, ends = engines.reset("adaptive", old), (EOS, 4, 7, 10)
    asked = engine.sample(PROMPT, n=64, temperature=2.0, max_tokens=24, end_tokens=ends)
    last = set()
    for sample in engines.run("adaptive", asked):
        among = np.isin(sample.tokens, ends)
        assert not among[:-1].any()
        assert (sample.finish_reason == "stop") == among[-1]
        last |= {int(sample.tokens[-1])}
    assert len(last & set(ends)) > 1


def test_staged_weights_are_sampled_from_once_they_are_swapped_in_and_not_before(
    engines: Engines, old: LearnerView, new: LearnerView
) -> None:
    engine = engines.reset("base", old)
    version = PolicyVersion(engine.version.lineage, engine.version.step + 1)
    engines.run("base", engine._stage("stage_version", new.payload.tobytes()))
    engines.run("base", engine.verify(old.probe()))
    engines.run("base", engine._switch(version))
    engines.run("base", engine.verify(new.probe()))
    assert canary(engines.run("base", sample_groups(engine, "base", groups=2)), "base", new).sings


def test_a_broadcast_that_fails_leaves_the_engine_as_it_was(engines: Engines, old: LearnerView) -> None:
    engine = engines.reset("base", old)
    _, rendezvous = open_rendezvous("127.0.0.1", 2, "gloo", 1.0)
    engines.run("base", engine.join_group(rendezvous, 1))
    before = engine.version
    with pytest.raises(TransferError, match="did not connect to all members"):
        engines.run("base", engine.receive(as_text(plan(old.weights, 100_000))))
    assert engine.version == before
    engines.run("base", engine.verify(old.probe()))
    assert canary(engines.run("base", sample_groups(engine, "base", groups=2)), "base", old).sings


@pytest.mark.parametrize("message_bytes", [1 << 30, 0], ids=["by message", "by file"])
def test_an_engine_with_merged_adapters_agrees_with_the_learner_that_keeps_them_apart(
    engines: Engines, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, message_bytes: int
) -> None:
    monkeypatch.setattr("services.inference.engine.MESSAGE_BYTES", message_bytes)
    learner = LearnerView(tiny_model_dir)
    before = learner.weights
    model = learner.policy.model
    add_adapters(model, LoraConfig.model_validate({"rank": 4}), seed=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(len(name)))
    merged = merged_weights(model, dict(model.named_parameters()))
    assert merged.keys() == before.keys()
    assert not torch.equal(
        merged["model.layers.0.mlp.up_proj.weight"], before["model.layers.0.mlp.up_proj.weight"]
    )
    engine = engines.reset("base", LearnerView(tiny_model_dir))
    version = PolicyVersion(engine.version.lineage, 1)
    engines.run("base", engine.load(version, serialize(merged), learner.probe()))
    assert canary(engines.run("base", sample_groups(engine, "base", groups=2)), "base", learner).sings
    with pytest.raises(WeightLoadError):
        engines.run("base", engine.verify(LearnerView(tiny_model_dir).probe()))


@given(length=st.integers(1, 30), counts=st.lists(st.integers(0, 40), max_size=5).map(sorted))
def test_version_spans_give_each_token_the_newest_version_loaded_before_it(
    length: int, counts: list[int]
) -> None:
    """counts: tokens of the response at each load; a rollout without tokens at a load may also be unlisted there."""
    switches = [
        (PolicyVersion(1, step), {"r": count} if count or step % 2 else {})
        for step, count in enumerate(counts, 1)
    ]
    spans = version_spans(PolicyVersion(1, 0), switches, "r", length)
    assert spans[0].first_token == 0
    assert all(a.first_token < b.first_token < length for a, b in pairwise(spans))
    for token in range(length):
        loaded = [step for step, count in enumerate(counts, 1) if count <= token]
        span = [s for s in spans if s.first_token <= token][-1]
        assert span.step == max(loaded, default=0)


ENGINE_SCRIPT = """
import asyncio, sys
from pathlib import Path
from services.inference.engine import SamplingEngine
from tests.support.generation.tiny import tiny_config
from trainer.rollouts.trajectory import PolicyVersion

async def main():
    engine = await SamplingEngine.start(
        Path(sys.argv[1]), tiny_config().generators, role="base", max_length=64, seed=1, version=PolicyVersion(0, 0)
    )
    print("up", flush=True)
    await engine.sample([3, 4], n=400, temperature=1.0, max_tokens=60, end_tokens=(1,))
    await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_an_engine_whose_process_is_killed_leaves_nothing_behind(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    script = tmp_path / "engine.py"
    script.write_text(ENGINE_SCRIPT)
    variables = engine_environment(tiny_config())
    environment = os.environ | variables | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(script), str(tiny_model_dir)], stdout=subprocess.PIPE, env=environment, text=True
    )
    try:
        assert process.stdout is not None
        while (line := process.stdout.readline()) != "up\n":
            assert line, "the engine did not start"
        children = psutil.Process(process.pid).children(recursive=True)
        names = [" ".join(c.cmdline()).strip() for c in children]
        assert [name for name in names if name.startswith("VLLM::")] == ["VLLM::EngineCore"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 10
        while any(c.is_running() and c.status() != psutil.STATUS_ZOMBIE for c in children):
            assert time.monotonic() < deadline, f"still running: {children}"
            time.sleep(0.1)
    finally:
        process.kill()
