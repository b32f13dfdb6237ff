"""Problems that cannot be prompts: the next one of the stream takes their place, the same in every process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.chat_models import MakeCodec
from tests.support.generation.tiny import tiny_config
from trainer.config import RunConfig
from trainer.errors import ScopeError
from trainer.rollouts.curriculum import StepMix
from trainer.rollouts.problem_order import problem_at
from trainer.rollouts.usable_problems import MOST_LEFT_OUT, UsableProblems
from trainer.tasks import Problem, Verdict
from trainer.tasks.mixture import Mixture
from trainer.tasks.split import Split


class Lengths(Split):
    """Problem i has a prompt of as many characters as lengths[i] says; the held-out problems are the same."""

    name = "lengths"

    def __init__(self, lengths: Sequence[int]) -> None:
        problems = [Problem(str(i), "x" * length, {}) for i, length in enumerate(lengths)]
        super().__init__(problems, problems)

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        return Verdict(1.0, {}, "correct")


LONG, SHORT = 600, 10
LENGTHS = [SHORT, LONG, LONG, SHORT, LONG, SHORT]


def config(**task: Any) -> RunConfig:
    return tiny_config(model={"max_length": 500}, rollout={"max_new_tokens": 100}, task=task)


def test_a_long_problem_is_replaced_by_the_next_one_and_counted(codec_of: MakeCodec) -> None:
    task, codec = Lengths(LENGTHS), codec_of("chatml")
    first, second = (UsableProblems(task, config(), codec) for _ in range(2))
    start = int(problem_at(task, config(), 0).id)
    streams = [[int(problems.train(i).id) for i in range(12)] for problems in (first, second)]
    assert streams[0] == streams[1]
    expected = {0: 0, 1: 3, 2: 3, 3: 3, 4: 5, 5: 5}
    assert streams[0] == [expected[(start + i) % 6] for i in range(12)]
    assert first.left_out == 2 * (2 + 1 + 1)
    assert int(second.train(1).id) == streams[0][1], "it does not depend on what was asked before"


def test_held_out_problems_are_counted_without_long_ones(codec_of: MakeCodec) -> None:
    problems = UsableProblems(Lengths(LENGTHS), config(), codec_of("chatml"))
    assert [problems.heldout(i).id for i in (2, 0, 1)] == ["5", "0", "3"]
    assert problems.heldout_indices(100) == [0, 3, 5]
    with pytest.raises(IndexError):
        problems.heldout(3)


def test_a_refusing_run_names_the_problem(codec_of: MakeCodec) -> None:
    codec = codec_of("chatml")
    problems = UsableProblems(Lengths([LONG, SHORT]), config(unusable_prompts="refuse"), codec)
    assert {problems.train(i).id for i in range(2)} == {"0", "1"}
    assert problems.left_out == 0
    with pytest.raises(ScopeError, match="problem '0' cannot be a prompt: it has 6"):
        problems.heldout(0)


def test_the_next_problem_is_of_the_same_part(codec_of: MakeCodec) -> None:
    mixture = Mixture([Lengths([SHORT]), Lengths([LONG, SHORT])], [1.0, 1.0])
    settings = config(name="mixture", mixture=[{"name": "countdown"}] * 2, curriculum={"kind": "pass_rate"})
    problems = UsableProblems(mixture, settings, codec_of("chatml"))
    places = settings.rollout.prompts_per_step
    mix = StepMix([1] * places, [0, 0])
    assert {problems.train(ordinal, 0, mix).id for ordinal in range(places)} == {"1:1"}
    parts = [mixture.part_of(problems.train(ordinal).id) for ordinal in range(100)]
    assert parts.count(0) == 50


def test_a_stream_without_usable_problems_ends_with_the_reason(codec_of: MakeCodec) -> None:
    problems = UsableProblems(Lengths([LONG]), config(), codec_of("chatml"))
    with pytest.raises(ScopeError, match=rf"{MOST_LEFT_OUT:,} training problems in a row .* it has 6"):
        problems.train(0)
