"""Prompts before a run starts: every fault of the real problems is named by preflight, and by `scope doctor`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.checks.doctor import examine
from services.checks.preflight import preflight_learning
from services.checks.prompts import check_prompts
from tests.support.chat_models import Kind, write_chat_model, write_chat_tokenizer
from tests.support.ports import free_ports
from trainer.config import RunConfig
from trainer.config.load import default_config
from trainer.errors import ScopeError
from trainer.tasks import Message, Problem, Verdict
from trainer.tasks.mixture import Mixture
from trainer.tasks.split import Split


class Rows(Split):
    """A task with these training problems, and 16 held-out ones."""

    name = "rows"

    def __init__(self, training: Sequence[Problem], heldout: Sequence[Problem] | None = None) -> None:
        super().__init__(training, heldout or [Problem(f"h{i}", "held out", {}) for i in range(16)])

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        return Verdict(1.0, {}, "correct")


class Talks(Rows):
    """The same as an environment."""

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | None:
        return "go on"

    def verify_turns(self, problem: Problem, turns: Sequence[str]) -> Verdict:
        return Verdict(1.0, {}, "correct")


FINE = [Problem(f"t{i}", f"question {i}", {}) for i in range(20)]
LONG = [Problem(f"l{i}", "x" * 500, {}) for i in range(3)]
SYSTEM = Problem("s", "hi", {}, (Message("system", "rules"), Message("user", "hi")))
TWICE = Problem("u", "hi", {}, (Message("user", "hi"), Message("user", "hi")))


def config(*settings: str) -> RunConfig:
    return default_config(
        ["model.max_length=500", "rollout.max_new_tokens=100", "evaluation.problems=16", *settings]
    )


def test_what_is_left_out_is_counted_by_reason_with_the_first_problem(tmp_path: Path) -> None:
    write_chat_tokenizer(tmp_path, "gemma")
    (note,) = check_prompts(Rows([*FINE, *LONG, SYSTEM, TWICE]), config(), tmp_path)
    assert note.startswith("5 of 25 training problems cannot be prompts (3 as problem 'l0': it has 5")
    assert (
        "1 as problem 's': the chat template cannot render a conversation of system, user: System role"
        in note
    )
    assert "1 as problem 'u': the chat template cannot render a conversation of user, user: " in note
    assert note.endswith("; they are left out")


@pytest.mark.parametrize(
    ("problems", "words"),
    [
        (LONG, r"3 of 23 training problems cannot be prompts \(3 as problem 'l0': it has 5"),
        (
            [SYSTEM],
            r"1 of 21 training problems .*problem 's': .*System role not supported: set model\.system_role",
        ),
    ],
    ids=["too long", "system role"],
)
def test_they_can_be_refused(tmp_path: Path, problems: list[Problem], words: str) -> None:
    write_chat_tokenizer(tmp_path, "gemma")
    with pytest.raises(ScopeError, match=words + r".*set task\.unusable_prompts=left_out"):
        check_prompts(Rows([*FINE, *problems]), config("task.unusable_prompts=refuse"), tmp_path)


def test_a_task_without_usable_problems_is_refused_with_what_to_set(tmp_path: Path) -> None:
    write_chat_tokenizer(tmp_path, "gemma")
    with pytest.raises(
        ScopeError, match=r"20 of 20 training .* System role not supported: set model\.system_role"
    ):
        check_prompts(Rows(FINE), config("model.system_prompt=be brief"), tmp_path)
    assert (
        check_prompts(Rows(FINE), config("model.system_prompt=be brief", "model.system_role=user"), tmp_path)
        == []
    )


def test_a_part_of_a_mixture_without_usable_problems_is_named(tmp_path: Path) -> None:
    write_chat_tokenizer(tmp_path, "chatml")
    mixture = Mixture([Rows(FINE), Rows(LONG)], [9.0, 1.0])
    with pytest.raises(ScopeError, match=r"3 of 3 training problems of part 1 of task\.mixture"):
        check_prompts(mixture, config(), tmp_path)


def test_too_few_held_out_problems_are_refused(tmp_path: Path) -> None:
    write_chat_tokenizer(tmp_path, "chatml")
    task = Rows(FINE, [*FINE[:14], *LONG])
    with pytest.raises(ScopeError, match=r"evaluation\.problems=16 must be at most 14"):
        check_prompts(task, config(), tmp_path)
    (note,) = check_prompts(task, config("evaluation.problems=14"), tmp_path)
    assert note.startswith("3 of 17 held-out problems")


@pytest.mark.parametrize("kind", ["rewrites_history", "ends_in_eos"])
def test_a_template_that_changes_history_is_refused_for_environments_only(tmp_path: Path, kind: Kind) -> None:
    write_chat_tokenizer(tmp_path, kind)
    check_prompts(Rows(FINE), config(), tmp_path)
    with pytest.raises(ScopeError, match=r"the chat template (changes earlier turns|leaves out)"):
        check_prompts(Talks(FINE), config(), tmp_path)


@pytest.mark.parametrize(
    "kind", ["chatml", "chatml_base", "gemma", "llama", "strips", "no_pad", "appends_eos"]
)
def test_a_usual_tokenizer_can_talk(tmp_path: Path, kind: Kind) -> None:
    write_chat_tokenizer(tmp_path, kind)
    notes = check_prompts(Talks(FINE), config(), tmp_path)
    assert len(notes) == (kind == "appends_eos")


def test_the_built_in_model_has_no_conversations() -> None:
    with pytest.raises(ScopeError, match=r"needs a chat template.*without model\.system_prompt"):
        preflight_learning(default_config(["model.system_prompt=be brief"]))


@pytest.mark.parametrize(
    ("kind", "settings", "level", "words"),
    [
        ("chatml", (), "ok", "every prompt can be used"),
        (
            "gemma",
            ("model.system_prompt=rules",),
            "error",
            "System role not supported: set model.system_role=user",
        ),
        ("needs_tools", (), "error", "may need tools or other variables"),
        (
            "drops_system",
            ("model.system_prompt=rules",),
            "error",
            "leaves out or changes the text of a system",
        ),
        ("appends_eos", ("model.system_prompt=rules",), "error", "needs a chat template"),
        ("appends_eos", (), "warning", "ends every text with the end token '</s>'"),
        ("no_bos", (), "warning", "the chat template does not write it"),
        ("two_bos", (), "warning", "twice"),
        ("ends_in_eos", (), "warning", "does not begin the assistant's turn"),
        ("dated", (), "warning", "the day's date"),
        ("chatml", ("rollout.max_new_tokens=420",), "warning", "cannot be prompts (1 as problem "),
        (
            "chatml",
            ("rollout.max_new_tokens=420", "task.unusable_prompts=refuse"),
            "error",
            "raise model.max_length",
        ),
    ],
)
def test_the_doctor_names_it(
    tmp_path: Path, kind: Kind, settings: tuple[str, ...], level: str, words: str
) -> None:
    write_chat_model(tmp_path, kind, layers=1)
    rows = [{"problem": f"{i} + {i}", "answer": str(2 * i)} for i in range(40)]
    rows.append({"problem": "x" * 100, "answer": "1"})
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = ["model.max_length=500", "rollout.max_new_tokens=100", "evaluation.problems=8"]
    task = [
        "task.name=dataset",
        f"task.dataset.train={data}",
        "task.heldout=16",
        "task.dataset.instruction=.",
    ]
    model = [
        f"model.path={tmp_path}",
        "control_plane.enabled=false",
        f"ray.dashboard_port={free_ports(1)[0]}",
    ]
    findings, _ = examine(default_config([*base, *task, *model, *settings]))
    found = [(f.level, f.text) for f in findings if f.field == "task.unusable_prompts"]
    assert any(level == of and words in text for of, text in found), found
