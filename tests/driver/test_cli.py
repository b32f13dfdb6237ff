"""Misuse of the command line: exit status 2, one paragraph with field, value and range, and nothing left behind."""

from __future__ import annotations

import subprocess
import time

import psutil
import pytest

from services.redis.access import RedisAccess
from services.run.directory import write_format
from tests.support.repository import QUICKSTART
from tests.support.runs.shell import Shell


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("steps=many", ["steps = 'many'", "whole number", "at least 1"]),
        ("steps=2.5", ["steps = 2.5", "whole number"]),
        ("steps=true", ["steps = True", "whole number"]),
        ("optimizer.learning_rate=-1", ["optimizer.learning_rate = -1", "at least 0", "at most 1"]),
        ("control_plane.port=80", ["control_plane.port = 80", "1,024", "65,535"]),
        ("learner.zero_stage=4", ["learner.zero_stage = 4", "1, 2, 3"]),
        ("optimizer.learning_rte=1e-4", ["optimizer.learning_rte", "optimizer.learning_rate"]),
        ("entropy_control.target=.nan", ["entropy_control.target = nan", "finite number"]),
        ("entropy_control.target=NaN", ["entropy_control.target", "finite number"]),
        ("entropy_control.target=9", ["target=9", "0.01", "5.0", "nats per token"]),
        (
            "entropy_control.schedule.kind=linear",
            ["entropy_control.schedule", "'linear'", "to=None", "until_step"],
        ),
        ("entropy_control.schedule.to=0.3", ["entropy_control.schedule", "to=0.3", "'linear' or 'cosine'"]),
        ("rollout.top_p=0.9", ["rollout", "top_p=0.9", "only 1.0"]),
        ("rollout.top_k=5", ["rollout", "top_k=5", "only 0"]),
        ("rollout.min_p=0.1", ["rollout", "min_p=0.1", "only 0.0"]),
        ("task.name=countdwon", ["task.name='countdwon'", "countdown"]),
        ("model.path=/nowhere", ["model.path='/nowhere'", "config.json"]),
        ("redis.url=http://x", ["redis.url", "redis://", "rediss://"]),
        ("redis.url=redis://me:secret@x", ["redis.url", "SCOPE_REDIS_PASSWORD"]),
        ("redis.server_binary=/bin/false", ["redis.server_binary = '/bin/false'", "7.0"]),
        ("steps", ["'steps'", "a.b=value"]),
    ],
)
def test_a_wrong_setting_is_refused_by_name_value_and_range(
    shell: Shell, setting: str, says: list[str]
) -> None:
    message = shell.train(setting)
    for words in says:
        assert words in message
    assert "secret" not in message


@pytest.mark.parametrize("field", ["control_plane.port", "ray.dashboard_port"])
def test_a_port_in_use_is_named(shell: Shell, taken_port: int, unused_port: int, field: str) -> None:
    other = {"control_plane.port", "ray.dashboard_port"} - {field}
    message = shell.train(f"{field}={taken_port}", f"{other.pop()}={unused_port}", program=True)
    assert f"{field} = {taken_port} is taken" in message
    assert "1024 to 65535" in message


def free(port: int) -> list[str]:
    """Settings of a run that needs no port except that of Redis."""
    return ["control_plane.enabled=false", "ray.dashboard=false", f"redis.url=redis://127.0.0.1:{port}/0"]


def test_a_dead_redis_is_named_within_seconds(shell: Shell, unused_port: int) -> None:
    started = time.monotonic()
    message = shell.train(*free(unused_port), program=True)
    assert time.monotonic() - started < 10
    assert f"redis.url = 'redis://127.0.0.1:{unused_port}/0' cannot be used" in message
    assert "refused" in message


def test_a_redis_that_does_not_answer_is_named_within_its_timeout(shell: Shell, taken_port: int) -> None:
    started = time.monotonic()
    message = shell.train(*free(taken_port), "redis.connect_timeout_seconds=1")
    assert time.monotonic() - started < 10
    assert f":{taken_port}/0' cannot be used" in message
    assert "tried for 1 seconds" in message


def test_a_wrong_redis_password_is_refused_at_once_and_not_shown(
    shell: Shell, redis_access: RedisAccess
) -> None:
    port = int(redis_access.url.rsplit(":", 1)[1].split("/")[0])
    started = time.monotonic()
    message = shell.train(*free(port), program=True, SCOPE_REDIS_PASSWORD="open-sesame")
    assert time.monotonic() - started < 10
    assert "refused the login" in message
    assert "SCOPE_REDIS_PASSWORD" in message
    assert "open-sesame" not in message
    assert "SCOPE_REDIS_PASSWORD" in shell.train(*free(port))


def test_an_existing_run_directory_is_refused_and_left_as_it_is(shell: Shell) -> None:
    (shell.home / "runs" / "r").mkdir(parents=True)
    (shell.home / "runs" / "r" / "steps.jsonl").write_text("{}\n")
    message = shell.train()
    assert str(shell.home / "runs" / "r") in message
    assert "--resume" in message
    assert "--replace" in message


