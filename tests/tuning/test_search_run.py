"""A real search: interrupted, continued and finished."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.generation.tiny import tiny_config
from trainer.config.load import dump_yaml

START_SECONDS = 400.0
"""for Ray, and for the first trial, on a busy machine"""
END_SECONDS = 30.0


@pytest.fixture
def command(tmp_path: Path, tiny_model_dir: Path) -> list[str]:
    """A search of three trials of two steps."""
    config = tiny_config(
        model={"path": str(tiny_model_dir)},
        rollout={"prompts_per_step": 3},
        evaluation={"samples": 4, "ks": [1, 4]},
    )
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_yaml(config))
    scope = [sys.executable, "-m", "services.cli", "tune", str(path), "--out", str(tmp_path / "out")]
    return [*scope, "--metric", "pass@4", "--trials", "3", "--set", "steps=2", "--evaluate-every", "0"]


def trials(out: Path) -> dict[int, Any]:
    """The record of each trial by its number."""
    found = [json.loads(path.read_bytes()) for path in out.glob("trials/*/trial.json")]
    return {record["number"]: record for record in found}


def begun(out: Path) -> list[Path]:
    """The requests of the units that were started."""
    return list(out.glob("trials/*/units/*/request.json"))


def wait_until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


@pytest.fixture
def interrupted(command: list[str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The search, ended by a Ctrl-C while its second trial ran."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as search:
        try:
            wait_until(lambda: search.poll() is not None or len(begun(tmp_path / "out")) == 2, START_SECONDS)
            search.send_signal(signal.SIGINT)
            search.wait(END_SECONDS)
            yield search
        finally:
            search.kill()


def processes_of(out: Path) -> list[psutil.Process]:
    """Processes that were started with a path in the results directory."""
    return [p for p in psutil.process_iter(["cmdline"]) if str(out) in " ".join(p.info["cmdline"] or [])]


def test_an_interrupted_search_keeps_what_it_found_and_is_continued(
    command: list[str], interrupted: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert interrupted.stdout is not None
    said = interrupted.stdout.read()
    assert interrupted.returncode == 130
    assert "Continue with: scope tune" in said
    assert "best: --set entropy_control.target=0.4" in said
    out = tmp_path / "out"
    assert [record["state"] for _, record in sorted(trials(out).items())] == ["finished", "running"]
    wait_until(lambda: not processes_of(out), END_SECONDS)
    first = trials(out)[1]["values"]
    (result,) = out.glob("trials/target-0.4/units/*/result.json")
    before = result.stat().st_mtime_ns

    done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS)
    assert done.returncode == 0, done.stderr
    assert "3 trials (in-process), 1 of them ended" in done.stdout
    assert "best: --set entropy_control.target=" in done.stdout
    after = trials(out)
    assert {number: record["state"] for number, record in after.items()} == dict.fromkeys(
        (1, 2, 3), "finished"
    )
    assert (after[1]["values"], result.stat().st_mtime_ns) == (first, before), "it has not run again"
    document = json.loads((out / "search.json").read_bytes())
    assert len(document["trials"]) == 3
    assert document["best"][0].startswith("entropy_control.target=")
    assert (out / "search.png").exists()
    again = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS)
    assert again.returncode == 0
    assert "starting Ray" not in again.stdout
