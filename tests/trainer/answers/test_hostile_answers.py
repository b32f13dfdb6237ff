r"""Answers that are meant to break the verifier, or that a broken policy writes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config.task import VerifierConfig
from trainer.tasks.answers.judge import judge
from trainer.tasks.base import Problem
from trainer.tasks.datasets.verifiers import MathVerifier
from trainer.tasks.failure import NoScore

GOLDS = [
    "5",
    r"\frac12",
    "x^2+1",
    "(1,2)",
    r"\{1,2\}",
    r"10\text{ cm}",
    r"\pi",
    "A",
    "(0,1)",
    "x=3",
    "2x+y=1",
    "0",
]
HOSTILE = [
    "9^{9^{9^{9}}}",
    "2^{2^{2^{2^{2^2}}}}",
    "e^{e^{e^{e^{10}}}}",
    "1000000!",
    r"\binom{10^6}{5\cdot10^5}",
    "(x+1)^{100000}",
    r"\sin(" * 40 + "1" + ")" * 40,
    "{" * 250 + "1" + "}" * 250,
    "(" * 200 + "1" + ")" * 200,
    "1e99999",
    "1/0",
    "0^{-1}",
    r"\infty-\infty",
    r"1 \bmod 0",
    r"\log_1 5",
    r"\sqrt[0]{2}",
    r"\tan 90^\circ",
    "x!!!!!!",
    r"\frac",
    "\\",
    "}{",
    "^",
    "$",
    "\x00",
    "\u202e7",
    "😀",
    "a" * 500,
    r"\begin{matrix}",
    r"\{x|x\}",
    "x<x",
    r"(\infty,-\infty)",
    r"\text{" * 50 + "}" * 50,
    "5 " + "km " * 100,
]


@pytest.mark.parametrize("answer", HOSTILE)
def test_a_hostile_answer_is_wrong(answer: str) -> None:
    assert {judge(gold, f"\\boxed{{{answer}}}") for gold in GOLDS} <= {"wrong", "no answer"}


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet=st.sampled_from(list("0123456789xyen+-*/^_(){}[]|,.;:=<>!% $\\~é½√π°\n")), max_size=40)
)
def test_any_notation_gets_a_verdict(text: str) -> None:
    assert judge("7919", f"\\boxed{{{text}}}") in {"correct", "wrong", "no answer"}


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_unicode_text_gets_a_verdict(text: str) -> None:
    assert judge("7919", text) in {"correct", "wrong", "no answer"}


def test_the_limit_of_a_verification_is_wall_clock_time() -> None:
    verifier = MathVerifier(VerifierConfig(timeout_seconds=2.0, workers=1))
    problem = Problem("0", "p", {"answer": "0", "text": "p"})
    verifier.verify(problem, "\\boxed{0}")
    started = time.monotonic()
    endless = r"\boxed{\prod_{k=1}^{100000} (k^2+1)}"
    with pytest.raises(NoScore, match="too slow"):
        verifier.verify(problem, endless)
    assert time.monotonic() - started < 4.0
