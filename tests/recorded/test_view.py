"""A view of recorded runs: the control plane shows what the files say, and changes nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from services.control_plane.client import ControlPlaneClient
from services.recorded.find import recorded_runs
from services.recorded.serve import View, served
from services.records.sampled_rollouts import RolloutFilter
from tests.support.control_plane import is_problem
from tests.support.runs.recorded import STEPS, TARGET, keep_steps
from tests.support.runs.shell import Shell


@pytest.fixture(scope="module")
def view(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    """A finished run and a killed one, for a viewer."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("done", "killed"):
        shutil.copytree(finished_run, folder / name)
    keep_steps(folder / "killed", 4)
    (folder / "killed" / "run_state.json").unlink()
    with recorded_runs([folder]) as runs, served(runs, "viewer") as view:
        yield view


@pytest.fixture
def client(view: View) -> Iterator[ControlPlaneClient]:
    with ControlPlaneClient(view.url, view.token) as client:
        yield client


def test_the_list_has_every_run_and_none_is_live(client: ControlPlaneClient) -> None:
    runs = {run.id: run for run in client.runs()}
    assert {name: (run.phase, run.step) for name, run in runs.items()} == {
        "done": ("finished", STEPS),
        "killed": ("failed", 4),
    }
    assert all(run.recorded_at is not None for run in runs.values())


def test_a_finished_run_is_shown_as_when_it_was_live(client: ControlPlaneClient) -> None:
    run = client.run("done")
    assert run.metadata.recorded_at is not None
    assert run.metadata.started_at.timestamp() == 1000.0
    assert run.status.heartbeat_at <= run.metadata.recorded_at
    assert run.status.record is not None
    assert run.status.record["step"] == STEPS - 1
    assert list(run.status.generators) == ["base-generator-0"]
    assert [found.step for found in run.status.evaluations] == [0, STEPS]
    assert run.status.checkpoints_pending == 1


def test_a_killed_run_says_so(client: ControlPlaneClient) -> None:
    status = client.run("killed").status
    assert status.error is not None
    assert "ended without a word" in status.error


def test_the_entropy_target_has_its_history_with_who_set_it(client: ControlPlaneClient) -> None:
    target = client.entropy_target("done")
    assert (target.spec.target, target.metadata.updated_by, target.status.state) == (TARGET, "ada", "applied")
    events = client.entropy_history("done").events[::-1]
    assert [(event.event, event.generation, event.by) for event in events] == [
        ("changed", 1, "configuration"),
        ("applied", 1, None),
        ("changed", 2, "ada"),
        ("applied", 2, None),
    ]
    # Records tell when a target was in force, and not who set it.
    events = client.entropy_history("killed").events[::-1]
    assert [(event.event, event.generation, event.step) for event in events] == [
        ("changed", 1, None),
        ("applied", 1, 0),
        ("applied", 2, 3),
    ]


def test_curves_and_rollouts_are_those_of_the_files(client: ControlPlaneClient, view: View) -> None:
    series = httpx.get(
        f"{view.url}/v1/runs/done/metrics?fields=entropy,reward",
        headers={"Authorization": f"Bearer {view.token}"},
    ).json()
    assert series["steps"] == list(range(STEPS))
    assert series["values"]["reward"] == pytest.approx([0.01 * step for step in range(STEPS)])
    found = list(client.rollouts("done", RolloutFilter(contains="step 4"), 10))
    assert [one.step for one in found] == [4]


def test_the_event_stream_of_a_recorded_run_stays_open(view: View) -> None:
    headers = {"Authorization": f"Bearer {view.token}"}
    with httpx.stream("GET", f"{view.url}/v1/runs/done/events", headers=headers) as answer:
        assert next(answer.iter_lines()) == ": follow"


