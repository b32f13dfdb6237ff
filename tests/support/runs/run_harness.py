"""Drives the real command line for the end-to-end tests, with the same processes that a user gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.records.sinks import read_records
from services.records.step_record import StepRecord
from tests.support.repository import QUICKSTART, ROOT


@dataclass
class Run:
    """The directory of one run and the environment of its commands."""

    directory: Path
    environment: dict[str, str]
    settings: list[str]

    def start(self, *more: str, resume: bool = False) -> subprocess.Popen[str]:
        """Run `scope train` in its own session, so that a test can send Ctrl-C to the whole process group."""
        what = (
            ["--resume", str(self.directory)]
            if resume
            else [str(QUICKSTART), "--run-id", self.directory.name]
        )
        settings = [*([] if resume else self.settings), *more]
        log = (self.directory.parent / f"{self.directory.name}.log").open("a")
        return subprocess.Popen(
            self.command("train", *what, *(part for s in settings for part in ("--set", s))),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )

    def scope(self, *arguments: str) -> Any:
        """Run a command against the run and return its JSON output."""
        done = subprocess.run(
            self.command(*arguments, "--run", str(self.directory), "--json"),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @staticmethod
    def command(*arguments: str) -> list[str]:
        """The command line for `scope`."""
        return [sys.executable, "-m", "services.cli", *arguments]

    @property
    def log(self) -> str:
        """The driver's terminal output."""
        return (self.directory.parent / f"{self.directory.name}.log").read_text()

    def records(self, *, surviving: bool = True) -> list[StepRecord]:
        """The step records written so far."""
        return read_records(self.directory / "steps.jsonl", surviving=surviving)

    def json(self, name: str) -> Any:
        """A JSON file of the run directory."""
        return json.loads((self.directory / name).read_text())

    def wait_for(
        self, what: str, condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 240
    ) -> Any:
        """Poll until `condition` is true. Fails with the driver's output if the driver exits or the time runs out."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert process.poll() is None, f"the run ended while waiting for {what}:\n{self.log}"
            assert time.monotonic() < deadline, f"no {what} within {seconds} s:\n{self.log}"
            time.sleep(0.3)
        return value


def new_run(folder: Path, name: str, settings: Sequence[str]) -> Run:
    """A small run below `folder`, with its warm-start cache in the same place."""
    common = [
        f"runs_dir={folder}",
        f"warm_start.cache_dir={folder.parent / 'warm-start'}",
        "warm_start.steps=30",
        "warm_start.threads=1",
        "warm_start.batch_size=128",
        "rollout.prompts_per_step=8",
        "rollout.base_samples=4",
        "rollout.adaptive_samples=4",
        "evaluation.problems=16",
        "evaluation.samples=4",
        "evaluation.ks=[1, 4]",
    ]
    environment = os.environ | {"XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": str(ROOT)}
    folder.mkdir(parents=True, exist_ok=True)
    return Run(folder / name, environment, [*common, *settings])


def left_running(run: Run) -> list[str]:
    """Processes of the run, found by the state directory in their environment or the run's path in their command."""
    return processes_of(run.environment["XDG_STATE_HOME"], str(run.directory))


def processes_of(state: str, argument: str | None = None) -> list[str]:
    """Processes with the state directory `state` in their environment, or with `argument` in their command."""
    marker, named = f"XDG_STATE_HOME={state}".encode(), None if argument is None else argument.encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        if command and (marker in environment.split(b"\0") or (named is not None and named in command)):
            found.append(f"{process.name} {command.decode(errors='replace')[:120]}")
    return found
