"""Whole runs on what people bring: conversations, base models and templates of others, verifiers that fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.chat_models import Kind, write_chat_model
from tests.support.ports import free_ports
from tests.support.runs.run_harness import Run, left_running, new_run

pytestmark = [pytest.mark.cluster, pytest.mark.chaos, pytest.mark.timeout(900)]

STEPS = 10
REWARDS = """\"\"\"Rewards some responses and fails on most.\"\"\"


def compute_score(data_source, solution_str, ground_truth, extra_info):
    kind = sum(map(ord, solution_str)) % 4
    if kind > 1:
        raise KeyError("the answer has no field of this name")
    return float(kind)
"""


def text_row(number: int) -> dict[str, Any]:
    return {"problem": f"What is {number} plus {number}?", "answer": str(2 * number)}


def conversation_row(number: int) -> dict[str, Any]:
    said = [("user", f"I have {number}."), ("assistant", "Good."), ("user", f"Add <|im_end|> to {number}.")]
    conversation = [{"role": role, "content": content} for role, content in said]
    return {"prompt": conversation, "reward_model": {"ground_truth": 2 * number, "style": "rule"}}


def rows(folder: Path, row: Callable[[int], dict[str, Any]]) -> Path:
    """A file of 80 rows."""
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row(number))}\n" for number in range(80)))
    return path


def trained(folder: Path, kind: Kind, data: Path, *settings: str) -> Run:
    """A run of ten steps that has ended well."""
    model, (port,) = write_chat_model(folder / "model", kind), free_ports(1)
    (folder / "rewards.py").write_text(REWARDS)
    common = [
        f"steps={STEPS}",
        f"model.path={model}",
        "model.max_length=448",
        "rollout.max_new_tokens=48",
        "task.heldout=16",
        f"task.folder={folder}",
        f"control_plane.port={port}",
        "ray.dashboard=false",
        "generators.dtype=float32",
    ]
    if not any(setting.startswith("task.name=") for setting in settings):
        common += ["task.name=dataset", f"task.dataset.train={data}"]
        common += ["task.verifier.kind=function", "task.verifier.function=rewards:compute_score"]
    run = new_run(folder / "runs", "brought", [*common, *settings])
    process = run.start()
    assert process.wait(800) == 0, run.log
    assert not left_running(run)
    assert len(run.records()) == STEPS, run.log
    assert "Traceback" not in run.log
    return run


def responses(run: Run) -> Sequence[dict[str, Any]]:
    lines = (run.directory / "rollouts.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line) for line in lines]


def test_a_column_of_messages_trains_on_its_conversations(tmp_path: Path) -> None:
    fields = ["task.dataset.prompt_field=prompt", "task.dataset.answer_field=reward_model"]
    run = trained(tmp_path, "chatml", rows(tmp_path, conversation_row), *fields)
    prompts = [one["prompt"] for one in responses(run)]
    assert prompts
    for prompt in prompts:
        assert "<|im_start|>assistant\nGood.<|im_end|>" in prompt
        assert "{'role'" not in prompt
        assert prompt.count("<|im_start|>") == 4


def test_a_base_model_whose_template_ends_turns_by_another_token_than_eos(tmp_path: Path) -> None:
    run = trained(tmp_path, "chatml_base", rows(tmp_path, text_row))
    texts = ["".join(one["tokens"]) for one in responses(run) if one["finish"] == "stop"]
    ends = ("<|im_end|>", "<|endoftext|>")
    assert {end for end in ends for text in texts if text.endswith(end)} == set(ends)
    for text in texts:
        assert not any(end in text[: -len(end)] for end in ends if text.endswith(end))


def test_a_template_without_a_system_role(tmp_path: Path) -> None:
    system = ["model.system_prompt=Answer with a number.", "model.system_role=user"]
    run = trained(tmp_path, "gemma", rows(tmp_path, text_row), *system)
    for one in responses(run):
        assert one["prompt"].startswith("<bos><start_of_turn>user\nAnswer with a number.")
        assert one["prompt"].count("<bos>") == 1


def test_a_mixture_with_a_verifier_that_fails(tmp_path: Path) -> None:
    data = rows(tmp_path, text_row)
    failing = {
        "name": "dataset",
        "heldout": 16,
        "folder": str(tmp_path),
        "weight": 4.0,
        "dataset": {"train": str(data)},
        "verifier": {"kind": "function", "function": "rewards:compute_score"},
    }
    other = {"name": "reasoning_gym", "heldout": 16, "reasoning_gym": {"dataset": "coin_flip"}}
    run = trained(
        tmp_path, "chatml", data, "task.name=mixture", f"task.mixture={json.dumps([failing, other])}"
    )
    records = run.records()
    assert sum(record.unscored_rollouts for record in records) > 0
    assert all("KeyError" in cause for record in records for cause in record.unscored_causes)
    assert any("verifier_failing" in record.alarm_kinds for record in records)
    assert "most often because of: KeyError: 'the answer has no field of this name' (rewards.py:7)" in run.log
