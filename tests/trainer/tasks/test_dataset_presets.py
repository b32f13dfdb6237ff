"""Every preset on rows with the published columns: problem, answer, and a correct and a wrong response."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainer.config import TaskConfig
from trainer.config.task import DatasetConfig
from trainer.tasks import make_task
from trainer.tasks.answers.judge import judge
from trainer.tasks.datasets.presets import PRESETS
from trainer.tasks.datasets.task import Benchmark

BEFORE = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
AFTER = '\n\nRemember to put your answer on its own line after "Answer:".'


def dapo(index: str, problem: str, answer: str) -> dict[str, Any]:
    return {
        "data_source": "math_dapo",
        "prompt": [{"content": BEFORE + problem + AFTER, "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": answer, "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": index},
    }


def gsm8k(question: str, steps: str, answer: str) -> dict[str, Any]:
    return {"question": question, "answer": f"{steps}\n#### {answer}"}


def math500(problem: str, answer: str, number: int) -> dict[str, Any]:
    return {
        "problem": problem,
        "solution": f"It is $\\boxed{{{answer}}}$.",
        "answer": answer,
        "subject": "Algebra",
        "level": 2,
        "unique_id": f"test/algebra/{number}.json",
    }


def olympiad(number: int, question: str, answers: str, *, several: bool = False) -> dict[str, Any]:
    return {
        "id": number,
        "question": question,
        "solution": ["It is so."],
        "final_answer": [answers],
        "context": None,
        "image_1": None,
        "modality": "Text-only",
        "difficulty": "Competition",
        "is_multiple_answer": several,
        "unit": None,
        "answer_type": "Numerical",
        "error": None,
        "question_type": "Open-ended",
        "subfield": "Algebra",
        "subject": "Math",
        "language": "English",
    }


SUMS = [gsm8k("Ann has 3 pens and buys 4.", "3+4=<<3+4=7>>7", "7"), gsm8k("500 twice?", "2*500", "1,000")]
ROWS: dict[str, list[dict[str, Any]]] = {
    "dapo-math-17k": [
        dapo("a-0", "Find $x$ with $x + 3 = 37$.", "34"),
        dapo("a-1", "How many primes lie below $10$?", "4"),
        dapo("b-0", "Find $x$ with $x + 3 = 37$.", "34"),
    ],
    "gsm8k": SUMS,
    "gsm8k-test": SUMS,
    "math-500": [math500("Halve $1$.", "\\frac{1}{2}", 1), math500("Solve $x^2<1$.", "(-1,1)", 2)],
    "aime24": [
        {
            "id": 60,
            "problem": "Find $n$.",
            "solution": "…",
            "answer": "073",
            "url": "https://x",
            "year": "2024",
        },
        {
            "id": 61,
            "problem": "Find $m$.",
            "solution": "…",
            "answer": "204",
            "url": "https://x",
            "year": "2024",
        },
    ],
    "aime25": [
        {"problem": "Find $n$.", "answer": "70", "id": "0"},
        {"problem": "Find $k$.", "answer": "588", "id": "1"},
    ],
    "amc23": [
        {"id": 0, "question": "How many miles?", "answer": 27.0, "url": "https://x"},
        {"id": 1, "question": "How much?", "answer": 0.5, "url": "https://x"},
    ],
    "minerva": [
        {"question": "What energy, in eV?", "answer": "13.6"},
        {"question": "Write the field.", "answer": "2 \\pi r"},
    ],
    "olympiadbench": [
        olympiad(1, "Find $n$.", "$2^{10}$"),
        olympiad(2, "Find all $x$ with $x^2=81$.", "$9,-9$", several=True),
        olympiad(3, "Find all triples.", "$(1,8,19), (2,7,13)$", several=True),
    ],
}
CASES = [
    ("dapo-math-17k", 0, "Find $x$ with $x + 3 = 37$.", r"\boxed{34}", r"\boxed{37}"),
    ("dapo-math-17k", 1, "How many primes lie below $10$?", r"\boxed{4}", "Answer: 4"),
    ("gsm8k", 0, "Ann has 3 pens and buys 4.", r"\boxed{7}", r"\boxed{12}"),
    ("gsm8k-test", 1, "500 twice?", r"\boxed{1000}", r"\boxed{500}"),
    ("math-500", 0, "Halve $1$.", r"\boxed{0.5}", r"\boxed{2}"),
    ("math-500", 1, "Solve $x^2<1$.", r"\boxed{\left(-1,1\right)}", r"\boxed{[-1,1]}"),
    ("aime24", 0, "Find $n$.", r"\boxed{73}", r"\boxed{730}"),
    ("aime25", 1, "Find $k$.", r"\boxed{588}", r"\boxed{587}"),
    ("amc23", 0, "How many miles?", r"\boxed{27}", r"\boxed{2.7}"),
    ("amc23", 1, "How much?", r"\boxed{\frac12}", r"\boxed{5}"),
    ("minerva", 0, "What energy, in eV?", r"\boxed{13.6}", r"\boxed{1.36}"),
    ("minerva", 1, "Write the field.", r"\boxed{2\pi r}", r"\boxed{\pi r^2}"),
    ("olympiadbench", 0, "Find $n$.", r"\boxed{1024}", r"\boxed{20}"),
    ("olympiadbench", 1, "Find all $x$ with $x^2=81$.", r"\boxed{-9, 9}", r"\boxed{9}"),
    ("olympiadbench", 2, "Find all triples.", r"\boxed{(2,7,13),(1,8,19)}", r"\boxed{(1,8,19)}"),
]


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every preset reads its rows from a file instead of the hub."""
    for name, source in list(PRESETS.items()):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]))
        monkeypatch.setitem(PRESETS, name, replace(source, path=str(path)))


def benchmark(name: str) -> Benchmark:
    config = TaskConfig(name="dataset", dataset=DatasetConfig(train=name))
    return Benchmark(name, config, "--tasks")


def test_every_preset_has_rows_and_cases() -> None:
    assert set(PRESETS) == set(ROWS) == {case[0] for case in CASES}


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(("name", "number", "problem", "right", "wrong"), CASES)
def test_a_preset_reads_problem_and_answer(
    name: str, number: int, problem: str, right: str, wrong: str
) -> None:
    found = benchmark(name).heldout_problem(number)
    assert found.data["text"] == problem
    assert found.prompt == problem + DatasetConfig().instruction
    answer = found.data["answer"]
    assert judge(answer, right) == "correct"
    assert judge(answer, wrong) != "correct"


@pytest.mark.usefixtures("stored")
def test_the_wrapper_of_dapo_hides_no_held_out_problem_and_repeated_rows_are_one(
    tmp_path: Path,
) -> None:
    assert benchmark("dapo-math-17k").heldout_size == 2
    heldout = tmp_path / "heldout.jsonl"
    heldout.write_text(json.dumps({"problem": r"find \(x\) with \(x+3=37\).", "answer": "34"}) + "\n")
    task = make_task(
        TaskConfig(name="dataset", dataset=DatasetConfig(train="dapo-math-17k", heldout=str(heldout)))
    )
    assert task.train_size == 1
    problem = task.train_problem(0)
    assert problem.data["text"] == "How many primes lie below $10$?"
    assert problem.data["source"] == "math_dapo"
    assert "Answer:" not in problem.prompt


@pytest.mark.usefixtures("stored")
def test_what_a_preset_is_called_stands_for_a_data_source_that_it_has_not() -> None:
    assert benchmark("gsm8k-test").heldout_problem(0).data["source"] == "gsm8k-test"
