"""`scope compare` and `scope eval` interrupted at any moment end soon, say so in one sentence and leave nothing."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.generation.tiny import tiny_config
from tests.support.ports import free_ports
from tests.support.runs.terminal import Ending, Terminal
from trainer.config.load import dump_yaml

pytestmark = [pytest.mark.cluster, pytest.mark.chaos, pytest.mark.timeout(900)]

WITHIN_SECONDS = 5.0
STEP_SECONDS = 10.0
"""after the first step: the step, the last checkpoint and the report"""
KEPT = "stopped; finished units are kept"
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
Open = Callable[..., Terminal]


def ends_cleanly(terminal: Terminal, number: signal.Signals, within: float, sentence: str) -> Ending:
    ending = terminal.interrupt(number)
    assert ending.status == 128 + number, ending
    assert ending.seconds < within, ending
    assert terminal.leftovers() == []
    assert "Traceback" not in ending.said, ending
    if number != signal.SIGHUP:
        assert sentence in ending.said, ending
    return ending


def compared(opened: Open, tmp_path: Path, *options: str) -> Terminal:
    """A comparison of one control on two seeds."""
    config, (port,) = tmp_path / "tiny.yaml", free_ports(1)
    config.write_text(dump_yaml(tiny_config()))
    settings = [f"warm_start.cache_dir={tmp_path / 'warm-start'}", f"control_plane.port={port}", "steps=200"]
    chosen = [part for setting in (*settings, "ray.dashboard=false") for part in ("--set", setting)]
    out = ["--out", str(tmp_path / "out"), "--controls", "scope", "--seeds", "2"]
    return opened("compare", str(config), *out, *options, *chosen)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
@pytest.mark.parametrize(
    ("moment", "seconds", "within"),
    [
        ("scope-s1: started", 0.0, WITHIN_SECONDS),
        ("scope-s1: started", 3.0, WITHIN_SECONDS),
        ("starting Ray", 2.0, WITHIN_SECONDS),
        ("starting 2 generators", 5.0, WITHIN_SECONDS),
        (" 2/200 ", 0.0, STEP_SECONDS),
    ],
    ids=lambda value: str(value).strip().replace(" ", "_"),
)
def test_a_comparison_of_full_runs_can_be_interrupted(
    opened: Open, tmp_path: Path, moment: str, seconds: float, within: float, number: signal.Signals
) -> None:
    terminal = compared(opened, tmp_path)
    terminal.wait_for(moment, tmp_path / "out" / "units" / "scope-s1" / "log.txt")
    time.sleep(seconds)
    ending = ends_cleanly(terminal, number, within, KEPT)
    assert "scope-s2" not in ending.said


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
@pytest.mark.parametrize("seconds", [0.0, 4.0, 15.0])
def test_a_comparison_in_one_process_can_be_interrupted(
    opened: Open, tmp_path: Path, seconds: float, number: signal.Signals
) -> None:
    terminal = compared(opened, tmp_path, "--in-process", "--parallel", "2")
    terminal.wait_for("scope-s2: started")
    time.sleep(seconds)
    ends_cleanly(terminal, number, WITHIN_SECONDS, KEPT)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("results in", 0.0),
        ("starting 1 engine", 0.0),
        ("starting 1 engine", 6.0),
        ("starting 1 engine", 40.0),
    ],
    ids=lambda value: str(value).replace(" ", "_"),
)
def test_an_evaluation_can_be_interrupted_and_continued(
    opened: Open, tiny_model_dir: Path, tmp_path: Path, moment: str, seconds: float, number: signal.Signals
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(dump_yaml(tiny_config()))
    options = ["--config", str(config), "--tasks", "countdown", "--n", "512", "--k", "1"]
    terminal = opened("eval", str(tiny_model_dir), *options, "--out", str(tmp_path / "out"))
    terminal.wait_for(moment)
    time.sleep(seconds)
    ends_cleanly(terminal, number, WITHIN_SECONDS, "interrupted")
