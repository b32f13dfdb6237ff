"""Sampled rollouts: which ones are kept, and how they are found in the run directory and over HTTP."""

from __future__ import annotations

import json

import numpy as np
import pytest

from services.access.tokens import create_token
from services.cli import main
from services.cli.rollouts import READ, picture
from services.learner.rollout_sample import RolloutSample, _pieces
from services.learner.spec import LearnerSpec
from services.records.sampled_rollouts import (
    RolloutFile,
    RolloutFilter,
    add_rollouts,
    read_file,
)
from tests.support.generation.tiny import tiny_config
from tests.support.sampled_rollouts import rollout
from trainer.rollouts.trajectory import Group, PolicyVersion, Trajectory, VersionSpan


def test_a_filter_asks_for_everything_that_it_names():
    wanted = RolloutFilter(step=3, role="base", correct=True, reward=0.5, contains="1+2")
    assert wanted.fits(rollout(3))
    for changed in ({"role": "adaptive"}, {"reward": 0.7}, {"tokens": ["1", "2"], "logprobs": [0, 0]}):
        assert not wanted.fits(rollout(3, **changed))
    assert not wanted.fits(rollout(4))
    assert RolloutFilter(contains="ÄB").fits(rollout(0, prompt="xäbx"))
    assert RolloutFilter(correct=False).fits(rollout(0, reward=0.99))


def test_the_file_stays_within_its_limit_and_keeps_the_newest(tmp_path):
    size = len(rollout(10).model_dump_json()) + 1
    file = RolloutFile(tmp_path, 20 * size)
    for step in range(100):
        file.append([rollout(step)])
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 20 * size
    steps = [found.step for found in read_file(tmp_path, RolloutFilter(), 1000)]
    assert steps == list(range(99, 99 - len(steps), -1))
    assert len(steps) >= 10


def test_a_line_that_was_not_finished_is_cut_off(tmp_path):
    RolloutFile(tmp_path, 1 << 20).append([rollout(1)])
    with (tmp_path / "rollouts.jsonl").open("ab") as file:
        file.write(b'{"step": 2, ')
    assert [found.step for found in read_file(tmp_path, RolloutFilter(), 10)] == [1]
    RolloutFile(tmp_path, 1 << 20).append([rollout(3)])
    assert [found.step for found in read_file(tmp_path, RolloutFilter(), 10)] == [3, 1]


class Bytes:
    """A tokenizer with one token per UTF-8 byte."""

    def decode(self, tokens):
        return bytes(tokens).decode("utf-8", errors="replace")


@pytest.mark.parametrize("text", ["plain", "ünïcödé €", "日本語", "a👍b"])
def test_the_pieces_of_tokens_make_the_text_whatever_a_character_takes(text):
    tokens = list(text.encode())
    pieces = _pieces(Bytes(), tokens)
    assert len(pieces) == len(tokens)
    assert "".join(pieces) == text


def test_a_step_leaves_as_many_rollouts_as_configured_the_same_in_every_run(
    tiny_model_dir, redis, redis_access, run_id, tmp_path
):
    config = tiny_config(rollout_samples={"per_step": 3, "most_tokens": 16, "kept": 500})
    groups = [
        Group(
            run_id=run_id,
            task="countdown",
            problem_id="p",
            role="base",
            ordinal=ordinal,
            sampling_temperature=1.0,
            entropy_target_generation=1,
            prompt_tokens=np.arange(4, dtype="<i4").tobytes(),
            producer_id="g",
            producer_sequence=0,
            started_at=0.0,
            finished_at=0.0,
            trajectories=[
                Trajectory(
                    group_index=i,
                    response_tokens=np.arange(20, dtype="<i4").tobytes(),
                    behaviour_logprobs=np.full(20, -0.5, "<f4").tobytes(),
                    loss_mask=(np.arange(20) != 3).astype("u1").tobytes(),
                    logprob_temperature=1.0,
                    versions=[VersionSpan(0, *PolicyVersion(1, 0))],
                    reward=1.0,
                    reward_components={},
                    verdict="correct",
                    finish_reason="stop",
                )
                for i in range(4)
            ],
        )
        for ordinal in range(5)
    ]
    kept = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        spec = LearnerSpec(
            run_id, config, "hash", str(tiny_model_dir), str(tmp_path / name), redis_access, ()
        )
        RolloutSample(spec, redis, 1).keep(7, groups)
        kept.append(read_file(tmp_path / name, RolloutFilter(step=7), 10))
    assert kept[0] == kept[1]
    assert len(kept[0]) == 3
    assert all(len(found.tokens) == 16 and found.length == 20 for found in kept[0])
    assert all(found.logprobs == [-0.5] * 3 + [None] + [-0.5] * 12 for found in kept[0])


def test_the_route_pages_through_what_fits(client, redis, run):
    add_rollouts(redis, run, [rollout(s, reward=float(s % 2), role="base") for s in range(250)], 10_000)
    headers = {"Authorization": f"Bearer {create_token(redis, run, 'reader', 'viewer')}"}
    path, steps, cursor = f"/v1/runs/{run}/rollouts", [], {}
    while cursor is not None:
        answer = client.get(path, params={"correct": True, "limit": 40} | cursor, headers=headers)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        steps += [found["step"] for found in page["rollouts"]]
        assert len(page["rollouts"]) <= 40
        cursor = None if page["next"] is None else {"cursor": page["next"]}
    assert steps == list(range(249, 0, -2))
    found = client.get(path, params={"step": 8, "contains": "1+2"}, headers=headers).json()["rollouts"]
    assert [one["step"] for one in found] == [8]
    assert client.get(path, params={"reward": 2}, headers=headers).status_code == 422
    assert client.get("/v1/runs/nothing/rollouts", headers=headers).status_code == 404


def test_tokens_are_coloured_by_surprisal_and_those_of_an_environment_as_the_prompt():
    one = rollout(0, tokens=["a", "b", "c", "d"], logprobs=[-0.05, None, -0.8, -9.0])
    assert [str(span.style) for span in picture(one).spans] == ["default", READ, "yellow", "bold red"]
    assert str(picture(one).style) == READ
    assert one.surprisal == pytest.approx((0.05 + 0.8 + 9.0) / 3)
    assert rollout(0, tokens=["a"], logprobs=[None]).surprisal is None


def test_the_command_reads_a_run_directory_without_a_control_plane(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("{}")
    RolloutFile(tmp_path, 1 << 20).append(
        [rollout(1), rollout(2, reward=0.0, verdict="wrong value"), rollout(3, tokens=["\x1b[2J", "x", "y"])]
    )
    assert main(["rollouts", str(tmp_path), "--correct", "no", "--json"]) == 0
    assert [one["step"] for one in json.loads(capsys.readouterr().out)] == [2]
    assert main(["rollouts", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b[2J" not in shown
    assert "step 3" in shown
    assert "surprisal -log p of each sampled token" in shown
    assert "mean surprisal 0.87" in shown
    assert main(["rollouts", str(tmp_path / "nothing")]) == 2
    assert "There is no run" in capsys.readouterr().err
