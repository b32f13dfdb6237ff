"""The policy for responses without a score: of every task, its turns and replies, and over whole in-process steps."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.generation.tiny import tiny_config
from trainer.config import RunConfig, TaskConfig
from trainer.config.task import MixturePart, VerifierConfig
from trainer.errors import ScopeError
from trainer.in_process.run import InProcessRun
from trainer.prompts.codec import PromptCodec
from trainer.roles import MOST_COMPONENTS
from trainer.rollouts.multi_turn import Dialogue
from trainer.rollouts.trajectory import VersionSpan
from trainer.starting_model.tiny_model import build_tokenizer
from trainer.tasks import Problem, Verdict, Vocabulary, make_task
from trainer.tasks.failure import ABSTAINS, LONGEST_CAUSE, NoScore
from trainer.tasks.mixture import Mixture
from trainer.tasks.verification import Verification

PROBLEM = Problem("p", "prompt", {})


class Mine:
    """A task of one's own whose verifier does what it is told, and which may reply."""

    name, train_size, heldout_size = "mine", 20, 16

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act

    def train_problem(self, i: int) -> Problem:
        return PROBLEM

    def heldout_problem(self, i: int) -> Problem:
        return PROBLEM

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        return self._act()


class Talking(Mine):
    """Its replies do what they are told."""

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | None:
        return self._act()

    def verify_turns(self, problem: Problem, turns: Sequence[str]) -> Verdict:
        return self._act()


def raising(error: BaseException) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


FAILURES: dict[str, tuple[Callable[[], Any], str]] = {
    "error": (raising(ValueError("no\nnumber")), "ValueError: no ("),
    "exit": (raising(SystemExit(2)), "SystemExit: 2"),
    "recursion": (raising(RecursionError()), "RecursionError"),
    "memory": (raising(MemoryError()), "MemoryError"),
    "stop": (raising(StopIteration()), "StopIteration"),
    "index": (raising(IndexError()), "IndexError"),
    "surrogate": (raising(KeyError("\ud800")), "KeyError"),
    "long": (raising(ValueError("x" * 10_000)), "ValueError: xxx"),
    "of the project": (raising(NoScore("too slow")), "too slow"),
    "number": (lambda: 1.0, "not a Verdict: the task gives float"),
    "nothing": (lambda: None, "not a Verdict: the task gives NoneType"),
    "nan": (lambda: Verdict(math.nan, {}, ""), "invalid reward: it must be a finite number, not nan"),
    "inf": (lambda: Verdict(math.inf, {}, ""), "invalid reward: it must be a finite number, not inf"),
    "text": (lambda: Verdict("1", {}, ""), "invalid reward: it must be a number, not str"),  # pyright: ignore[reportArgumentType]
    "components": (lambda: Verdict(1.0, None, ""), "AttributeError"),  # pyright: ignore[reportArgumentType]
}


def under(policy: str, task: Mine) -> Verification:
    return Verification(task, TaskConfig(verifier=VerifierConfig.model_validate({"on_failure": policy})))


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("kind", [Mine, Talking])
def test_a_verifier_that_fails_gives_no_score_reward_0_or_the_end_as_configured(
    kind: type[Mine], name: str
) -> None:
    act, cause = FAILURES[name]
    left_out = under("left_out", kind(act)).verify_turns(PROBLEM, ("a", "b"))
    assert left_out.unscored is not None
    assert left_out.unscored.startswith(cause)
    assert (left_out.reward, left_out.components, left_out.verdict) == (0.0, {}, left_out.unscored)
    assert len(left_out.unscored) <= LONGEST_CAUSE
    left_out.unscored.encode()
    zero = under("zero", kind(act)).verify_turns(PROBLEM, ("a", "b"))
    assert zero == Verdict(0.0, {}, left_out.unscored)
    with pytest.raises(ScopeError, match=r"no score for a response to problem 'p': .*on_failure='end'"):
        under("end", kind(act)).verify_turns(PROBLEM, ("a", "b"))


@pytest.mark.parametrize("policy", ["left_out", "zero", "end"])
def test_a_verifier_that_abstains_is_never_a_failure(policy: str) -> None:
    for act in (raising(NoScore(ABSTAINS, abstains=True)), lambda: Verdict(0.0, {}, "", unscored=ABSTAINS)):
        assert under(policy, Mine(act)).verify(PROBLEM, "").unscored == ABSTAINS


@pytest.mark.parametrize("policy", ["left_out", "zero", "end"])
def test_an_error_that_people_can_mend_ends_the_run(policy: str) -> None:
    with pytest.raises(ScopeError, match="mend me"):
        under(policy, Mine(raising(ScopeError("mend me")))).verify(PROBLEM, "")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Verdict(np.float32(0.5), {"a": np.int64(1)}, "half"), Verdict(0.5, {"a": 1.0}, "half")),  # pyright: ignore[reportArgumentType]
        (Verdict(True, {"a": math.nan, "b": 0.5}, "b"), Verdict(1.0, {"b": 0.5}, "b")),
        (Verdict(3.0, {"a": -1.0}, "x" * 999), Verdict(1.0, {"a": 0.0}, "x" * 119 + "…")),
        (Verdict(-1.0, {}, "two\nlines \ud800"), Verdict(0.0, {}, "two lines ?")),
    ],
)
def test_a_verdict_is_finite_in_range_and_short(found: Verdict, expected: Verdict) -> None:
    assert under("end", Mine(lambda: found)).verify(PROBLEM, "") == expected


