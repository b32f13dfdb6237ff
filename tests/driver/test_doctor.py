"""`scope doctor`: one line per check, exit status 0 or 1, and nothing started or left behind."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from transformers import Qwen3Config

from services.checks.sizing import DEVICES
from services.cli.doctor import DEVICE_NAMES
from services.cli.main import main
from services.driver.open_run import new_run
from tests.support.ports import free_ports
from tests.support.repository import QUICKSTART
from trainer.config import RunConfig
from trainer.starting_model.tiny_model import build_tokenizer
from trainer.tasks import make_task


def examine(
    capsys: pytest.CaptureFixture[str], *settings: str, options: tuple[str, ...] = ()
) -> tuple[int, list[dict[str, str]], dict[str, Any]]:
    """(exit status, findings, estimate) for the quickstart with some fields changed."""
    control_plane, dashboard = free_ports(2)
    ports = [f"control_plane.port={control_plane}", f"ray.dashboard_port={dashboard}"]
    sets = [part for setting in (*ports, *settings) for part in ("--set", setting)]
    status = main(["doctor", str(QUICKSTART), "--json", *sets, *options])
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] == (status == 0)
    return status, document["findings"], document["estimate"]


def problems(findings: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(f["level"], f["field"]) for f in findings if f["level"] != "ok"]


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """The configuration and tokenizer of a model, without weights."""
    task: Any = make_task(RunConfig().task)
    build_tokenizer(task.vocabulary, 64).save_pretrained(tmp_path)
    Qwen3Config(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, max_position_embeddings=64
    ).save_pretrained(tmp_path)
    return tmp_path


def change(model_dir: Path, **fields: Any) -> None:
    file = model_dir / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_the_quickstart_is_ready_and_nothing_is_left(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, findings, sizes = examine(capsys)
    assert status == 0
    assert {"packages", "task.name", "redis.server_binary", "control_plane.port", "memory", "runs_dir"} <= {
        f["field"] for f in findings
    }
    assert sizes["parameters"] == 645_440
    assert list(tmp_path.iterdir()) == []


def test_text_has_a_line_for_each_finding_with_field_and_value(capsys):
    status = main(
        ["doctor", str(QUICKSTART), "--set", "evaluation.problems=100000", "--set", "ray.dashboard=false"]
    )
    assert status == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("error"))
    assert "task.name=countdown: evaluation.problems=100000 must be at most" in line


def test_every_fault_of_the_configuration_is_a_line(capsys):
    status, findings, _ = examine(capsys, "steps=0", "learner.zero_stage=7")
    assert status == 1
    assert [f["level"] for f in findings] == ["error", "error"]
    assert {"steps", "learner.zero_stage"} == {
        name for name in ("steps", "learner.zero_stage") for f in findings if name in f["text"]
    }


def test_a_redis_that_does_not_answer_and_a_port_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, findings, _ = examine(
            capsys,
            f"redis.url=redis://127.0.0.1:{free_ports(1)[0]}",
            f"control_plane.port={taken.getsockname()[1]}",
        )
    assert status == 1
    assert problems(findings) == [("error", "redis.url"), ("error", "control_plane.port")]


def test_a_good_model_directory_passes_but_for_its_missing_weights(capsys, model_dir):
    status, findings, _ = examine(capsys, f"model.path={model_dir}")
    assert status == 0
    assert problems(findings) == [("warning", "model.path")]


def test_what_was_left_out_of_the_data_is_said_by_the_doctor_and_by_a_run(capsys, model_dir, tmp_path):
    rows = [{"problem": f"{i}+{i}", "answer": str(2 * i)} for i in range(20)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *rows[:5]]))
    settings = [
        f"model.path={model_dir}",
        "task.name=dataset",
        "task.heldout=16",
        f"task.dataset.train={data}",
        "task.dataset.instruction='='",
        "evaluation.problems=16",
        "control_plane.enabled=false",
        "ray.dashboard=false",
    ]
    said = f"task.dataset.train='{data}': of 25 rows 5 repeated are skipped"
    status, findings, _ = examine(capsys, *settings)
    assert status == 0
    assert ("warning", said) in {(f["level"], f["text"]) for f in findings if f["field"] == "task.name"}
    directory = new_run(QUICKSTART, [*settings, f"runs_dir={tmp_path / 'runs'}"], "run", replace=False)
    assert directory.notes == (said,)


SOUND = "".join(f'{{"prompt": "{i}+{i}", "reward_model": {{"ground_truth": {2 * i}}}}}\n' for i in range(20))


@pytest.mark.parametrize(
    ("line", "level", "words"),
    [
        (
            '{"prompt": "a", "reward_model": 1',
            "warning",
            "1 of 21 rows left out because the line is not JSON (line 21",
        ),
        (
            '{"prompt": "a", "reward_model": {"truth": 1}}',
            "warning",
            "(line 21: it has truth, written reward_model.truth",
        ),
        (
            '{"prompt": [{"role": "bot"}], "reward_model": 1}',
            "warning",
            "has an unknown role (line 21: message 1, 'bot'",
        ),
        (
            '{"prompt": "\xe9", "reward_model": 1}',
            "error",
            "line 21, byte 13: not UTF-8 (0xE9). Convert it: iconv",
        ),
    ],
    ids=["JSON", "answer", "messages", "encoding"],
)
def test_a_row_that_cannot_be_used_is_told_with_its_line(capsys, tmp_path, line, level, words):
    data = tmp_path / "data.jsonl"
    data.write_bytes((SOUND + line).encode("latin-1"))
    _, findings, _ = examine(
        capsys,
        "task.name=dataset",
        f"task.dataset.train={data}",
        "task.dataset.prompt_field=prompt",
        "task.dataset.answer_field=reward_model",
        "task.heldout=16",
        "evaluation.problems=16",
    )
    (finding,) = [f for f in findings if f["field"] == "task.name"]
    assert finding["level"] == level
    assert words in finding["text"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"vocab_size": 9}, "do not belong together"),
        ({"max_position_embeddings": 32}, "must be at most 32"),
        ({"final_logit_softcapping": 30.0}, "changes its logits"),
        ({"model_type": "no-such-model"}, "transformers cannot read it"),
        ({"layer_types": ["sliding_attention"]}, "share_prompts=false"),
    ],
    ids=["vocabulary", "positions", "softcap", "unknown", "windows"],
)
def test_a_model_that_does_not_fit_is_an_error(capsys, model_dir, fields, words):
    change(model_dir, **fields)
    status, findings, _ = examine(capsys, f"model.path={model_dir}")
    assert status == 1
    assert any(words in f["text"] for f in findings if f["level"] == "error"), findings


def test_what_the_machine_does_not_have_is_an_error(capsys):
    settings = ("learner.workers=4000", "learner.zero_stage=1", "generators.kv_cache_gib=100000")
    status, findings, _ = examine(capsys, *settings)
    assert status == 1
    assert ("error", "memory") in problems(findings)
    status, findings, _ = examine(capsys, "learner.gpus_per_worker=64", "generators.gpus_per_generator=1")
    assert {("error", "GPUs"), ("error", "packages")} <= set(problems(findings))


def test_learner_and_engines_may_share_one_gpu(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    shares = ("learner.gpus_per_worker=0.5", "generators.gpus_per_generator=0.25")
    _, findings, _ = examine(capsys, *shares)
    assert ("error", "GPUs") not in problems(findings)
    _, findings, _ = examine(capsys, *shares, "generators.base=2")
    assert ("error", "GPUs") in problems(findings)


def test_a_control_plane_that_others_can_reach_is_a_warning(capsys):
    status, findings, _ = examine(capsys, "control_plane.host=0.0.0.0")
    assert status == 0
    assert ("warning", "control_plane.host") in problems(findings)


def test_a_device_adds_speeds_and_whether_it_is_large_enough(capsys):
    assert set(DEVICE_NAMES) == set(DEVICES)
    status, findings, sizes = examine(capsys, options=("--device", "h100"))
    assert status == 0
    assert sizes["generator_tokens_per_second"] > 0 < sizes["learner_tokens_per_second"]
    assert [f["level"] for f in findings if f["field"] == "learner.workers"] == ["ok"]
    status, findings, _ = examine(
        capsys,
        "learner.micro_batch_tokens=100000000",
        "ray.address=127.0.0.1:1",
        options=("--device", "a100"),
    )
    assert status == 1
    assert ("error", "learner.workers") in problems(findings)