CHANGES = [
    ("POST", "/v1/runs/done:stop"),
    ("POST", "/v1/runs/done:pause"),
    ("PUT", "/v1/runs/done/entropy-target"),
    ("PATCH", "/v1/runs/done/entropy-target"),
    ("DELETE", "/v1/runs/done/entropy-target"),
    ("POST", "/v1/runs/done/tokens"),
    ("POST", "/v1/runs/done/queue/dead-letters:purge"),
    ("POST", "/nowhere"),
]


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_every_change_is_refused_as_one_of_a_view(view: View, method: str, path: str) -> None:
    headers = {"Authorization": f"Bearer {view.token}"}
    problem = is_problem(httpx.request(method, view.url + path, headers=headers), 403)
    assert problem["type"].endswith(":read-only")
    assert "recorded runs" in problem["detail"]


def test_an_admin_of_a_view_changes_nothing_either(finished_run: Path) -> None:
    with recorded_runs([finished_run]) as runs, served(runs, "admin") as view:
        headers = {"Authorization": f"Bearer {view.token}"}
        path = f"{view.url}/v1/runs/{finished_run.name}"
        is_problem(httpx.post(f"{path}:stop", headers=headers), 403)
        entries = httpx.get(f"{path}/audit", headers=headers).json()["entries"]
    assert [entry["action"] for entry in entries] == ["checkpoint", "set-target", "create-token"]


def test_a_view_needs_its_token(view: View) -> None:
    assert httpx.get(f"{view.url}/v1/runs").status_code == 401
    assert httpx.get(f"{view.url}/v1/runs", headers={"Authorization": "Bearer scope_none"}).status_code == 401


@contextmanager
def started(shell: Shell, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`scope view` as a process, and the address that it prints."""
    (shell.home / "tmp").mkdir()
    command = subprocess.Popen(
        [sys.executable, "-m", "services.cli", "view", *arguments],
        cwd=shell.home,
        env=shell.environment | {"TMPDIR": str(shell.home / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    try:
        yield command, command.stdout.readline().strip()
    finally:
        command.kill()
        command.wait()


def ended(shell: Shell, command: subprocess.Popen[str], ending: signal.Signals) -> str:
    """End the command by a signal, check that it leaves nothing, and return what it said."""
    os.kill(command.pid, ending)
    _, said = command.communicate(timeout=20)
    assert command.returncode == 0
    assert "Traceback" not in said
    assert list((shell.home / "tmp").iterdir()) == []
    assert not shell.left_running()
    return said


def test_the_address_of_one_run_leads_to_it_and_an_open_page_does_not_delay_the_end(
    directory: Path, shell: Shell
) -> None:
    with started(shell, str(directory)) as (command, address):
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/#/runs/quickstart\?token=(\S+)", address)
        assert found is not None, address
        headers = {"Authorization": f"Bearer {found[2]}"}
        with httpx.stream("GET", f"{found[1]}/v1/runs/quickstart/events", headers=headers) as stream:
            assert next(stream.iter_lines()) == ": follow"
            said = ended(shell, command, signal.SIGINT)
    assert f"quickstart: it finished at step {STEPS} of {STEPS}" in said


def test_without_an_argument_every_run_is_listed(directory: Path, shell: Shell) -> None:
    shutil.copytree(directory, directory.with_name("second"))
    with started(shell) as (command, address):
        url, _, token = address.partition("/#token=")
        with ControlPlaneClient(url, token) as client:
            assert [run.id for run in client.runs()] == ["quickstart", "second"]
        ended(shell, command, signal.SIGTERM)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["view"], ["runs has no run to show"]),
        (["view", "nowhere"], ["nowhere", "neither a run directory"]),
        (["view", "x" * 5000], ["cannot be read"]),
    ],
)
def test_a_view_of_nothing_is_refused(shell: Shell, arguments: list[str], says: list[str]) -> None:
    message = shell.refused(*arguments)
    for words in says:
        assert words in message


def test_a_port_that_cannot_be_used_is_named(directory: Path, shell: Shell) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for port in (taken.getsockname()[1], 99999):
            assert f"--port {port} cannot be used" in shell.refused(
                "view", str(directory), "--port", str(port)
            )
