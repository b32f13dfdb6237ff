"""The Countdown task: all its problems, its split, and its verifier against an oracle built on `ast`."""

import ast
import itertools
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config import TaskConfig
from trainer.errors import ScopeError
from trainer.tasks import Problem, TaskWithSolutions, make_task
from trainer.tasks.countdown.task import MAX_RESPONSE_CHARACTERS, Countdown, MalformedError, evaluate

CONFIG = TaskConfig(max_number=9, max_target=50, heldout=128)
TASK = Countdown(CONFIG)
PROBLEM = Problem("2,3,7=27", "2 3 7=27:", {"numbers": (2, 3, 7), "target": 27})

train_problems = st.integers(0, 10 * TASK.train_size).map(TASK.train_problem)
heldout_problems = st.integers(0, TASK.heldout_size - 1).map(TASK.heldout_problem)
problems = train_problems | heldout_problems

numbers = st.integers(0, 120).map(str)
expressions = st.recursive(
    numbers,
    lambda inner: (
        st.tuples(inner, st.sampled_from("+-*"), inner).map("".join) | inner.map(lambda text: f"({text})")
    ),
    max_leaves=6,
)
strings = st.text("0123456789+-*()", max_size=20) | expressions | st.text(max_size=30)


def oracle(text: str) -> tuple[int, list[int]] | None:
    """Value and operands by Python's own grammar, or None if the text is outside Countdown's."""
    if len(text) > MAX_RESPONSE_CHARACTERS or re.search(r"[^0-9+*()-]|(?<![0-9])0[0-9]", text):
        return None
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        return None
    operands: list[int] = []

    def value(node: ast.expr) -> int | None:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            operands.append(node.value)
            return node.value
        if not isinstance(node, ast.BinOp):
            return None
        left, right = value(node.left), value(node.right)
        if left is None or right is None:
            return None
        match node.op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
        return None

    result = value(tree)
    return None if result is None else (result, operands)


def oracle_value(text: str) -> int:
    expected = oracle(text)
    assert expected is not None
    return expected[0]


@settings(deadline=None)
@given(strings)
def test_the_verifier_reads_what_python_reads_and_nothing_else(text: str) -> None:
    expected = oracle(text)
    if expected is None:
        with pytest.raises(MalformedError):
            evaluate(text)
    else:
        assert evaluate(text) == expected


@settings(deadline=None)
@given(problems, strings)
def test_a_reward_means_the_right_numbers_and_the_right_value(problem: Problem, text: str) -> None:
    expected = oracle(text)
    correct = (
        expected is not None
        and expected[0] == problem.data["target"]
        and sorted(expected[1]) == sorted(problem.data["numbers"])
    )
    assert TASK.verify(problem, text).reward == float(correct)


@settings(deadline=None)
@given(problems)
def test_every_problem_has_solutions_and_every_solution_verifies(problem: Problem) -> None:
    solutions = TASK.solutions(problem)
    assert solutions
    assert len(set(solutions)) == len(solutions)
    for text in solutions:
        verdict = TASK.verify(problem, text)
        assert (verdict.reward, verdict.verdict) == (1.0, "correct")
        assert set(verdict.components.values()) == {1.0}


@settings(deadline=None)
@given(problems)
def test_solutions_are_all_expressions_with_at_most_one_pair_of_parentheses(problem: Problem) -> None:
    texts = {
        shape.format(*order, p=p, q=q)
        for shape in ("{}{p}{}{q}{}", "({}{p}{}){q}{}", "{}{p}({}{q}{})")
        for order in itertools.permutations(problem.data["numbers"])
        for p, q in itertools.product("+-*", repeat=2)
    }
    assert TASK.solutions(problem) == sorted(t for t in texts if oracle_value(t) == problem.data["target"])


@settings(deadline=None)
@given(problems, st.integers(0, 2**32))
def test_random_solutions_are_solutions_and_follow_the_seed(problem: Problem, seed: int) -> None:
    first, second = (TASK.random_solution(problem, np.random.default_rng(seed)) for _ in range(2))
    assert first == second
    assert first in TASK.solutions(problem)


