"""A run that is interrupted before its first step ends within seconds, says one sentence and leaves nothing."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.generation.tiny import tiny_config
from tests.support.ports import free_ports
from tests.support.runs.terminal import Terminal
from trainer.config.load import dump_yaml

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

WITHIN_SECONDS = 5.0
Open = Callable[..., Terminal]
NAME = "stopped"


@pytest.fixture
def train(opened: Open, tmp_path: Path) -> Open:
    """Starts the run `stopped` on a terminal; the same directory each time."""
    control_plane, dashboard = free_ports(2)
    settings = [
        f"runs_dir={tmp_path / 'runs'}",
        f"control_plane.port={control_plane}",
        f"ray.dashboard_port={dashboard}",
        f"warm_start.cache_dir={tmp_path / 'warm-start'}",
    ]
    config = tmp_path / "tiny.yaml"
    config.write_text(dump_yaml(tiny_config()))

    def start(*more: str) -> Terminal:
        chosen = [part for setting in (*settings, *more) for part in ("--set", setting)]
        return opened("train", str(config), "--run-id", NAME, *chosen)

    return start


def ends_cleanly(terminal: Terminal, number: signal.Signals, runs: Path) -> None:
    ending = terminal.interrupt(number)
    assert ending.status == 128 + number, ending
    assert ending.seconds < WITHIN_SECONDS, ending
    assert terminal.leftovers() == []
    assert not (runs / NAME).exists()
    if number != signal.SIGHUP:
        assert "stopped before the first step; nothing was kept" in ending.said
    assert "Traceback" not in ending.said
    # The line at the bottom, which is erased, has no time.
    assert len(re.findall(r"\[ *[0-9]+:[0-9]{2}\]", ending.said)) <= 3, ending.said


def test_a_start_that_was_killed_leaves_nothing_in_the_way_of_one_that_is_interrupted(
    train: Open, tiny_model_dir: Path, tmp_path: Path
) -> None:
    first = train(f"model.path={tiny_model_dir}")
    first.wait_for("starting 2 generators")
    (folder,) = first.temporary.glob("scope-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in folder.iterdir()} == {".private-folder", "ray", "tmp"}
    assert first.interrupt(signal.SIGKILL).status == -signal.SIGKILL
    assert first.leftovers(seconds=30) == []
    assert (tmp_path / "runs" / NAME / "logs" / "ray" / "gcs_server.out").exists()
    second = train(f"model.path={tiny_model_dir}")
    second.wait_for("starting Ray")
    # Ray's first process is on its way, and Ray waits for it.
    deadline = time.monotonic() + 60
    while not any(second.temporary.glob("scope-*/ray/session_latest/logs/gcs_server.out")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    ends_cleanly(second, signal.SIGINT, tmp_path / "runs")


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("run stopped in", 0.0),
        ("starting model: warm start", 0.0),
        ("starting Ray", 1.0),
        ("starting Ray", 5.0),
        ("starting 2 generators", 0.0),
        ("starting 2 generators", 8.0),
        ("control plane:", 0.5),
        ("evaluating step 0", 0.0),
        ("held-out pass@1", 6.0),
    ],
    ids=lambda value: str(value).replace(" ", "_"),
)
def test_every_moment_before_the_first_step_can_be_interrupted(
    train: Open, tmp_path: Path, moment: str, seconds: float, number: signal.Signals
) -> None:
    terminal = train()
    terminal.wait_for(moment)
    time.sleep(seconds)
    ends_cleanly(terminal, number, tmp_path / "runs")
