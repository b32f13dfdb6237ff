"""Countdown with a chain of thought: verifier, split, and that most words of an answer do not affect the reward."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.repository import ROOT
from trainer.config import TaskConfig
from trainer.config.load import load_config
from trainer.errors import ScopeError
from trainer.starting_model.tiny_model import build_tokenizer
from trainer.tasks import Problem, TaskWithSolutions, make_task
from trainer.tasks.countdown.chain_of_thought import MAX_CHAIN_CHARACTERS, CountdownCot
from trainer.tasks.countdown.language import ANSWER, SLOTS, WORDS, free_words

RUN = load_config(ROOT / "deploy" / "configs" / "countdown-cot-cpu.yaml")
TASK = CountdownCot(RUN.task)
TOKENIZER = build_tokenizer(TASK.vocabulary, RUN.model.max_length)
PROBLEM = Problem("2,3,7=27", "2 3 7 = 27 :", {"numbers": (2, 3, 7), "target": 27})

QUICK = settings(deadline=None, max_examples=50)

OPTIONAL = {word for slot in ("OPENING", "TRY", "LEFT", "CHECK") for word in SLOTS[slot]}
OPERATORS = {
    word: operation
    for sign, operation in (("+", int.__add__), ("-", int.__sub__), ("*", int.__mul__))
    for word in SLOTS[sign]
}

problems = st.integers(0, TASK.train_size).map(TASK.train_problem) | st.integers(
    0, TASK.heldout_size - 1
).map(TASK.heldout_problem)
seeds = st.integers(0, 2**32)
tokens = st.sampled_from(TASK.vocabulary.tokens)
texts = st.text(max_size=40) | st.lists(tokens | st.just(ANSWER), max_size=12).map(" ".join)


def solution(problem: Problem, seed: int) -> list[str]:
    return TASK.random_solution(problem, np.random.default_rng(seed)).split()


def reward(problem: Problem, words: list[str]) -> float:
    return TASK.verify(problem, " ".join(words)).reward


def sentences(words: list[str]) -> list[list[str]]:
    """The chain, split after every full stop."""
    cut: list[list[str]] = [[]]
    for word in words:
        cut[-1].append(word)
        if word in SLOTS["STOP"]:
            cut.append([])
    return cut


def statement(sentence: list[str]) -> tuple[int, str, int, int] | None:
    """The claim of a sentence as (a, operator, b, result); None without a claim."""
    parts = [word for word in sentence if word.isdigit() or word in OPERATORS]
    match parts:
        case [a, operator, b, result] if ANSWER not in sentence and operator in OPERATORS:
            return int(a), operator, int(b), int(result)
        case _:
            return None


@QUICK
@given(problems, seeds)
def test_every_random_solution_is_rewarded_in_full_and_follows_the_seed(problem: Problem, seed: int) -> None:
    words = solution(problem, seed)
    verdict = TASK.verify(problem, " ".join(words))
    assert (verdict.reward, verdict.verdict) == (1.0, "correct")
    assert set(verdict.components.values()) == {1.0}
    assert words == solution(problem, seed)


@QUICK
@given(problems, texts)
def test_the_verifier_takes_any_text(problem: Problem, text: str) -> None:
    verdict = TASK.verify(problem, text)
    assert (verdict.reward == 1.0) == (verdict.verdict == "correct")
    assert verdict.reward in (0.0, 1.0)


@QUICK
@given(problems, texts, st.data())
def test_a_reward_means_the_right_numbers_and_the_right_value(
    problem: Problem, chain: str, data: st.DataObject
) -> None:
    numbers = [*problem.data["numbers"], *data.draw(st.sampled_from([(), (), (), (1,)]))]
    order = data.draw(st.permutations(numbers))
    final = str(order[0])
    for number in order[1:]:
        final = f"( {final} ) {data.draw(st.sampled_from('+-*'))} {number}"
    equal = eval(final, {"__builtins__": {}}) == problem.data["target"]
    right = equal and len(numbers) == len(problem.data["numbers"])
    assert TASK.verify(problem, f"{chain} {ANSWER} is {final}").reward == float(right)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("so the answer is ( 2 + 7 ) * 3", "correct"),
        ("answer = 3 * ( 7 + 2 )", "correct"),
        ("answer 3 * ( 7 + 2 )", "correct"),
        ("<pad> 5 is 6 . nonsense ! answer : ( 2 + 7 ) * 3", "correct"),
        ("answer is 1 . no , my answer is ( 2 + 7 ) * 3", "correct"),
        ("answer is ( 2 + 7 ) * 3 . no , my answer is 1", "wrong numbers"),
        ("the answer is 2 + 3 + 7", "wrong value"),
        ("the answer is 27", "wrong numbers"),
        ("the answer is ( 2 + 7 ) * 3 .", "malformed"),
        ("the answer is is ( 2 + 7 ) * 3", "malformed"),
        ("the answer is ( 2 plus 7 ) times 3", "malformed"),
        ("the answer is 2 7", "malformed"),
        ("the answer is", "malformed"),
        ("answer", "malformed"),
        ("( 2 + 7 ) * 3", "no answer"),
        ("answers ( 2 + 7 ) * 3", "no answer"),
        ("", "no answer"),
    ],
)
def test_verdicts_name_what_is_wrong(text: str, verdict: str) -> None:
    assert TASK.verify(PROBLEM, text).verdict == verdict


@pytest.mark.parametrize(
    "text",
    [
        "answer " * 1_000_000,
        "answer " + "9" * 60_000,
        "answer " + "( " * 30_000,
        "answer " + "9 * " * 15_000 + "9",
        "answer 9 ** 9 ** 9 ** 9",
        "answer __import__('os')",
        "answer ( ２ + 7 ) * ٣",
        "answer \ud800",
        "\x00",
    ],
    ids=lambda text: ascii(text)[:24],
)
def test_hostile_responses_get_no_reward_and_no_time(text: str) -> None:
    started = time.process_time()
    assert TASK.verify(PROBLEM, text).reward == 0.0
    assert time.process_time() - started < 0.05


def test_the_longest_possible_rollout_is_read() -> None:
    longest = max(map(len, TASK.vocabulary.tokens)) + 1
    assert RUN.rollout.max_new_tokens * longest < MAX_CHAIN_CHARACTERS


@QUICK
@given(problems, seeds)
def test_every_statement_of_a_solution_is_true(problem: Problem, seed: int) -> None:
    claims = [c for c in map(statement, sentences(solution(problem, seed))) if c is not None]
    assert claims
    for a, operator, b, result in claims:
        assert OPERATORS[operator](a, b) == result


@QUICK
@given(problems, seeds)
def test_an_attempt_that_is_called_wrong_leads_nowhere(problem: Problem, seed: int) -> None:
    for sentence in sentences(solution(problem, seed)):
        if not sentence or sentence[0] not in SLOTS["TRY"]:
            continue
        claim = statement(sentence)
        assert claim is not None
        rest = list(problem.data["numbers"])
        rest.remove(claim[0])
        rest.remove(claim[2])
        values = [claim[3]]
        for number in rest:
            signs = (int.__add__, int.__sub__, int.__mul__)
            joins = {f(*pair) for v in values for pair in ((v, number), (number, v)) for f in signs}
            values = [v for v in joins if 0 <= v <= RUN.task.max_target]
        assert problem.data["target"] not in values


@QUICK
@given(problems, seeds, st.data())
def test_a_free_word_of_the_chain_may_become_any_other_or_go(
    problem: Problem, seed: int, data: st.DataObject
) -> None:
    words = solution(problem, seed)
    chain = range(words.index(ANSWER))
    places = [i for i, free in enumerate(free_words(words)) if free and i in chain]
    for i in data.draw(st.lists(st.sampled_from(places), unique=True, max_size=10)):
        words[i] = data.draw(st.sampled_from([word for word in TASK.vocabulary.tokens if word != ANSWER]))
    assert reward(problem, words) == 1.0
    gone = data.draw(st.sampled_from(places))
    assert reward(problem, words[:gone] + words[gone + 1 :]) == 1.0


@QUICK
@given(problems, seeds)
def test_free_words_of_the_answer_have_synonyms_and_bound_ones_decide(problem: Problem, seed: int) -> None:
    words, free = solution(problem, seed), free_words(solution(problem, seed))
    place = words.index(ANSWER)
    for i in range(place, len(words)):
        if free[i]:
            assert i == place + 1
            for link in SLOTS["LINK"]:
                assert reward(problem, [*words[:i], link, *words[i + 1 :]]) == 1.0
        assert reward(problem, words[:i] + words[i + 1 :]) == float(free[i])


@QUICK
@given(problems, seeds)
def test_only_free_words_can_be_dropped_and_what_stays_is_the_arithmetic(problem: Problem, seed: int) -> None:
    words = solution(problem, seed)
    bound = [word for word, free in zip(words, free_words(words), strict=True) if not free]
    assert reward(problem, bound) == 1.0
    joins = len(problem.data["numbers"]) - 1
    numbers = [int(word) for word in bound if word.isdigit()]
    assert len(numbers) == 3 * joins + joins + 1
    assert numbers[3 * joins - 1] == problem.data["target"]
    assert bound.count(ANSWER) == 1
    assert sum(word in OPERATORS for word in bound) == 2 * joins


def test_answers_are_long_and_most_of_their_tokens_are_free() -> None:
    """At least 40 tokens and 60 % free on average, counting the end token as bound."""
    rng = np.random.default_rng(0)
    lengths, shares = [], []
    for i in rng.integers(TASK.train_size, size=1500):
        words = TASK.random_solution(TASK.train_problem(int(i)), rng).split()
        lengths.append(len(words) + 1)
        shares.append(sum(free_words(words)) / lengths[-1])
    assert np.mean(lengths) > 50
    assert np.mean(shares) > 0.7
    assert np.dot(lengths, shares) / np.sum(lengths) > 0.7
    assert max(lengths) <= RUN.rollout.max_new_tokens


@QUICK
@given(st.integers(0, TASK.heldout_size - 1), seeds)
def test_they_stay_so_for_a_policy_that_drops_every_sentence_it_may(i: int, seed: int) -> None:
    problem = TASK.heldout_problem(i)
    kept = [s for s in sentences(solution(problem, seed)) if s[0] not in OPTIONAL]
    words = [word for sentence in kept for word in sentence]
    assert reward(problem, words) == 1.0
    assert len(words) + 1 >= 40
    assert sum(free_words(words)) >= 0.6 * (len(words) + 1)


def test_solutions_vary_in_wording_order_and_sentences() -> None:
    problem = next(p for p in map(TASK.heldout_problem, itertools.count()) if len(p.data["numbers"]) == 3)
    drawn = [solution(problem, seed) for seed in range(400)]
    assert len(set(map(tuple, drawn))) == 400
    seen = {word for words in drawn for word in words}
    assert seen >= OPTIONAL
    openings = {tuple(s[0] in OPTIONAL for s in sentences(words)) for words in drawn}
    assert len(openings) > 12


@QUICK
@given(problems, seeds)
def test_the_tokenizer_reads_prompts_and_solutions_and_gives_them_back(problem: Problem, seed: int) -> None:
    words = solution(problem, seed)
    text = " ".join(words)
    ids = TOKENIZER(text)["input_ids"]
    assert TOKENIZER.unk_token_id not in ids
    assert len(ids) == len(words)
    assert TOKENIZER.decode(ids) == text
    prompt = TOKENIZER(problem.prompt)["input_ids"]
    assert TOKENIZER.decode(prompt) == problem.prompt
    assert TOKENIZER(problem.prompt + text + "<eos>")["input_ids"] == [*prompt, *ids, TOKENIZER.eos_token_id]


@QUICK
@given(st.lists(tokens, min_size=1, max_size=12).map(" ".join))
def test_any_tokens_survive_decoding_and_encoding(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


def test_no_word_is_two_tokens_and_none_occurs_twice() -> None:
    assert len(set(TASK.vocabulary.tokens)) == len(TASK.vocabulary.tokens)
    assert all(len(TOKENIZER(word)["input_ids"]) == 1 for word in WORDS)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**63))
def test_held_out_problems_are_hard_and_never_trained_on(seed: int) -> None:
    config = TaskConfig(
        name="countdown_cot", max_number=5, max_target=20, heldout=32, easy_share=0.3, seed=seed
    )
    task = CountdownCot(config)
    train = [task.train_problem(i) for i in range(task.train_size)]
    heldout = [task.heldout_problem(i) for i in range(task.heldout_size)]
    assert len({p.id for p in heldout}) == 32
    assert {p.id for p in train}.isdisjoint(p.id for p in heldout)
    assert all(len(p.data["numbers"]) == 3 for p in heldout)
    hard = [p.id for p in train if len(p.data["numbers"]) == 3]
    assert len(set(hard)) == len(hard)
    again = CountdownCot(config)
    assert train == [again.train_problem(i) for i in range(again.train_size)]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.9])
def test_easy_problems_have_their_share_in_every_stretch_of_training(share: float) -> None:
    task = CountdownCot(TaskConfig(name="countdown_cot", max_number=8, max_target=40, easy_share=share))
    easy = np.array([len(task.train_problem(i).data["numbers"]) == 2 for i in range(2 * task.train_size)])
    for start in range(0, len(easy) - 48, 48):
        assert abs(easy[start : start + 48].sum() - 48 * share) <= 2


def test_the_universe_is_every_target_that_a_derivation_without_large_or_negative_values_reaches() -> None:
    config = TaskConfig(name="countdown_cot", max_number=4, max_target=20, heldout=16, easy_share=0.5)
    task = CountdownCot(config)
    ids = {task.train_problem(i).id for i in range(task.train_size)}
    ids |= {task.heldout_problem(i).id for i in range(task.heldout_size)}
    expected = set()
    for a, b, c in itertools.product(range(1, 5), repeat=3):
        for first, second in itertools.product(OPERATORS.values(), repeat=2):
            inner = first(a, b)
            if not 0 <= inner <= 20:
                continue
            if inner >= 1:
                expected.add(f"{min(a, b)},{max(a, b)}={inner}")
            for value in (second(inner, c), second(c, inner)):
                if 1 <= value <= 20:
                    expected.add(f"{','.join(map(str, sorted((a, b, c))))}={value}")
    assert ids == expected


def test_the_run_configuration_makes_a_task_that_can_be_warm_started() -> None:
    task = make_task(RUN.task)
    assert isinstance(task, TaskWithSolutions)
    assert task.train_size > 2000
    assert task.heldout_size >= 256


def test_a_heldout_set_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ScopeError, match=r"task\.heldout=5000 .*max_number=4.*three numbers"):
        make_task(TaskConfig(name="countdown_cot", max_number=4, heldout=5000))


def test_a_share_of_easy_problems_is_refused_where_there_are_none() -> None:
    with pytest.raises(ScopeError, match=r"task\.easy_share=0\.2 is not possible.*Use task\.easy_share=0"):
        make_task(TaskConfig(name="countdown", easy_share=0.2))
