"""Exit statuses, waits that run out, and results that are empty."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path

import pytest
from redis import Redis

from services.access.tokens import create_token
from services.redis.keys import RunKeys
from services.run.state import Phase, update_status
from tests.support.command_line import Scope

MAIN = import_module("services.cli.main")
"""the module; `services.cli.main` as an attribute is its function"""


@pytest.mark.parametrize("command", ["set 0.4", "reset"])
def test_a_wait_that_runs_out_is_a_failure_and_says_so(scope: Scope, here: Path, command: str) -> None:
    started = time.monotonic()
    outcome = scope("entropy", *command.split(), "--wait", "--timeout", "0.2", "--run", here.name)
    assert time.monotonic() - started < 5
    assert outcome.status == 1
    assert "not applied yet" in outcome.out
    assert outcome.err == (
        "scope: no learner step has applied the change within 0.2 s; it remains requested\n"
    )
    assert scope("entropy", *command.split(), "--run", here.name).status == 0, "without --wait"


@pytest.mark.parametrize("seconds", ["-1", "61", "nan", "inf"])
def test_a_wait_of_another_length_is_refused(scope: Scope, here: Path, seconds: str) -> None:
    outcome = scope("entropy", "set", "0.4", "--wait", f"--timeout={seconds}")
    assert outcome.status == 2
    assert f"--timeout={seconds} is not allowed: from 0 to 60 seconds." in outcome.err


@pytest.mark.parametrize(("phase", "status"), [("finished", 0), ("failed", 1)])
def test_watching_a_run_that_fails_is_a_failure(
    scope: Scope, redis: Redis, run: str, here: Path, phase: Phase, status: int
) -> None:
    update_status(redis, run, phase=phase, error="the learner ended" if status else None)
    assert scope("status", "--watch").status == status
    assert scope("status").status == 0


EMPTY = {
    "entropy history": "has never changed",
    "queue dead-letters": "has no dead letters",
    "queue dead-letters --cursor 1-0": "has no older dead letters",
    "audit": "Nobody has changed anything",
    "rollouts": "No rollout matches",
}


@pytest.mark.parametrize("command", EMPTY)
def test_an_empty_result_is_said(scope: Scope, redis: Redis, run: str, here: Path, command: str) -> None:
    keys = RunKeys(run)
    redis.delete(keys.audit, keys.entropy_target_history)
    outcome = scope(*command.split(), "--run", here.name)
    assert (outcome.status, outcome.err) == (0, "")
    assert EMPTY[command] in outcome.out
    assert outcome.out.count("\n") == 1
    shown = json.loads(scope(*command.split(), "--run", here.name, "--json").out)
    assert [] in (shown, *shown.values()) if isinstance(shown, dict) else shown == []


def test_a_run_without_tokens_is_said(scope: Scope, redis: Redis, run: str, here: Path, monkeypatch) -> None:
    monkeypatch.setenv("SCOPE_TOKEN", create_token(redis, None, f"all-{run}", "admin"))
    redis.delete(RunKeys(run).tokens)
    assert scope("token", "list", here.name).out == f"Run {run} has no tokens.\n"
    assert json.loads(scope("token", "list", here.name, "--json").out) == []


def test_a_taken_name_of_a_token_says_what_to_do_and_replacing_works_every_time(
    scope: Scope, here: Path
) -> None:
    create = ["token", "create", "--scope", "operator", "--name", "me"]
    assert scope(*create).status == 0
    outcome = scope(*create)
    assert (outcome.status, outcome.out) == (2, "")
    assert "replace it with --replace" in outcome.err
    for _ in range(2):
        assert scope(*create, "--replace").status == 0


def test_an_unexpected_error_is_told_with_a_clean_traceback(
    scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(arguments: list[str]) -> int:
        raise RuntimeError("\x1b[31mred\x9b")

    monkeypatch.setattr(MAIN, "_run", fail)
    outcome = scope("status")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("Traceback")
    assert r"RuntimeError: \x1b[31mred\x9b" in outcome.err


def test_an_interrupt_is_one_line(scope: Scope, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(MAIN, "_run", interrupt)
    outcome = scope("status")
    assert (outcome.status, outcome.err) == (130, "scope: interrupted\n")


def test_an_argument_that_is_not_utf8_is_refused(scope: Scope) -> None:
    outcome = scope("token", "revoke", b"a\x9b".decode(errors="surrogateescape"))
    assert outcome.status == 2
    assert r"'a\udc9b' is not UTF-8" in outcome.err


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b'{"metadata": 1}', b"\xff"])
def test_another_server_that_says_yes_is_not_taken_for_a_control_plane(
    scope: Scope, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    class Agreeable(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    monkeypatch.setenv("SCOPE_TOKEN", "t" * 20)
    with HTTPServer(("127.0.0.1", 0), Agreeable) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        outcome = scope("status", "r", "--url", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()
    assert outcome.status == 2
    assert "it is no control plane, or one of another version" in outcome.err


def test_a_text_that_is_too_long_to_look_for_is_refused(scope: Scope, here: Path) -> None:
    outcome = scope("rollouts", "--contains", "a" * 201)
    assert outcome.status == 2
    assert "--contains has 201 characters; it must have at most 200." in outcome.err
