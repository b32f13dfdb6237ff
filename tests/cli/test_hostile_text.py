"""No command prints a control character of a text that it did not write itself, and none can forge a line."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from redis import Redis

from services.cli.main import main
from services.entropy_target.store import change_entropy_target
from services.run.state import update_status
from tests.support.command_line import LEAVES, Scope
from tests.support.hostile_text import HOSTILE, OWN_STYLES, forged, harmful
from tests.support.repository import QUICKSTART, ROOT
from trainer.config import EntropyControlConfig

READING = {
    "status": "escaped",
    "entropy get": "",
    "entropy history": "escaped",
    "queue stats": "",
    "queue dead-letters": "escaped",
    "rollouts": "escaped",
    "token list": "escaped",
    "token whoami": "",
    "audit": "escaped",
}
"""commands that show a run, and whether they show its hostile texts"""
WRITING = ("pause", "resume", "checkpoint", "stop", "entropy reset", "entropy set 0.4", "token revoke ada")
NEEDS_NO_RUN = (
    "train",
    "submit",
    "compare",
    "tune",
    "doctor",
    "eval",
    "import",
    "export",
    "serve",
    "view",
    "completion",
)
OTHER = ("entropy watch", "token create", "queue requeue", "queue purge")
"""commands that have a test of their own below"""


def test_every_command_has_a_test_here() -> None:
    tested = {*READING, *OTHER, *NEEDS_NO_RUN}
    tested |= {" ".join(command.split()[:2]) for command in WRITING}
    assert tested == LEAVES.keys()


@pytest.mark.parametrize(("command", "shows"), READING.items())
def test_a_command_that_shows_a_run_escapes_its_texts(
    scope: Scope, hostile: Path, monkeypatch: pytest.MonkeyPatch, command: str, shows: str
) -> None:
    # A narrow column would break a text in the middle.
    monkeypatch.setenv("COLUMNS", "400")
    outcome = scope(*command.split(), hostile.name)
    assert (outcome.status, outcome.err) == (0, "")
    assert harmful(outcome.out) == set()
    if shows:
        assert r"\x1b[31m\x9b2J" in outcome.out
        assert r"[red]b[/red] :smile:" in " ".join(outcome.out.split())
    if command != "rollouts":
        # The line breaks of a response are meant.
        assert forged(outcome.out) == []


@pytest.mark.parametrize("command", READING)
def test_json_is_ascii_and_says_the_same(scope: Scope, hostile: Path, command: str) -> None:
    outcome = scope(*command.split(), hostile.name, "--json")
    assert outcome.out.isascii()
    assert harmful(outcome.out) == set()
    json.loads(outcome.out)
    assert json.dumps(HOSTILE)[1:-1] in outcome.out or not READING[command]


@pytest.mark.parametrize("command", ["status", "rollouts", "status --watch"])
def test_on_a_terminal_the_only_escapes_are_our_own_styles(
    scope: Scope, redis: Redis, run: str, hostile: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    update_status(redis, run, phase="finished")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    outcome = scope(*command.split(), hostile.name)
    assert OWN_STYLES.search(outcome.out)
    assert harmful(OWN_STYLES.sub("", outcome.out)) <= {"\r"}
    assert r"\x1b[31m" in outcome.out


@pytest.mark.parametrize("command", WRITING)
def test_a_command_that_changes_a_run_prints_no_control_character(
    scope: Scope, hostile: Path, command: str
) -> None:
    outcome = scope(*command.split(), "--run", hostile.name)
    assert outcome.status == 0
    assert harmful(outcome.out + outcome.err) == set()


def test_a_live_command_escapes_texts_as_they_arrive(
    redis: Redis, run: str, here: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    statuses: list[int] = []
    watch = threading.Thread(target=lambda: statuses.append(main(["entropy", "watch", run])))
    watch.start()
    said, targets = "", iter([0.41, 0.4] * 200)
    while "FORGED" not in said:
        change_entropy_target(redis, run, next(targets), HOSTILE, EntropyControlConfig())
        watch.join(0.05)
        said += capsys.readouterr().out
    update_status(redis, run, phase="failed")
    watch.join(20)
    said += capsys.readouterr().out
    assert statuses == [1], "a watched run that fails is a failure"
    assert harmful(said) == set()
    assert forged(said) == []


@pytest.mark.parametrize("command", LEAVES)
def test_arguments_are_quoted_without_control_characters(scope: Scope, here: Path, command: str) -> None:
    parser = LEAVES[command]
    # Only kubectl reads a namespace, and only with --context.
    takes = [action for action in parser._actions if action.nargs != 0 and action.dest != "namespace"]
    required = {action.dest: [*action.option_strings[:1], "x"] for action in takes if action.required}
    for action in takes:
        given = required | {action.dest: [*action.option_strings[:1], HOSTILE]}
        outcome = scope(*command.split(), *(word for words in given.values() for word in words))
        assert harmful(outcome.out + outcome.err) == set(), action.dest
        assert forged(outcome.out + outcome.err) == [], action.dest
        assert "Traceback" not in outcome.err, action.dest


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", str(QUICKSTART), "--set", f"steps={HOSTILE}"],
        ["train", str(QUICKSTART), "--set", HOSTILE],
        ["train", str(QUICKSTART), "--run-id", HOSTILE],
        ["train", "hostile.yaml"],
        ["train", "broken.yaml"],
        ["doctor", "hostile.yaml"],
        ["doctor", "broken.yaml"],
        ["compare", str(QUICKSTART), "--seeds", "2", "--controls", f"grpo,{HOSTILE}"],
        ["eval", "broken"],
        ["status", "broken"],
        ["status", "quikstart"],
        [HOSTILE],
        ["status", f"--{HOSTILE}"],
    ],
)
def test_configurations_and_names_are_quoted_without_control_characters(
    scope: Scope, tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "hostile.yaml").write_text(json.dumps({"task": {"name": HOSTILE}, HOSTILE: HOSTILE}))
    (tmp_path / "broken.yaml").write_bytes(b"steps: [\x1b[31m\n\x9b")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "endpoint.json").write_text(HOSTILE)
    (broken / "config.json").write_text(HOSTILE)
    named = tmp_path / "runs" / HOSTILE.replace("/", "")
    named.mkdir(parents=True)
    (named / "config.yaml").write_text("{}")
    outcome = scope(*arguments)
    assert outcome.status in (1, 2)
    assert harmful(outcome.out + outcome.err) == set()
    assert forged(outcome.out + outcome.err) == []


class HostileServer(BaseHTTPRequestHandler):
    """Answers every request with a refusal full of control characters."""

    def do_GET(self) -> None:
        body = {"type": HOSTILE, "title": HOSTILE, "status": 409, "detail": HOSTILE, "instance": HOSTILE}
        self.send_response(409)
        self.send_header("Content-Type", "application/problem+json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.mark.parametrize(
    "command",
    [
        "status r",
        "entropy set 0.4 --run r",
        "queue requeue 17-0 18-0 --run r",
        "queue purge 17-0 --run r --reason x",
        "token create --name x --scope viewer r",
    ],
)
def test_the_refusal_of_a_server_is_one_clean_line(
    scope: Scope, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    server = HTTPServer(("127.0.0.1", 0), HostileServer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("SCOPE_TOKEN", "t" * 20)
    outcome = scope(*command.split(), "--url", f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    thread.join()
    server.server_close()
    assert outcome.status == 2
    assert r"a\x1b[31m" in outcome.err
    assert outcome.err.count("\n") == 1
    assert harmful(outcome.err) == set()


def test_commands_print_only_through_one_module() -> None:
    """`output.py` and the console that it hands out: no `print`, no console of rich and no stream elsewhere."""
    printing = ("print(", "Console(", "sys.stdout", "sys.stderr", ".model_dump_json(")
    own = {"output.py", "console.py"}
    found = {
        f"{path.name}: {word}"
        for path in (ROOT / "services" / "cli").glob("*.py")
        if path.name not in own
        for word in printing
        if word in path.read_text().replace("console.print(", "")
    }
    # Streams that are flushed, asked whether they are a terminal, or handed to what prints cleanly.
    handed = {
        "parser.py: sys.stderr",
        "eval.py: sys.stderr",
        "__main__.py: sys.stdout",
        "train.py: sys.stdout",
    }
    assert found == handed
