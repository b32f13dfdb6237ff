"""Scoring: one verdict per response, in order, on as many threads as the verifier has workers."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.generation.scoring import Scorer
from tests.support.generation.tiny import tiny_config
from trainer.prompts.codec import PromptCodec
from trainer.starting_model.tiny_model import build_tokenizer
from trainer.tasks import Problem, Verdict, Vocabulary

PROBLEM = Problem("p", "prompt", {})
TOKENIZER = build_tokenizer(Vocabulary(tuple("0123456789"), split="characters"), 64)


class Echo:
    """Returns the response as its verdict; records the largest number of concurrent calls."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds, self._lock, self._busy = seconds, threading.Lock(), 0
        self.most_busy = 0

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        with self._lock:
            self._busy += 1
            self.most_busy = max(self.most_busy, self._busy)
        time.sleep(self._seconds)
        with self._lock:
            self._busy -= 1
        if response_text == "13":
            raise RuntimeError("unlucky")
        return Verdict(1.0, {}, response_text)


def verdicts(task: Any, workers: int, numbers: range) -> list[str]:
    config = tiny_config(task={"verifier": {"workers": workers}})
    codec = PromptCodec(TOKENIZER, config)
    samples: list[Any] = [
        SimpleNamespace(tokens=np.array(TOKENIZER.encode(f"{i}<eos>")), finish_reason="stop", verdict=None)
        for i in numbers
    ]
    scorer = Scorer(config, task, codec)
    return [verdict.verdict for verdict in asyncio.run(scorer.verdicts(PROBLEM, samples))]


@given(workers=st.integers(1, 6), responses=st.integers(1, 12))
def test_every_response_has_its_own_verdict(workers: int, responses: int) -> None:
    assert verdicts(Echo(), workers, range(responses)) == [str(i) for i in range(responses)]


def test_as_many_are_scored_at_once_as_the_verifier_has_workers() -> None:
    for workers in (1, 3):
        task = Echo(seconds=0.02)
        verdicts(task, workers, range(9))
        assert task.most_busy == workers


def test_a_response_on_which_the_verifier_fails_has_no_score_and_the_others_have_theirs() -> None:
    found = verdicts(Echo(), 2, range(10, 16))
    assert found[3].startswith("RuntimeError: unlucky")
    assert [*found[:3], *found[4:]] == ["10", "11", "12", "14", "15"]


def test_a_verdict_on_a_rollout_whose_environment_failed_is_kept() -> None:
    task: Any = Echo()
    scorer = Scorer(tiny_config(), task, PromptCodec(TOKENIZER, tiny_config()))
    known = Verdict(0.0, {}, "KeyError", unscored="KeyError")
    samples: list[Any] = [
        SimpleNamespace(tokens=np.array(TOKENIZER.encode("1<eos>")), finish_reason="stop", verdict=verdict)
        for verdict in (known, None)
    ]
    assert [v.verdict for v in asyncio.run(scorer.rewards(PROBLEM, samples))] == ["KeyError", "1"]
