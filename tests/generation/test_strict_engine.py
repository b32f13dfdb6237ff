"""A strict engine on a CPU with more prompt tokens in flight than vLLM computes in one batch."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.inference.engine import SamplingEngine
from services.inference.environment import engine_environment
from services.inference.sample import SeededPrompt
from tests.support.generation.tiny import tiny_config
from trainer.config import RunConfig
from trainer.rollouts.trajectory import PolicyVersion

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

LENGTH, EOS = 64, 1
PROMPTS, PROMPT_TOKENS = 48, 60
"""2,880 tokens; vLLM's budget for one batch is 2,048"""


def test_prompts_that_exceed_the_token_budget_of_a_batch_are_sampled(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunked prefill would split a prompt between two batches, which crashes a CPU engine with seeded requests."""
    config = tiny_config(determinism={"strict": True}, pipeline={"max_staleness": 0})
    for name, value in engine_environment(config).items():
        monkeypatch.setenv(name, value)
    responses = asyncio.run(sample_prompts(config, tiny_model_dir))
    assert [len(group) for group in responses] == [1] * PROMPTS


async def sample_prompts(config: RunConfig, model_dir: Path) -> list[list[object]]:
    """Sample one response for each prompt."""
    version = PolicyVersion(0, 0)
    engine = await SamplingEngine.start(
        model_dir,
        config.generators,
        role="base",
        max_length=LENGTH,
        seed=1,
        version=version,
        strict=True,
    )
    try:
        budget = engine._engine.vllm_config.scheduler_config.max_num_batched_tokens
        assert PROMPTS * PROMPT_TOKENS > budget > PROMPT_TOKENS, (
            f"the prompts fit in a batch of {budget} tokens"
        )
        prompts = [
            SeededPrompt([3 + (p + i) % 11 for i in range(PROMPT_TOKENS)], [p]) for p in range(PROMPTS)
        ]
        sampled = await engine.sample_in_order(
            prompts, version=version, temperature=1.0, max_tokens=LENGTH - PROMPT_TOKENS, end_tokens=(EOS,)
        )
    finally:
        engine.shutdown()
    assert sampled is not None
    return [list(group) for group in sampled]
