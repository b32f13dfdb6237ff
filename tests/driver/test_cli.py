"""Misuse of the real command line: exit status 2, one paragraph that names field, value and range, nothing left."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.cli import main
from services.cli.entropy import target_text
from services.redis.access import RedisAccess
from services.run.directory import write_format
from tests.support.repository import QUICKSTART, ROOT


@dataclass
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str
    seconds: float


class Shell:
    """Runs `scope` in a directory of its own and sees what it leaves there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "PYTHONPATH": str(ROOT),
        }

    def scope(self, *arguments: str, **environment: str) -> Outcome:
        """The command in this process; seconds are saved by not starting Python."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.home)
            for name in ("SCOPE_TOKEN", "SCOPE_REDIS_PASSWORD"):
                patch.delenv(name, raising=False)
            for name, value in (self.environment | environment).items():
                patch.setenv(name, value)
            started = time.monotonic()
            try:
                status = main(arguments)
            except SystemExit as end:
                status = int(end.code or 0)
        return Outcome(status, out.getvalue(), err.getvalue(), time.monotonic() - started)

    def program(self, *arguments: str, **environment: str) -> Outcome:
        """The command as a program of its own, as users start it."""
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", *arguments],
            cwd=self.home,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Outcome(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    def refused(self, *arguments: str, program: bool = False, **environment: str) -> str:
        """The command is refused as a user error is, and leaves nothing; returns the message."""
        before = sorted(self.home.rglob("*"))
        outcome = (self.program if program else self.scope)(*arguments, **environment)
        assert outcome.status == 2, outcome
        message = outcome.err.strip()
        assert message.startswith("scope: "), message
        assert "Traceback" not in message
        assert "\n" not in message, f"not one paragraph: {message}"
        assert sorted(self.home.rglob("*")) == before, "it left files behind"
        assert not self.left_running()
        return message.removeprefix("scope: ")

    def train(self, *settings: str, program: bool = False, **environment: str) -> str:
        """`scope train` with settings, refused."""
        sets = [part for setting in settings for part in ("--set", setting)]
        return self.refused("train", str(QUICKSTART), "--run-id", "r", *sets, program=program, **environment)

    def left_running(self) -> list[psutil.Process]:
        """Processes that were started from here."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("XDG_STATE_HOME") == self.environment["XDG_STATE_HOME"]:
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


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
    """Settings of a run that needs no port but Redis's."""
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
"""for commands that are refused for something else, while a run holds the usual ports"""


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
        (["status", "--run", "elsewhere"], ["--run elsewhere", "endpoint.json"]),
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


@pytest.mark.parametrize(
    "command", [["status"], ["stop"], ["entropy", "get"], ["entropy", "set", "0.4"], ["entropy", "reset"]]
)
def test_a_control_plane_that_does_not_answer_is_named(
    shell: Shell, unused_port: int, command: list[str]
) -> None:
    url = f"http://127.0.0.1:{unused_port}"
    message = shell.refused(*command, "--url", url, "--run-id", "r", program=True, SCOPE_TOKEN="t" * 20)
    assert f"control plane at {url} does not answer" in message


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://[::1", ""]
)
def test_an_address_that_is_none_is_named(shell: Shell, url: str) -> None:
    message = shell.refused("status", "--url", url, "--run-id", "r", SCOPE_TOKEN="t" * 20)
    assert url in message


@pytest.mark.parametrize("token", ["geheimes-tökèn-ŝ", "geheimes\ntoken", "geheimes token"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(
    shell: Shell, unused_port: int, token: str
) -> None:
    url = f"http://127.0.0.1:{unused_port}"
    message = shell.refused("status", "--url", url, "--run-id", "r", SCOPE_TOKEN=token)
    assert "SCOPE_TOKEN" in message
    assert "geheim" not in message


@pytest.mark.parametrize("target", ["half", ""])
def test_a_target_that_is_no_number_is_refused_by_the_parser(shell: Shell, target: str) -> None:
    outcome = shell.scope("entropy", "set", target)
    assert outcome.status == 2
    assert f"invalid float value: '{target}'" in outcome.err
    assert "Traceback" not in outcome.err


def target(
    value: float | None, kind: str = "hold", first: float | str = 0.42, **status: object
) -> dict[str, Any]:
    """The resource as far as it is printed."""
    configured = {"target": first, "schedule": {"kind": kind}}
    held = {"state": "applied", "applied_from_step": 41, "step": 44, "target": value} | status
    return {
        "spec": {"target": value, "configured": configured},
        "status": held,
        "metadata": {"generation": 2},
    }


@pytest.mark.parametrize(
    ("resource", "text"),
    [
        (target(0.35), "target 0.35 nats/token, generation 2: holds from learner step 41"),
        (
            target(None, target=0.42),
            "target 0.42 nats/token as configured (hold), generation 2: holds from learner step 41",
        ),
        (
            target(None, "linear", target=0.315),
            "target 0.315 nats/token at step 44 as configured (linear), generation 2: holds from learner step 41",
        ),
        (
            target(None, first="auto", target=0.31),
            "target 0.31 nats/token as configured (hold, auto), generation 2: holds from learner step 41",
        ),
        (
            target(None, first="auto", target=None),
            "target as configured (hold, auto: not measured yet), generation 2: holds from learner step 41",
        ),
        (
            target(None, "cosine", state="pending", target=0.5),
            "target as configured (cosine), generation 2: not applied yet, the next learner step takes it up",
        ),
    ],
)
def test_a_target_is_told_with_what_decides_it(resource: dict[str, Any], text: str) -> None:
    assert target_text(resource) == text


def test_a_command_loads_only_what_it_needs() -> None:
    heavy = {"torch", "ray", "vllm", "transformers", "fastapi", "redis", "numpy", "pydantic", "rich", "httpx"}
    for arguments, allowed in (
        ("--help", ()),
        ("status --help", ("pydantic", "rich", "httpx")),
        ("entropy set 0.3 --help", ("pydantic", "rich", "httpx")),
    ):
        script = f"""
import contextlib, sys
from services.cli.main import main
with contextlib.suppress(SystemExit):
    main({arguments.split()!r})
print(*({heavy!r} & sys.modules.keys()), file=sys.stderr)
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
        loaded = set(done.stderr.split())
        assert loaded <= set(allowed), f"scope {arguments} loads {loaded}"


def test_the_commands_explain_themselves(shell: Shell) -> None:
    assert shell.program("--help").out.startswith("usage: scope")
    for command in (
        [],
        ["train"],
        ["compare"],
        ["serve"],
        ["status"],
        ["stop"],
        ["entropy", "set"],
        ["entropy", "reset"],
    ):
        outcome = shell.scope(*command, "--help")
        assert outcome.status == 0
        assert outcome.out.startswith("usage: scope")