def test_a_verdict_keeps_as_many_components_as_a_rollout_carries() -> None:
    many = Verdict(1.0, {str(i): 1.0 for i in range(100)}, "")
    assert len(under("end", Mine(lambda: many)).verify(PROBLEM, "").components) == MOST_COMPONENTS


TOKENIZER = build_tokenizer(Vocabulary(tuple("0123456789"), split="characters"), 64)


@pytest.mark.parametrize("name", ["error", "exit", "number", "recursion"])
def test_an_environment_that_does_not_reply_ends_the_rollout_without_a_score(name: str) -> None:
    act, _ = FAILURES[name]
    for policy, unscored in (("left_out", True), ("zero", False)):
        config = tiny_config(task={"verifier": {"on_failure": policy}})
        dialogue = Dialogue(Talking(act), PROBLEM, PromptCodec(TOKENIZER, config), config)
        dialogue.add_turn(TOKENIZER.encode("3<eos>"), [-0.5, -0.1], [VersionSpan(0, 0, 0)], stopped=True)
        assert dialogue.finish == "stop"
        assert dialogue.verdict is not None
        assert (dialogue.verdict.unscored is not None) == unscored
    config = tiny_config(task={"verifier": {"on_failure": "end"}})
    ending = Dialogue(Talking(act), PROBLEM, PromptCodec(TOKENIZER, config), config)
    with pytest.raises(ScopeError, match="on_failure='end'"):
        ending.add_turn(TOKENIZER.encode("3<eos>"), [-0.5, -0.1], [VersionSpan(0, 0, 0)], stopped=True)


def test_each_part_of_a_mixture_has_its_own_policy() -> None:
    policies = ("left_out", "zero", "end")
    parts = tuple(
        MixturePart(verifier=VerifierConfig.model_validate({"on_failure": policy})) for policy in policies
    )
    task = Mixture([Mine(raising(ValueError())) for _ in parts], [1.0] * 3)
    verification = Verification(task, TaskConfig(name="mixture", mixture=parts))
    left_out, zero, end = (task.part_problem(part, 0) for part in range(3))
    assert verification.verify(left_out, "").unscored is not None
    assert verification.verify(zero, "").unscored is None
    with pytest.raises(ScopeError, match="on_failure='end'"):
        verification.verify(end, "")
    mild = tuple(part for part in parts if part.verifier.on_failure == "left_out") * 3
    notes = Verification(task, TaskConfig(name="mixture", mixture=mild)).trial()
    assert [note.partition(":")[0] for note in notes] == [f"part {i} of task.mixture" for i in range(3)]


def test_the_trial_before_a_run_names_the_cause_and_is_silent_where_the_verifier_works() -> None:
    for policy in ("left_out", "zero"):
        (note,) = under(policy, Mine(raising(ValueError("why")))).trial()
        assert "gives no score to a trial response: ValueError: why" in note
    with pytest.raises(ScopeError, match="on_failure='end'"):
        under("end", Mine(raising(ValueError("why")))).trial()
    assert under("left_out", Mine(lambda: Verdict(0.0, {}, "wrong"))).trial() == []
    assert under("left_out", Mine(raising(NoScore(ABSTAINS, abstains=True)))).trial() == []


@pytest.fixture(scope="module")
def mathematics(tmp_path_factory: pytest.TempPathFactory) -> Verification:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps({"problem": f"Say {i}", "answer": "7"}) + "\n" for i in range(20)))
    config = TaskConfig.model_validate(
        {"name": "dataset", "heldout": 16, "dataset": {"train": str(path)}, "verifier": {"on_failure": "end"}}
    )
    return Verification(make_task(config), config)


@given(st.text(max_size=60) | st.text(st.sampled_from("\\{}frac^_0123456789.,+-*/()[]boxed $%"), max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_in_a_box_has_a_verdict(mathematics: Verification, text: str) -> None:
    problem = Problem("p", "", {"answer": "7"})
    verdict = mathematics.verify(problem, f"\\boxed{{{text}}}")
    assert verdict.verdict in ("correct", "wrong", "no answer")


FAILING = """
from trainer.tasks import Verdict
from trainer.tasks.countdown.task import Countdown

class Failing(Countdown):
    share = {share}
    calls = 0

    def verify(self, problem, response_text):
        type(self).calls += 1
        if type(self).calls % 10 < 10 * self.share:
            raise RuntimeError("the verifier is down")
        return super().verify(problem, response_text)
"""


def failing_run(tmp_path: Path, tiny_model_dir: Path, share: float) -> InProcessRun:
    name = f"failing_{round(share * 10)}"
    (tmp_path / f"{name}.py").write_text(FAILING.format(share=share))
    task: dict[str, object] = {"name": f"{name}:Failing", "folder": str(tmp_path)}
    config: RunConfig = tiny_config(task=task, rollout={"refills": 1})
    return InProcessRun(config, tiny_model_dir)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_steps_with_few_scores_and_without_any_are_learned_and_counted(
    tmp_path: Path, tiny_model_dir: Path, share: float
) -> None:
    training = failing_run(tmp_path, tiny_model_dir, share)
    first, second = (step for _, step in zip(range(2), training.steps(), strict=False))
    rollouts = 6 * (4 + 3)
    for step in (first, second):
        assert math.isfinite(step.gradient_norm)
        assert 0 < step.unscored_rollouts <= rollouts
        # Every rollout that ended: a truncated one scores 0 without the verifier.
        assert (step.reward == 0) >= (share == 1)
    found = training.evaluate(2, samples=2)
    assert 0 < found.unscored <= 8 * 2 - sum(found.correct)
