"""`--context`: reaches a control plane inside a cluster through kubectl.

There is no cluster here: a stand-in for `kubectl port-forward` prints the address of a control plane on this machine.
The error for an unknown context comes from the real kubectl.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from pathlib import Path

import pytest

from services.access.tokens import create_token
from services.cli import main
from services.kubernetes.port_forward import forwarded
from tests.support.page_harness import served
from trainer.errors import ScopeError

STAND_IN = """#!/bin/sh
echo "$@" > {folder}/arguments
echo $$ > {folder}/process
{action}
"""


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a program named kubectl first on PATH."""

    def put(action: str) -> Path:
        program = tmp_path / "kubectl"
        program.write_text(STAND_IN.format(folder=tmp_path, action=action))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return tmp_path

    return put


def gone(process: int) -> bool:
    deadline = time.monotonic() + 5
    while Path(f"/proc/{process}").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_command_reaches_the_cluster_of_the_context_and_leaves_nothing_running(
    kubectl, monkeypatch, capsys, redis, redis_access, run
):
    monkeypatch.setenv("SCOPE_TOKEN", create_token(redis, run, "ada", "viewer"))
    with served(redis_access) as url:
        address = url.removeprefix("http://")
        folder = kubectl(f'echo "Forwarding from {address} -> 8080"; exec sleep 60')
        command = ["status", "--context", "prod", "--namespace", "rl", "--run-id", run, "--json"]
        assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["metadata"]["id"] == run
    said = (folder / "arguments").read_text().strip()
    assert said == "--context prod --namespace rl port-forward --address 127.0.0.1 service/control-plane :80"
    assert gone(int((folder / "process").read_text()))


def test_what_kubectl_complains_about_is_passed_on(kubectl):
    kubectl('echo "error: services \\"control-plane\\" not found" >&2; exit 1')
    said = '--context prod, --namespace rl: error: services "control-plane" not found'
    with pytest.raises(ScopeError, match=said), forwarded("prod", "rl"):
        pass


def test_a_cluster_that_does_not_answer_is_given_up(kubectl, monkeypatch):
    monkeypatch.setattr("services.kubernetes.port_forward.START_SECONDS", 0.3)
    folder = kubectl("exec sleep 60")
    with pytest.raises(ScopeError, match=r"no answer within 0\.3 seconds"), forwarded("prod", "rl"):
        pass
    assert gone(int((folder / "process").read_text()))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no `kubectl` on this machine")
def test_an_unknown_context_is_refused_by_kubectl_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with (
        pytest.raises(ScopeError, match='context "nowhere" does not exist'),
        forwarded("nowhere", "scope-rl"),
    ):
        pass


def test_without_kubectl_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ScopeError, match="--context needs kubectl"), forwarded("prod", "rl"):
        pass


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--context", "prod", "--run-id", "r"], "--context needs --run-id and a bearer token"),
        (["--context", "prod", "--url", "http://x"], "only one of them"),
    ],
    ids=["no-token", "both"],
)
def test_a_context_with_too_little_or_too_much_is_refused(arguments, said, monkeypatch, capsys):
    monkeypatch.delenv("SCOPE_TOKEN", raising=False)
    assert main(["status", *arguments]) == 2
    assert said in capsys.readouterr().err