def test_random_solutions_vary_over_all_solutions() -> None:
    problem = max((TASK.train_problem(i) for i in range(200)), key=lambda p: len(TASK.solutions(p)))
    rng = np.random.default_rng(0)
    drawn = {TASK.random_solution(problem, rng) for _ in range(400)}
    assert drawn == set(TASK.solutions(problem))


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("(2+7)*3", "correct"),
        ("3*(7+2)", "correct"),
        ("((3))*(2+7)", "correct"),
        ("2+3+7", "wrong value"),
        ("20+7", "wrong numbers"),
        ("27", "wrong numbers"),
        ("3*3*3", "wrong numbers"),
        ("(2+7)*3*3-27-27", "wrong numbers"),
        ("", "malformed"),
        ("(2+7)*3 ", "malformed"),
        ("(2+7)*3<pad>", "malformed"),
        ("(2+7)*+3", "malformed"),
        ("-2+3*7", "malformed"),
        ("(2+7)3", "malformed"),
        ("(2+7)*03", "malformed"),
        ("(2+7", "malformed"),
        ("(2+7)*3)", "malformed"),
        ("()", "malformed"),
    ],
)
def test_verdicts_name_what_is_wrong(text: str, verdict: str) -> None:
    assert TASK.verify(PROBLEM, text).verdict == verdict


@pytest.mark.parametrize(
    "text",
    [
        "9" * 1_000_000,
        "(" * 1_000_000,
        "(" * 30 + "3" + ")" * 30,
        "9" + "*9" * 31,
        "9**9**9**9",
        "3**7",
        "__import__('os').system('true')",
        "(2+7)*3\n",
        "(２+７)*３",
        "(2+7)*٣",
        "(2+7)×3",
        "3_0",
        "0x1b",
        "1e9",
        "\x00",
        "\ud800",
    ],
    ids=lambda text: ascii(text)[:24],
)
def test_hostile_responses_get_no_reward_and_no_time(text: str) -> None:
    started = time.perf_counter()
    assert TASK.verify(PROBLEM, text).reward == 0.0
    assert time.perf_counter() - started < 0.05


def identities(task: Countdown) -> tuple[list[str], list[str]]:
    train = [task.train_problem(i).id for i in range(task.train_size)]
    return train, [task.heldout_problem(i).id for i in range(task.heldout_size)]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**63))
def test_the_split_is_disjoint_complete_and_set_by_the_seed(seed: int) -> None:
    config = TaskConfig(max_number=5, max_target=20, heldout=32, seed=seed)
    train, heldout = identities(Countdown(config))
    assert len(heldout) == 32
    assert set(train).isdisjoint(heldout)
    assert len(set(train) | set(heldout)) == len(train) + len(heldout)
    assert (train, heldout) == identities(Countdown(config))
    assert identities(Countdown(config.model_copy(update={"seed": seed + 1}))) != (train, heldout)


def test_the_universe_is_every_solvable_target_of_every_triple() -> None:
    train, heldout = identities(Countdown(TaskConfig(max_number=4, max_target=30, heldout=16)))
    expected = set()
    for a, b, c in itertools.combinations_with_replacement(range(1, 5), 3):
        for order in itertools.permutations((a, b, c)):
            for p, q in itertools.product("+-*", repeat=2):
                for shape in ("({}{p}{}){q}{}", "{}{p}({}{q}{})"):
                    value = oracle_value(shape.format(*order, p=p, q=q))
                    if 1 <= value <= 30:
                        expected.add(f"{a},{b},{c}={value}")
    assert {*train, *heldout} == expected


def test_the_default_task_offers_thousands_of_problems_and_writes_solutions() -> None:
    task = make_task(TaskConfig())
    assert isinstance(task, TaskWithSolutions)
    assert task.train_size > 2000
    assert task.heldout_size >= 256


def test_training_repeats_and_held_out_does_not() -> None:
    assert TASK.train_problem(TASK.train_size + 3) == TASK.train_problem(3)
    for i in (-1, TASK.heldout_size):
        with pytest.raises(IndexError):
            TASK.heldout_problem(i)
    with pytest.raises(IndexError):
        TASK.train_problem(-1)


def test_a_heldout_set_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ScopeError, match=r"task\.heldout=5000 .*max_number=4.*give \d+ problems"):
        make_task(TaskConfig(max_number=4, heldout=5000))


def test_an_unknown_task_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ScopeError, match=r"task\.name='countdwn'.*Nearest valid names: countdown"):
        make_task(TaskConfig(name="countdwn"))
