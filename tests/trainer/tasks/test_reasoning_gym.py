"""Every data set of reasoning-gym: hostile answers, problems that do not depend on the process, invalid options."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from benchmarks.entropy.language_model_start import CONFIG, derivation
from tests.support.hostile_answers import HOSTILE_ANSWERS
from trainer.config import TaskConfig
from trainer.config.load import load_config
from trainer.config.task import GymConfig
from trainer.errors import ScopeError
from trainer.tasks import make_task
from trainer.tasks.bounded_pool import BoundedError, BoundedPool
from trainer.tasks.reasoning_gym import dataset_of, score, work
from trainer.tasks.verification import Verification

pytestmark = pytest.mark.timeout(240)
FROM_SETS = ("codeio", "isomorphic_strings", "polynomial_multiplication", "ransom_note", "word_ladder")
"""data sets that iterate over sets of texts"""
RAISING = ("boxnet", "coin_flip", "game_of_life", "prime_factorization")
"""data sets whose scorer raises for some answers"""
SLOW = ("composite", "knight_swap", "futoshiki", "zebra_puzzles")
"""left to benchmarks/reasoning_gym_hostile.py: a problem takes up to a second, or needs options"""


def names() -> list[str]:
    """The data sets that the tests of all use."""
    from reasoning_gym.factory import DATASETS

    return [name for name in sorted(DATASETS) if name not in SLOW]


def problems(pool: BoundedPool, dataset: str, numbers: list[int]) -> list[tuple[str, str]]:
    """Question and answer of some problems."""
    entries = pool.call("problems", GymConfig(dataset=dataset), 17, 100, numbers, seconds=60.0)
    return [(entry["question"], str(entry["answer"])) for entry in entries]


@pytest.fixture(scope="module")
def pools() -> Iterator[list[BoundedPool]]:
    """Two pools whose owners have different hash seeds."""
    made = []
    for seed in ("1", "2"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONHASHSEED", seed)
            made.append(BoundedPool(work, workers=1, seconds=5.0, memory_mib=2048))
            made[-1].call("import", GymConfig(), seconds=60.0)
    yield made
    for pool in made:
        pool.close()


def test_a_problem_is_the_same_in_every_process(pools: list[BoundedPool]) -> None:
    """The second process makes them in another order."""

    def made(pool: BoundedPool, order: list[str]) -> dict[str, Any]:
        return {name: problems(pool, name, [3, 0][: 1 + (name in FROM_SETS)]) for name in order}

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(made, pools, [names(), names()[::-1]])
    assert [name for name in first if first[name] != second[name]] == []
    assert len(first) > 90


@pytest.mark.parametrize("dataset", FROM_SETS)
def test_later_problems_of_data_sets_that_iterate_over_sets_are_the_same_too(
    pools: list[BoundedPool], dataset: str
) -> None:
    first, second = (
        problems(pool, dataset, numbers) for pool, numbers in zip(pools, ([5, 6, 7], [7, 5, 6]), strict=True)
    )
    assert first == [second[1], second[2], second[0]]


def test_any_answer_has_a_score_or_a_cause(pools: list[BoundedPool]) -> None:
    """Six answers for each data set, all of them over several data sets."""
    # Some scorers compute it, and would take the whole of their time.
    quick = [answer for answer in HOSTILE_ANSWERS if answer != "10**10**10"]

    def tried(pool: BoundedPool, order: list[str]) -> int:
        scores = 0
        for place, name in enumerate(order):
            gym = GymConfig(dataset=name)
            (entry,) = pool.call("problems", gym, 17, 100, [0], seconds=60.0)
            for shift in range(6):
                answer = quick[(6 * place + shift) % len(quick)]
                with contextlib.suppress(BoundedError):
                    scores += pool.call("score", gym, entry, f"<answer>{answer}</answer>") is not None
        return scores

    everything = names()
    with ThreadPoolExecutor(2) as threads:
        scores = sum(threads.map(tried, pools, [everything[::2], everything[1::2]]))
    assert scores > 5 * len(everything)


@pytest.mark.parametrize("dataset", RAISING)
def test_what_a_scorer_raises_is_a_cause(pools: list[BoundedPool], dataset: str) -> None:
    gym, causes = GymConfig(dataset=dataset), []
    (entry,) = pools[0].call("problems", gym, 17, 100, [0], seconds=60.0)
    for answer in HOSTILE_ANSWERS:
        try:
            pools[0].call("score", gym, entry, f"<answer>{answer}</answer>")
        except BoundedError as error:
            causes.append(str(error))
    assert causes
    assert [cause for cause in causes if re.search(r"\(\w+\.py:[0-9]+\)$", cause, re.ASCII) is None] == []


@pytest.mark.parametrize(
    ("dataset", "options"),
    [
        ("basic_arithmetic", {"no_such": 1}),
        ("basic_arithmetic", {"max_terms": 3.5}),
        ("basic_arithmetic", {"min_terms": "two"}),
        ("basic_arithmetic", {"min_terms": 9, "max_terms": 2}),
        ("chain_sum", {"min_digits": 0}),
        ("chain_sum", {"max_digits": "x"}),
        ("composite", {}),
        ("coin_flip", {"min_trials": 9, "max_trials": 3}),
        ("word_ladder", {"min_word_length": 100, "max_word_length": 200}),
    ],
)
def test_options_that_a_data_set_cannot_use_are_a_cause(
    pools: list[BoundedPool], dataset: str, options: dict[str, Any]
) -> None:
    gym = GymConfig(dataset=dataset, options=options)
    with pytest.raises(BoundedError, match=r"^(TypeError|ValueError|AssertionError|KeyError): "):
        pools[0].call("problems", gym, 17, 100, list(range(16)), seconds=60.0)


def test_a_task_refuses_options_and_gives_a_response_without_a_score_its_cause() -> None:
    gym = GymConfig(dataset="basic_arithmetic", size=100, options={"max_terms": 3.5})
    with pytest.raises(
        ScopeError, match=r"task\.reasoning_gym\.options=.* are not valid for basic_arithmetic: "
    ):
        make_task(TaskConfig(name="reasoning_gym", heldout=16, reasoning_gym=gym))
    flips = GymConfig(dataset="coin_flip", size=100)
    config = TaskConfig(name="reasoning_gym", heldout=16, reasoning_gym=flips)
    task = make_task(config)
    verification, problem = Verification(task, config), task.train_problem(0)
    verdict = verification.verify(problem, "<answer>1e999</answer>")
    assert verdict.unscored is not None
    assert verdict.unscored.startswith("OverflowError: ")
    right = f"<answer>{problem.data['entry']['answer']}</answer>"
    assert verification.verify(problem, right).reward == 1.0


def test_every_derivation_of_the_language_model_study_is_right() -> None:
    gym = load_config(CONFIG).task.reasoning_gym
    sums, choose = dataset_of(gym, 17, 40), random.Random(1)
    texts = [derivation(sums[i]["question"], choose) for i in range(40)]
    assert [score(gym, sums[i], texts[i]) for i in range(40)] == [1.0] * 40
    assert len({text.partition(" ")[0] for text in texts}) > 3
