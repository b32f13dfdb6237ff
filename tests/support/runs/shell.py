"""Runs the command line with a home directory of its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from services.cli import main
from tests.support.repository import QUICKSTART, ROOT


@dataclass
class Outcome:
    """The result of a command."""

    status: int
    out: str
    err: str
    seconds: float


class Shell:
    """Runs `scope` in its own directory and checks what it leaves there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "PYTHONPATH": str(ROOT),
        }

    def scope(self, *arguments: str, **environment: str) -> Outcome:
        """Run the command in this process, which saves the seconds of starting Python."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.home)
            for name in ("SCOPE_TOKEN", "SCOPE_REDIS_PASSWORD"):
                patch.delenv(name, raising=False)
            for name, value in (self.environment | environment).items():
                patch.setenv(name, value)
            started = time.monotonic()
            try:
                status = main(arguments)
            except SystemExit as end:
                status = int(end.code or 0)
        return Outcome(status, out.getvalue(), err.getvalue(), time.monotonic() - started)

    def program(self, *arguments: str, **environment: str) -> Outcome:
        """Run the command as a separate process, as users start it."""
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", *arguments],
            cwd=self.home,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Outcome(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    def refused(self, *arguments: str, program: bool = False, **environment: str) -> str:
        """Check that the command is refused as a user error and leaves nothing behind; returns the message."""
        before = sorted(self.home.rglob("*"))
        outcome = (self.program if program else self.scope)(*arguments, **environment)
        assert outcome.status == 2, outcome
        message = outcome.err.strip()
        assert message.startswith("scope: "), message
        assert "Traceback" not in message
        assert "\n" not in message, f"not one paragraph: {message}"
        assert sorted(self.home.rglob("*")) == before, "it left files behind"
        assert not self.left_running()
        return message.removeprefix("scope: ")

    def train(self, *settings: str, program: bool = False, **environment: str) -> str:
        """Check that `scope train` refuses the settings; returns the message."""
        sets = [part for setting in settings for part in ("--set", setting)]
        return self.refused("train", str(QUICKSTART), "--run-id", "r", *sets, program=program, **environment)

    def left_running(self) -> list[psutil.Process]:
        """Processes started by this shell that are still running."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("XDG_STATE_HOME") == self.environment["XDG_STATE_HOME"]:
                    found.append(process)
            except psutil.Error:
                continue
        return found