def test_replacing_is_refused_before_the_old_run_is_moved_aside(shell: Shell) -> None:
    (shell.home / "runs" / "r").mkdir(parents=True)
    (shell.home / "runs" / "r" / ".lock").touch()
    arguments = ["train", str(QUICKSTART), "--run-id", "r", "--replace", "--set", "model.path=/nowhere"]
    assert "model.path" in shell.refused(*arguments)


def test_a_run_that_is_driven_by_another_process_is_refused_and_its_configuration_stays(shell: Shell) -> None:
    directory = shell.home / "runs" / "r"
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_bytes(QUICKSTART.read_bytes())
    write_format(directory)
    holder = subprocess.Popen(["flock", str(directory / ".lock"), "sleep", "60"])
    try:
        while not (directory / ".lock").exists():
            time.sleep(0.01)
        assert "already driven" in shell.refused(
            "train", "--resume", str(directory), "--set", "steps=9", program=True
        )
        arguments = ["train", str(QUICKSTART), "--run-id", "r", "--replace"]
        assert "already driven" in shell.refused(*arguments)
    finally:
        psutil.Process(holder.pid).children()[0].kill()
        holder.wait()
    assert (directory / "config.yaml").read_bytes() == QUICKSTART.read_bytes()


NO_PORTS = ["--set", "control_plane.enabled=false", "--set", "ray.dashboard=false"]
"""for commands refused for another reason while a run uses the default ports"""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train"], ["configuration file", "--resume"]),
        (["train", str(QUICKSTART), "--resume", "runs/r"], ["configuration file", "--resume", "not both"]),
        (["train", "--resume", "runs/none"], ["--resume runs/none", "not a run directory"]),
        (["train", "--resume", "runs/none", "--replace"], ["--replace", "--resume"]),
        (["train", "nowhere.yaml"], ["'nowhere.yaml'", "does not exist"]),
        (["train", "."], ["'.'", "cannot be read"]),
        (["train", str(QUICKSTART), "--run-id", "../r"], ["run id = '../r'", "letters, digits"]),
        (
            ["train", str(QUICKSTART), *NO_PORTS, "--set", "runs_dir=/proc"],
            ["runs_dir='/proc'", "cannot be used"],
        ),
        (["status"], ["no run under ./runs", "--run"]),
        (["status", "--run", "elsewhere"], ["elsewhere", "neither a run directory"]),
        (["stop", "--run", "elsewhere"], ["--run elsewhere", "endpoint.json"]),
        (["entropy", "get", "--url", "http://127.0.0.1:1"], ["--run-id", "SCOPE_TOKEN"]),
        (["entropy", "set", "0.4", "--url", "http://127.0.0.1:1", "--run-id", "r"], ["SCOPE_TOKEN"]),
        (["entropy", "reset", "--run", "elsewhere"], ["--run elsewhere", "endpoint.json"]),
        (["serve", "--redis-url", "ftp://x"], ["--redis-url", "redis://"]),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(
    shell: Shell, arguments: list[str], says: list[str]
) -> None:
    message = shell.refused(*arguments)
    for words in says:
        assert words in message


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--controls", "gropo"], ["'gropo'", "nearest valid name is grpo"]),
        (["--controls", ","], ["--controls", "no control"]),
        (["--controls", "grpo,grpo"], ["'grpo' 2 times", "LABEL@NAME"]),
        (["--controls", "../x@grpo"], ["label '../x'", "letters, digits"]),
        (["--controls", "grpo", "--seeds", "0"], ["--seeds 0", "at least 1"]),
        (["--controls", "grpo", "--parallel", "0"], ["--parallel 0", "at least 1"]),
        (["--controls", "grpo", "--samples", "0"], ["--samples 0", "at least 1"]),
        (["--controls", "grpo", "--first-seed", "-1"], ["seed = -1", "at least 0"]),
        (["--controls", "grpo", "--evaluate-every", "5"], ["--evaluate-every 5", "--in-process"]),
        (
            [
                "--controls",
                "grpo",
                "--parallel",
                "2",
                *NO_PORTS,
                "--set",
                "ray.dashboard=true",
                "--set",
                "ray.dashboard_port=28265",
            ],
            ["ray.dashboard=false"],
        ),
        (["--controls", "grpo,scope:steps=many"], ["scope-steps-many", "steps = 'many'", "whole number"]),
        (["--controls", "scope:task.seed=3"], ["task.seed", "same for every control", "--set"]),
        (["--controls", "scope:seed=3"], ["seed", "--first-seed"]),
        (["--controls", "grpo", "--set", "entropy_control.kind=paper"], ["overridden by the control grpo"]),
        (
            ["--controls", "grpo", "--set", "evaluation.problems=513", "--in-process"],
            ["evaluation.problems=513", "512"],
        ),
        (["--controls", "grpo", "--set", "evaluation.temperature=0.5", "--in-process"], ["only 1.0"]),
        (["--controls", "grpo", "--out", "/proc/x", "--in-process"], ["--out /proc/x", "cannot be used"]),
    ],
)
def test_a_comparison_that_cannot_be_meant_is_refused_before_anything_starts(
    shell: Shell, arguments: list[str], says: list[str]
) -> None:
    seeds = [] if "--seeds" in arguments else ["--seeds", "2"]
    message = shell.refused("compare", str(QUICKSTART), *seeds, *arguments)
    for words in says:
        assert words in message
