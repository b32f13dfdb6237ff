"""Ways to name a run: its id, its directory, by position or with --run, here or behind a URL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.cli.parser import examples_of
from tests.support.command_line import LEAVES, Scope

LIVE = [name for name, parser in LEAVES.items() if any(a.dest == "url" for a in parser._actions)]
"""commands that talk to a run's control plane"""
POSITIONAL = [name for name in LIVE if any(a.dest == "named" for a in LEAVES[name]._actions)]
ARGUMENTS = {
    "entropy set": "0.4",
    "queue requeue": "17-0",
    "queue purge": "17-0 --reason x",
    "token create": "--name eve --scope viewer",
    "token revoke": "eve",
}
WITH_ANOTHER_ARGUMENT = ("entropy set", "queue requeue", "queue purge", "token revoke")
ENDLESS = ("entropy watch",)


def test_every_command_about_a_run_takes_it_in_each_way() -> None:
    about_a_run = [n for n, parser in LEAVES.items() if any(a.dest == "run" for a in parser._actions)]
    assert set(about_a_run) == {*LIVE, "eval", "export"}
    assert set(LIVE) - set(POSITIONAL) == set(WITH_ANOTHER_ARGUMENT)
    assert all(examples_of(parser) for parser in LEAVES.values())


@pytest.fixture
def newer(here: Path) -> Path:
    """A newer run than `here`, whose control plane is gone."""
    directory = here.parent / "newer"
    directory.mkdir()
    (directory / "endpoint.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "run_id": "newer"}))
    return directory


@pytest.mark.parametrize("command", [name for name in LIVE if name not in ENDLESS])
def test_every_command_takes_the_run_that_is_named(
    scope: Scope, here: Path, newer: Path, command: str
) -> None:
    way = [here.name] if command in POSITIONAL else ["--run", here.name]
    outcome = scope(*command.split(), *ARGUMENTS.get(command, "").split(), *way)
    # Some requests are refused, by the control plane of the run that was named.
    assert "does not answer" not in outcome.err
    assert "There is no run" not in outcome.err


@pytest.mark.parametrize(
    "way",
    [
        ["RUN"],
        ["--run", "RUN"],
        ["--run-id", "RUN"],
        ["RUN", "--run", "RUN"],
        ["runs/RUN"],
        ["runs/RUN/"],
        ["--run", "./runs/RUN"],
        ["HERE"],
        ["elsewhere/another-name"],
    ],
)
def test_a_run_is_named_by_id_and_by_directory(
    scope: Scope, here: Path, newer: Path, tmp_path: Path, way: list[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "another-name").symlink_to(here)
    named = [word.replace("RUN", here.name).replace("HERE", str(here)) for word in way]
    outcome = scope("entropy", "get", *named, "--json")
    assert outcome.status == 0
    assert json.loads(outcome.out)["metadata"]["run_id"] == here.name


@pytest.mark.parametrize("way", [["RUN"], ["--run", "RUN"], ["--run-id", "RUN"], ["runs/RUN"]])
def test_a_run_behind_a_url_is_named_in_the_same_ways(
    scope: Scope, url: str, here: Path, way: list[str]
) -> None:
    named = [word.replace("RUN", here.name) for word in way]
    outcome = scope("entropy", "get", "--url", url, "--json", *named)
    assert outcome.status == 0
    assert json.loads(outcome.out)["metadata"]["run_id"] == here.name


def test_without_a_name_the_newest_run_is_meant(scope: Scope, here: Path) -> None:
    assert here.name in scope("status").out


@pytest.mark.parametrize(
    "command",
    ["status", "stop", "export --out x", "rollouts", "entropy set 0.3 --run", "eval --run", "train --resume"],
)
def test_a_run_that_there_is_not_is_told_with_those_that_there_are(
    scope: Scope, tmp_path: Path, command: str
) -> None:
    for name in ("quickstart", "grpo"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").write_text("{}")
    (tmp_path / "runs" / "no-run").mkdir()
    outcome = scope(*command.split(), "quikstart")
    assert (outcome.status, outcome.out) == (2, "")
    assert "There is no run 'quikstart': it is neither a run directory nor the id of a run" in outcome.err
    assert "grpo" in outcome.err
    assert "no-run" not in outcome.err
    assert outcome.err.endswith("Did you mean quickstart?\n")


def test_many_runs_are_not_all_listed(scope: Scope, tmp_path: Path) -> None:
    for number in range(15):
        (tmp_path / "runs" / f"run-{number}").mkdir(parents=True)
        (tmp_path / "runs" / f"run-{number}" / "config.yaml").write_text("{}")
    assert "and 5 more." in scope("status", "zzz").err


@pytest.mark.parametrize("name", ["", "~nobody-of-that-name/x", "x" * 300, "/", "nul\x00byte", "runs"])
def test_a_name_that_can_be_none_is_refused(scope: Scope, name: str) -> None:
    outcome = scope("status", "--run", name)
    assert outcome.status == 2
    assert outcome.err.startswith("scope: There is no run ")
    assert outcome.err.endswith("under runs/, which has none.\n")


def test_two_runs_at_once_are_refused(scope: Scope) -> None:
    outcome = scope("stop", "one", "--run", "two")
    assert outcome.status == 2
    assert "two runs, 'one' and 'two'" in outcome.err
