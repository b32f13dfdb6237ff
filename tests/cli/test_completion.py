"""Completion in shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.completion import SCRIPTS, completions
from services.cli.main import COMMANDS
from tests.support.repository import ROOT

CASES = [
    ("scope tr", "train"),
    ("scope entropy ", "get history reset set watch"),
    ("scope entropy s", "set"),
    ("scope entropy set 0.3 --ov", "--over-steps"),
    ("scope train --log-format ", "json text"),
    ("scope train --log-format = j", "json"),
    ("scope token create --scope ", "admin operator viewer"),
    ("scope status q", "quickstart"),
    ("scope status ", "grpo quickstart"),
    ("scope status --json g", "grpo"),
    ("scope train --resume q", "quickstart"),
    ("scope entropy set 0.3 --run g", "grpo"),
    ("scope eval q", "quickstart"),
    ("scope completion z", "zsh"),
    ("scope status quickstart ", ""),
    ("scope train dep", ""),
    ("scope nonsense x", ""),
]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two runs under runs/."""
    for name in ("quickstart", "grpo"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").write_text("{}")
    (tmp_path / "runs" / "no-run").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("line", "found"), CASES)
def test_commands_options_choices_and_runs_are_completed(runs: Path, line: str, found: str) -> None:
    assert completions(line.split(" ")) == found.split()


def test_every_command_is_completed() -> None:
    assert completions(["scope", ""]) == sorted(COMMANDS)


ASK = {
    "bash": 'eval "$(scope completion bash)"; COMP_WORDS=({words}); COMP_CWORD={last}; _scope scope; '
    'printf "%s\\n" "${{COMPREPLY[@]}}"',
    "zsh": "compdef() {{ :; }}; compadd() {{ print -rl -- $found; }}; "
    'eval "$(scope completion zsh)"; words=({words}); CURRENT=$(({last} + 1)); _scope',
    "fish": "scope completion fish | source; complete -C'{line}'",
}
"""a line for each shell that prints the completions of another one"""


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_shell_completes_with_its_script(runs: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (runs / "scope").write_text(f'#!/bin/sh\nexec {sys.executable} -m services.cli "$@"\n')
    (runs / "scope").chmod(0o755)
    environment = {"PATH": f"{runs}:{os.environ['PATH']}", "HOME": str(runs), "PYTHONPATH": str(ROOT)}
    for line, found in (("scope entropy s", "set"), ("scope train --resume q", "quickstart")):
        words = line.split()
        asked = ASK[shell].format(words=" ".join(words), last=len(words) - 1, line=line)
        done = subprocess.run(
            [shell, "-c", asked], capture_output=True, text=True, timeout=60, env=environment
        )
        assert done.stdout.split() == [found], done.stderr
