"""Multi-turn rollouts: bounds, masks and spans of a dialogue, the worked examples, and training in one process."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from services.checks.preflight import preflight_learning
from tests.support.generation.tiny import LearnerView, tiny_config
from tests.support.generation.word_model import make_model
from trainer.config import RunConfig
from trainer.config.load import default_config
from trainer.errors import ScopeError
from trainer.in_process.run import InProcessRun
from trainer.loss.objective import LossInputs, scope_loss
from trainer.prompts.codec import PromptCodec
from trainer.rollouts.multi_turn import Dialogue
from trainer.rollouts.trajectory import VersionSpan, encode_group
from trainer.starting_model.tiny_model import build_tokenizer
from trainer.tasks import Environment, Vocabulary, make_task
from trainer.tasks.calculator import Calculator, compute
from trainer.tasks.number_guess import NumberGuess

TOKENIZER = build_tokenizer(Vocabulary(tuple(string.printable), split="characters"), 512)
EOS: int = TOKENIZER.eos_token_id  # pyright: ignore[reportAssignmentType]


def guessing(*overrides: str) -> tuple[NumberGuess, RunConfig]:
    config = default_config(
        [
            "task.name=number_guess",
            "task.heldout=16",
            "model.max_length=512",
            "rollout.max_new_tokens=120",
            *overrides,
        ]
    )
    task = make_task(config.task)
    assert isinstance(task, NumberGuess)
    return task, config


def calculating(*overrides: str) -> tuple[Calculator, RunConfig]:
    config = default_config(
        ["task.name=calculator", "model.max_length=512", "rollout.max_new_tokens=120", *overrides]
    )
    task = make_task(config.task)
    assert isinstance(task, Calculator)
    return task, config


def say(
    dialogue: Dialogue, text: str, spans: list[VersionSpan] | None = None, *, stopped: bool = True
) -> None:
    tokens = [*TOKENIZER.encode(text), *([EOS] if stopped else [])]
    dialogue.add_turn(tokens, [-0.5] * len(tokens), spans or [VersionSpan(0, 0, 0)], stopped=stopped)


@given(st.integers(5, 40), st.data())
def test_bisection_finds_every_number_within_the_turns(most: int, data: st.DataObject) -> None:
    task, _ = guessing(f"task.max_number={most}", "task.heldout=16")
    problem = task.train_problem(data.draw(st.integers(0, task.train_size - 1)))
    low, high, turns = problem.data["low"], problem.data["high"], []
    assert 1 <= low < high <= most
    assert f"{low} " in problem.prompt
    while True:
        turns.append(f"It is {(low + high) // 2}.")
        answer = task.reply(problem, turns)
        if answer is None:
            break
        middle = (low + high) // 2
        low, high = (middle + 1, high) if answer == "higher\n" else (low, middle - 1)
    assert task.verify_turns(problem, turns).reward == 1
    assert isinstance(task, Environment)


@pytest.mark.parametrize(
    "text",
    ["", "٣", "9" * 5000, "no", "-3", "1e3"],
    ids=["empty", "arabic", "long", "word", "negative", "exponent"],
)
def test_any_text_gets_an_answer_and_a_verdict(text: str) -> None:
    task, _ = guessing()
    problem = task.train_problem(0)
    assert task.reply(problem, [text]) in ("That is no number.\n", "higher\n", "lower\n", None)
    assert task.verify_turns(problem, [text]).reward in (0.0, 1.0)


def test_tokens_of_the_environment_are_masked_and_spans_count_from_the_response() -> None:
    task, config = guessing()
    problem = next(
        p for p in map(task.train_problem, range(64)) if p.data["number"] > 7 and p.data["turns"] > 2
    )
    dialogue = Dialogue(task, problem, PromptCodec(TOKENIZER, config), config)
    say(dialogue, "7", [VersionSpan(0, 1, 4)])
    assert dialogue.finish is None
    heard = len(TOKENIZER.encode("higher\n"))
    assert dialogue.mask == [1, 1] + [0] * heard
    number = str(problem.data["number"])
    say(dialogue, f"x{number}", [VersionSpan(0, 1, 4), VersionSpan(1, 1, 5)])
    assert dialogue.finish == "stop"
    tokens, logprobs, mask = dialogue.arrays()
    assert TOKENIZER.decode(tokens) == f"7<eos>higher\nx{number}<eos>"
    assert mask.tolist() == [1, 1] + [0] * heard + [1] * (len(number) + 2)
    assert logprobs.tolist() == [-0.5 if counted else 0.0 for counted in mask]
    assert dialogue.spans == [VersionSpan(0, 1, 4), VersionSpan(2 + heard + 1, 1, 5)]
    assert dialogue.turns == ["7", f"x{number}"]


@pytest.mark.parametrize(
    ("overrides", "turns", "finish"),
    [
        (["rollout.max_turns=2"], 2, "stop"),
        (["rollout.max_new_tokens=25"], 2, "length"),
        ([], 5, "stop"),
    ],
    ids=["turns of the configuration", "tokens", "turns of the task"],
)
def test_a_dialogue_ends_at_its_bounds(overrides: list[str], turns: int, finish: str) -> None:
    task, config = guessing(*overrides)
    problem = next(p for p in map(task.train_problem, range(64)) if p.data["turns"] == 5)
    dialogue = Dialogue(task, problem, PromptCodec(TOKENIZER, config), config)
    while dialogue.finish is None:
        assert dialogue.tokens_left > 0
        say(dialogue, "no")
    assert (len(dialogue.turns), dialogue.finish) == (turns, finish)
    assert len(dialogue.tokens) <= config.rollout.max_new_tokens
    assert dialogue.mask[-1] == 1, "the response ends with an environment token"


def test_the_tool_gives_what_the_answer_needs_and_its_tokens_are_masked() -> None:
    task, config = calculating()
    for problem in map(task.train_problem, range(64)):
        value = problem.data["value"]
        dialogue = Dialogue(task, problem, PromptCodec(TOKENIZER, config), config)
        said, heard = f"<calc>{problem.id}</calc>", f"<result>{value}</result>\n"
        say(dialogue, said)
        assert dialogue.finish is None
        say(dialogue, f"It is {value}.")
        assert dialogue.finish == "stop"
        tokens, logprobs, mask = dialogue.arrays()
        assert TOKENIZER.decode(tokens) == f"{said}<eos>{heard}It is {value}.<eos>"
        own = [1] * (len(said) + 1) + [0] * len(heard) + [1] * len(f"It is {value}..")
        assert mask.tolist() == own
        assert logprobs.tolist() == [-0.5 if counted else 0.0 for counted in own]
        verdict = task.verify_turns(problem, dialogue.turns)
        assert (verdict.reward, verdict.verdict, verdict.components) == (1.0, "correct", {"tool": 1.0})
        assert task.final_answer(problem, dialogue.turns[-1]) == str(value)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2*(3+4)", 14),
        (" 12 * 3 - 40 ", -4),
        ("9" * 31 + "*" + "9" * 32, (10**31 - 1) * (10**32 - 1)),
        ("9" * 65, None),
        ("(" * 64, None),
        ("2**9", None),
        ("1 2", None),
        ("-3", None),
        ("٣+1", None),
        ("__import__('os')", None),
        ("1/0", None),
        ("", None),
    ],
)
def test_the_tool_reads_short_arithmetic_and_nothing_else(expression: str, value: int | None) -> None:
    assert compute(expression) == value
    task, _ = calculating()
    shown = "cannot be read" if value is None else value
    assert task.reply(task.train_problem(0), [f"<calc>1+1</calc> or <calc>{expression}</calc>"]) == (
        f"<result>{shown}</result>\n"
    )


@pytest.mark.parametrize(
    ("turns", "reward", "word"),
    [
        (["{value}"], 1.0, "correct"),
        (["<calc>2+2</calc>", "4, no, {value}."], 1.0, "correct"),
        (["<calc>2+2</calc>", "{value}, no, 4."], 0.0, "wrong"),
        (["<calc>{value}</calc>"], 0.0, "no answer"),
        (["<result>{value}</result> so"], 1.0, "correct"),
        (["{value}0"], 0.0, "wrong"),
        (["no number"], 0.0, "no answer"),
        ([""], 0.0, "no answer"),
        (["9" * 5000], 0.0, "no answer"),
    ],
)
def test_the_last_number_of_a_turn_without_a_call_is_the_answer(
    turns: list[str], reward: float, word: str
) -> None:
    task, _ = calculating()
    problem = task.train_problem(0)
    verdict = task.verify_turns(problem, [turn.format(value=problem.data["value"]) for turn in turns])
    assert (verdict.reward, verdict.verdict) == (reward, word)


@pytest.mark.parametrize("name", ["number_guess", "calculator"])
def test_an_environment_has_held_out_problems_with_the_defaults_and_says_how_many_it_can_have(
    name: str,
) -> None:
    config = default_config([f"task.name={name}"]).task
    task = make_task(config)
    assert task.heldout_size == config.heldout
    held_out = {task.heldout_problem(i).id for i in range(task.heldout_size)}
    assert len(held_out) == config.heldout
    trained = {task.train_problem(i).id for i in range(task.train_size)}
    assert len(trained) == task.train_size
    assert not held_out & trained
    size = len(held_out | trained)
    with pytest.raises(
        ScopeError, match=rf"task\.heldout={size} must be below {size}.*from 16 to {size - 1}"
    ):
        make_task(config.model_copy(update={"heldout": size}))


def test_a_turn_that_is_cut_off_ends_the_dialogue() -> None:
    task, config = guessing()
    dialogue = Dialogue(task, task.train_problem(0), PromptCodec(TOKENIZER, config), config)
    say(dialogue, "1 2 3", stopped=False)
    assert (dialogue.finish, dialogue.turns) == ("length", [])


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), string.printable)


@pytest.fixture(scope="module")
def tool_user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained to ask for 3+4, whatever the problem, and to answer with the result."""
    folder = make_model(tmp_path_factory.mktemp("tool-user"), string.printable)
    model, (task, config) = AutoModelForCausalLM.from_pretrained(folder), calculating()
    call, answer = [*TOKENIZER.encode("<calc>3+4</calc>"), EOS], [*TOKENIZER.encode("7"), EOS]
    heard = PromptCodec(TOKENIZER, config).encode_reply(task.train_problem(0), "<result>7</result>\n", EOS)
    own = torch.tensor([True] * len(call) + [False] * len(heard) + [True] * len(answer))
    prompts: dict[int, list[list[int]]] = {}
    for problem in map(task.train_problem, range(256)):
        prompt = TOKENIZER.encode(problem.prompt)
        prompts.setdefault(len(prompt), []).append(prompt)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(100):
        length, same = sorted(prompts.items())[step % len(prompts)]
        ids = torch.tensor([[*prompt, *call, *heard, *answer] for prompt in same[:8]])
        logits = model(input_ids=ids).logits[:, length - 1 : -1][:, own]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, length:][:, own].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder


