"""reasoning-gym, mixtures, custom tasks and shaped rewards."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import RewardConfig, TaskConfig
from trainer.config.load import validate_config
from trainer.config.task import GymConfig, MixturePart, Option, VerifierConfig
from trainer.errors import ScopeError
from trainer.tasks import Verdict, make_task
from trainer.tasks.reward_shaping import shape

pytestmark = pytest.mark.timeout(180)
PATIENT = VerifierConfig(timeout_seconds=30)


def gym(dataset: str = "basic_arithmetic", **options: int) -> TaskConfig:
    """A reasoning-gym task with 16 held-out problems."""
    block = GymConfig(dataset=dataset, size=500, options=dict(options))
    return TaskConfig(name="reasoning_gym", heldout=16, reasoning_gym=block, verifier=PATIENT)


def test_reasoning_gym_scores_what_the_last_answer_tags_hold() -> None:
    task = make_task(gym())
    problem = task.train_problem(3)
    answer = problem.data["entry"]["answer"]
    assert task.verify(problem, f"thinking <answer>{answer}</answer>").reward == 1.0
    assert task.verify(problem, f"<answer>{answer}</answer> no: <answer>x</answer>").reward < 1.0
    assert task.verify(problem, str(answer)).verdict == "no answer"
    assert "<answer>" in problem.prompt


def test_reasoning_gym_never_trains_on_a_held_out_problem_and_repeats_after_its_size() -> None:
    task = make_task(gym("chain_sum", min_terms=2, max_terms=2, min_digits=1, max_digits=1))
    heldout = {task.heldout_problem(i).id for i in range(task.heldout_size)}
    assert not heldout & {task.train_problem(i).id for i in range(task.train_size)}
    assert task.train_problem(7) == task.train_problem(7 + task.train_size)
    assert make_task(gym()).train_problem(5).id == make_task(gym()).train_problem(5).id


def test_an_unknown_data_set_or_option_of_reasoning_gym_is_refused() -> None:
    with pytest.raises(ScopeError, match="Nearest: basic_arithmetic"):
        make_task(gym("basic_arithmetics"))
    with pytest.raises(ScopeError, match=r"task\.reasoning_gym\.options="):
        make_task(gym("basic_arithmetic", no_such=1))


MINE = '''
import dataclasses
from trainer.tasks.base import Problem, Verdict

class Echo:
    """Say the word that you are told."""

    name = "echo"

    def __init__(self, config):
        self.words = config.options["words"]
        self.train_size, self.heldout_size = len(self.words), 16

    def train_problem(self, i):
        word = self.words[i % len(self.words)]
        return Problem(word, f"Say {word}:", {"word": word})

    def heldout_problem(self, i):
        if not 0 <= i < self.heldout_size:
            raise IndexError(i)
        return Problem(f"heldout-{i}", f"Say w{i}:", {"word": f"w{i}"})

    def verify(self, problem, response_text):
        right = float(response_text.strip() == problem.data["word"])
        return Verdict(right, {}, "correct" if right else "wrong")
'''


def test_a_task_in_a_folder_of_ones_own_works_by_configuration_alone(tmp_path: Path) -> None:
    (tmp_path / "my_echo_task.py").write_text(MINE)
    words: Option = ["hello", "world"]
    task = make_task(TaskConfig(name="my_echo_task:Echo", folder=str(tmp_path), options={"words": words}))
    assert task.train_problem(3).prompt == "Say world:"
    assert task.verify(task.train_problem(0), " hello").reward == 1.0


def test_a_mixture_gives_every_part_its_share_in_order() -> None:
    config = TaskConfig(
        name="mixture",
        mixture=(
            MixturePart(name="countdown", weight=3.0, heldout=16, max_number=6, max_target=30),
            MixturePart(name="countdown_cot", weight=1.0, heldout=16, max_number=6, max_target=30),
        ),
    )
    task = make_task(config)
    problems = [task.train_problem(i) for i in range(400)]
    assert Counter(p.data["part"] for p in problems) == {0: 300, 1: 100}
    assert all(Counter(p.data["part"] for p in problems[i : i + 4]) == {0: 3, 1: 1} for i in range(0, 400, 4))
    alone = make_task(TaskConfig(heldout=16, max_number=6, max_target=30))
    first = [p.data["problem"].id for p in problems if p.data["part"] == 0]
    assert first == [alone.train_problem(i).id for i in range(300)]
    assert task.heldout_size == 32
    assert {task.heldout_problem(i).data["part"] for i in range(32)} == {0, 1}
    inner = problems[0].data["problem"]
    solution = alone.solutions(inner)[0]  # pyright: ignore[reportAttributeAccessIssue]
    assert task.verify(problems[0], solution).reward == 1.0
    for outside in (-1, 32):
        with pytest.raises(IndexError):
            task.heldout_problem(outside)


def test_a_reward_without_shaping_is_the_verdict_itself() -> None:
    verdict = Verdict(1.0, {"format": 0.0}, "correct")
    assert shape(verdict, 1000, RewardConfig(), 1000) is verdict


@pytest.mark.parametrize(
    ("reward", "format", "tokens", "expected"),
    [
        (1.0, 1.0, 100, 1.0),
        (0.0, 1.0, 100, 0.2),
        (1.0, 1.0, 750, 0.75),
        (1.0, 1.0, 1000, 0.5),
        (0.0, 0.0, 900, 0.0),
    ],
)
def test_format_and_length_shape_the_reward(
    reward: float, format: float, tokens: int, expected: float
) -> None:
    config = RewardConfig(format_weight=0.2, overlong_from=500, overlong_penalty=0.5)
    shaped = shape(Verdict(reward, {"format": format}, "v"), tokens, config, 1000)
    assert shaped.reward == pytest.approx(expected)


@given(
    reward=st.floats(0, 1),
    format=st.floats(0, 1),
    tokens=st.integers(1, 2000),
    weight=st.floats(0, 1),
    start=st.integers(1, 2000),
    penalty=st.floats(0, 1),
)
def test_a_shaped_reward_stays_in_its_range_and_length_only_lowers_it(
    reward: float, format: float, tokens: int, weight: float, start: int, penalty: float
) -> None:
    config = RewardConfig(format_weight=weight, overlong_from=start, overlong_penalty=penalty)
    verdict = Verdict(reward, {"format": format}, "v")
    short, long = (shape(verdict, n, config, 2000).reward for n in (tokens, tokens + 100))
    assert 0 <= long <= short + 1e-12
    assert short <= 1 + 1e-12


@pytest.mark.parametrize(
    ("reward", "tokens", "expected"),
    [
        (1.0, 500, 1.0),
        (1.0, 750, 0.75),
        (1.0, 1000, 0.5),
        (0.0, 500, 0.0),
        (0.0, 750, -0.25),
        (0.0, 2000, -0.5),
    ],
)
def test_an_additive_overlong_penalty_is_subtracted_from_wrong_responses_too(
    reward: float, tokens: int, expected: float
) -> None:
    config = RewardConfig(overlong_from=500, overlong_penalty=0.5, overlong_form="additive")
    assert shape(Verdict(reward, {}, "v"), tokens, config, 1000).reward == pytest.approx(expected)


@pytest.mark.parametrize(
    ("tokens", "expected"), [(1, 1.0), (2000, 1.0), (2500, 0.9), (4000, 0.6), (9000, 0.0)]
)
def test_a_length_penalty_counts_tokens_beyond_the_free_ones(tokens: int, expected: float) -> None:
    config = RewardConfig(length_penalty=0.2, length_free=2000)
    assert shape(Verdict(1.0, {}, "v"), tokens, config, 10_000).reward == pytest.approx(expected)


@given(
    reward=st.floats(0, 1),
    tokens=st.integers(1, 4000),
    penalty=st.floats(0, 1),
    overlong=st.floats(0, 1),
    free=st.integers(1, 4000),
    form=st.sampled_from(["share", "additive"]),
)
def test_penalties_together_only_lower_the_reward_by_one_at_most_and_spare_short_responses(
    reward: float, tokens: int, penalty: float, overlong: float, free: int, form: Literal["share", "additive"]
) -> None:
    config = RewardConfig(
        overlong_from=2000,
        overlong_penalty=overlong,
        overlong_form=form,
        length_penalty=penalty,
        length_free=free,
    )
    verdict = Verdict(reward, {}, "v")
    short, long = (shape(verdict, n, config, 4000).reward for n in (tokens, tokens + 100))
    assert -1 - 1e-12 <= long <= short + 1e-12
    assert short <= reward
    if tokens <= min(free, 2000):
        assert short == reward
    if form == "share" and not penalty:
        assert long >= 0


def test_a_length_penalty_without_free_tokens_is_refused() -> None:
    with pytest.raises(ScopeError, match=r"length_penalty=0.1 needs task.reward.length_free"):
        validate_config({"task": {"reward": {"length_penalty": 0.1}}})
