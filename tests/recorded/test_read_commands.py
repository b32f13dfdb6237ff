"""Commands that read a run whose control plane has gone, from its directory, a copy, or an archive."""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
from pathlib import Path

import pytest

from tests.support.runs.recorded import STEPS, TARGET, change_status, keep_steps
from tests.support.runs.shell import Shell

FINISHED = f"it finished at step {STEPS} of {STEPS}"


def test_the_newest_run_is_shown_although_it_has_finished(directory: Path, shell: Shell) -> None:
    outcome = shell.scope("status")
    assert outcome.status == 0
    assert f"quickstart is read from runs/quickstart: {FINISHED}" in outcome.err
    assert "finished" in outcome.out
    assert f"{STEPS} of {STEPS} steps" in outcome.out


def test_the_state_as_json_has_nothing_else_on_stdout(directory: Path, shell: Shell) -> None:
    run = json.loads(shell.scope("status", "--run", str(directory), "--json").out)
    assert run["status"]["phase"] == "finished"
    assert run["metadata"]["recorded_at"] is not None


def test_watching_a_run_that_has_ended_ends(directory: Path, shell: Shell) -> None:
    outcome = shell.scope("status", "--watch", "--run", str(directory))
    assert (outcome.status, "finished" in outcome.out) == (0, True)


def test_a_copy_and_an_archive_are_read_like_the_run(directory: Path, shell: Shell) -> None:
    copy = Path(shutil.copytree(directory, shell.home / "from host b"))
    archive = shutil.make_archive(str(shell.home / "packed"), "gztar", directory.parent, directory.name)
    for place in (str(copy), archive):
        outcome = shell.scope("entropy", "get", "--run", place)
        assert f"target {TARGET} nats/token, generation 2: in force from learner step 3" in outcome.out
        assert FINISHED in outcome.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["entropy", "history"], ["changed to 0.35 nats/token by ada", "in force from learner step 3"]),
        (["entropy", "watch"], [f"step {STEPS - 1:>6}  entropy 0.6000", "quickstart: finished"]),
        (["queue", "stats"], ["unread 0 of"]),
        (["audit"], ["ada@local set-target", "in force from step 3", "checkpoint"]),
    ],
)
def test_commands_that_read(directory: Path, shell: Shell, arguments: list[str], says: list[str]) -> None:
    outcome = shell.scope(*arguments, "--run", str(directory))
    assert outcome.status == 0
    assert FINISHED in outcome.err
    for words in says:
        assert words in outcome.out


def test_rollouts_are_read_from_an_archive(directory: Path, shell: Shell) -> None:
    archive = shutil.make_archive(str(shell.home / "packed"), "zip", directory.parent, directory.name)
    found = json.loads(shell.scope("rollouts", archive, "--step", "2", "--json").out)
    assert [one["prompt"] for one in found] == ["prompt of step 2"]


def test_a_killed_run_shows_how_far_it_came(directory: Path, shell: Shell) -> None:
    keep_steps(directory, 4)
    change_status(directory, phase="running")
    outcome = shell.scope("status", "--run", str(directory))
    assert f"it ended without a word at step 4 of {STEPS}" in outcome.err
    assert "failed" in outcome.out


def test_a_run_that_starts_is_shown_before_it_has_a_control_plane(directory: Path, shell: Shell) -> None:
    keep_steps(directory, 0)
    change_status(directory, phase="starting")
    with (directory / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = shell.scope("status", "--run", str(directory))
    assert f"it is live (starting at step 0 of {STEPS}" in outcome.err
    assert "starting" in outcome.out


@pytest.mark.parametrize(
    "arguments",
    [["stop"], ["pause"], ["checkpoint"], ["entropy", "set", "0.4"], ["entropy", "reset"], ["token", "list"]],
)
def test_a_change_of_a_run_that_has_ended_is_refused_with_how_it_ended(
    directory: Path, shell: Shell, arguments: list[str]
) -> None:
    message = shell.refused(*arguments, "--run", str(directory))
    assert FINISHED in message
    assert f"scope view {directory}" in message


def test_the_token_of_a_run_that_has_ended_is_not_sent_to_whoever_has_its_port(
    directory: Path, shell: Shell
) -> None:
    """Another program may listen there since: the command says how the run ended, without asking it."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        other.settimeout(0)
        endpoint = {"url": f"http://127.0.0.1:{other.getsockname()[1]}", "run_id": directory.name}
        (directory / "endpoint.json").write_text(json.dumps(endpoint))
        assert shell.scope("status", "--run", str(directory)).status == 0
        shell.refused("stop", "--run", str(directory))
        with pytest.raises(BlockingIOError):
            other.accept()