HEARD = {
    "number_guess": r"((higher|lower|That is no number\.)\n)+",
    "calculator": r"(<result>(-?[0-9]+|cannot be read)</result>\n)+",
}


@pytest.mark.parametrize("name", HEARD)
def test_an_environment_trains_in_one_process_and_is_evaluated(
    name: str, model_dir: Path, tool_user: Path
) -> None:
    model_dir = tool_user if name == "calculator" else model_dir
    blocks: dict[str, Any] = {
        "task": {"name": name, "max_number": 20, "max_target": 99, "heldout": 16},
        "model": {"path": str(model_dir), "max_length": 512},
        "rollout": {"prompts_per_step": 4, "base_samples": 4, "adaptive_samples": 2, "max_new_tokens": 120},
    }
    config = tiny_config(**blocks)
    training, view = InProcessRun(config, model_dir), LearnerView(model_dir)
    groups, sampled = training._rollouts.groups(0, 0, "base", 1.0, None)
    trajectories = [t for group in groups for t in group.trajectories]
    assert sampled == sum(int(t.mask.sum()) for t in trajectories)
    heard = [str(TOKENIZER.decode(t.tokens[t.mask == 0])) for t in trajectories if not t.mask.all()]
    assert heard, "no rollout has a second turn"
    assert all(re.fullmatch(HEARD[name], text) for text in heard)
    for group in groups:
        encode_group(group, size_cap=1 << 24)
        expected = view.logprobs(group.prompt.tolist(), [t.tokens for t in group.trajectories], 1.0)
        for trajectory, of in zip(group.trajectories, expected, strict=True):
            counted = trajectory.mask == 1
            np.testing.assert_allclose(trajectory.logprobs[counted], of[counted], atol=1e-3)
    for _, step in zip(range(2), training.steps(), strict=False):
        assert np.isfinite(step.entropy)
        assert step.gradient_norm >= 0
    assert len(training.evaluate(2, samples=2).correct) == 8


def test_no_token_of_the_environment_has_a_gradient() -> None:
    """The loss does not depend on the log-probabilities of masked tokens, whatever the advantage."""
    logprobs = torch.tensor([[-1.0, -2.0, -3.0]], requires_grad=True)
    mask = torch.tensor([[1.0, 0.0, 1.0]])
    ones = torch.ones(1)
    inputs = LossInputs(
        logprobs, logprobs.detach(), logprobs.detach() * mask, mask, torch.ones(1, 3), ones, 0 * ones
    )
    loss = scope_loss(inputs, alpha=0.0, clip_low=0.2, clip_high=0.2, tis_cap=2.0).loss
    (gradient,) = torch.autograd.grad(loss, logprobs)
    assert gradient[0, 1] == 0
    assert (gradient[0, [0, 2]] != 0).all()


def test_a_strict_run_refuses_an_environment() -> None:
    _, config = guessing("determinism.strict=true", "pipeline.max_staleness=0", "evaluation.problems=8")
    with pytest.raises(ScopeError, match="several turns"):
        preflight_learning(config)
