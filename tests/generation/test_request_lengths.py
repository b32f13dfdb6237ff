"""Request lengths of vLLM's V2 model runner, with a stand-in for its state, because that runner needs a GPU.

test_engine.py checks the V1 runner token by token on real engines.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from services.inference.request_lengths import (
    ALL_TOKENS,
    DeviceRequestLengths,
    HostRequestLengths,
    track_requests,
)


class Runner:
    """Slots with lengths; `finish_requests` frees those of ended or preempted requests, as vLLM's does."""

    def __init__(self, slots: int) -> None:
        self.req_states = SimpleNamespace(
            req_id_to_index={},
            total_len=SimpleNamespace(gpu=torch.zeros(slots, dtype=torch.int32)),
            prompt_len=SimpleNamespace(np=np.zeros(slots, np.int32)),
        )

    def hold(self, name: str, slot: int, prompt: int, total: int) -> None:
        states = self.req_states
        states.req_id_to_index[name] = slot
        states.prompt_len.np[slot], states.total_len.gpu[slot] = prompt, total

    def finish_requests(self, scheduled: SimpleNamespace) -> None:
        for name in scheduled.finished_req_ids | (scheduled.preempted_req_ids or set()):
            slot = self.req_states.req_id_to_index.pop(name, None)
            if slot is not None:
                self.req_states.total_len.gpu[slot] = 0


def step(runner: Runner, finished: set[str], preempted: set[str] | None = None) -> None:
    runner.finish_requests(SimpleNamespace(finished_req_ids=finished, preempted_req_ids=preempted))


def test_lengths_are_those_of_the_slots_without_the_prompts() -> None:
    runner = Runner(4)
    requests = track_requests(runner)
    assert isinstance(requests, DeviceRequestLengths)
    assert requests.sampled() == {}
    runner.hold("a", 2, prompt=5, total=5)
    runner.hold("b", 0, prompt=5, total=9)
    assert requests.sampled() == requests.sampled() == {"a": 0, "b": 4}


def test_a_request_that_ended_is_said_to_once() -> None:
    runner = Runner(4)
    requests = track_requests(runner)
    runner.hold("a", 1, prompt=5, total=8)
    runner.hold("b", 2, prompt=5, total=6)
    step(runner, {"a"})
    assert requests.sampled() == {"a": ALL_TOKENS, "b": 1}
    assert requests.sampled() == {"b": 1}


def test_a_preempted_request_keeps_its_length_until_it_is_back_or_ends() -> None:
    runner = Runner(4)
    requests = track_requests(runner)
    runner.hold("a", 1, prompt=5, total=8)
    runner.hold("b", 2, prompt=5, total=11)
    step(runner, set(), {"a", "b"})
    assert requests.sampled() == requests.sampled() == {"a": 3, "b": 6}
    runner.hold("a", 3, prompt=5, total=10)
    step(runner, {"b"})
    assert requests.sampled() == {"a": 5, "b": ALL_TOKENS}
    step(runner, {"a"})
    assert requests.sampled() == {"a": ALL_TOKENS}
    assert requests.sampled() == {}


def test_the_first_runner_lists_the_tokens_of_each_request() -> None:
    runner = SimpleNamespace(requests={})
    requests = track_requests(runner)
    assert isinstance(requests, HostRequestLengths)
    runner.requests["a"] = SimpleNamespace(output_token_ids=[7, 8])
    runner.requests["b"] = SimpleNamespace(output_token_ids=[])
    runner.requests.pop("a", None)
    runner.requests.pop("unknown", None)
    assert requests.sampled() == {"a": ALL_TOKENS, "b": 0}
    assert requests.sampled() == {"b": 0}
