"""Commands that talk to a control plane: what they refuse, print and import."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from services.cli.entropy import target_text
from tests.support.runs.shell import Shell


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
    """The entropy target resource, with the fields that are printed."""
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
        (target(0.35), "target 0.35 nats/token, generation 2: in force from learner step 41"),
        (
            target(None, target=0.42),
            "target 0.42 nats/token as configured (hold), generation 2: in force from learner step 41",
        ),
        (
            target(None, "linear", target=0.315),
            "target 0.315 nats/token at step 44 as configured (linear), generation 2: in force from learner step 41",
        ),
        (
            target(None, first="auto", target=0.31),
            "target 0.31 nats/token as configured (hold, auto), generation 2: in force from learner step 41",
        ),
        (
            target(None, first="auto", target=None),
            "target as configured (hold, auto: not measured yet), generation 2: in force from learner step 41",
        ),
        (
            target(None, "cosine", state="pending", target=0.5),
            "target as configured (cosine), generation 2: not applied yet, in force from the next learner step",
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
        assert loaded <= set(allowed), f"scope {arguments} imports {loaded}"


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
