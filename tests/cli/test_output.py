"""Cleaned text, and streams that cannot be written."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.driver.progress import JsonProgress, Progress
from services.host.terminal import PlainFormatter, plain, plain_lines
from services.records.sampled_rollouts import RolloutFile
from tests.support.command_line import LEAVES, Outcome, Scope
from tests.support.hostile_text import HOSTILE, forged, harmful
from tests.support.repository import ROOT
from tests.support.sampled_rollouts import rollout


@settings(max_examples=40)
@given(st.text(st.characters(codec=None)))
def test_any_text_becomes_one_line_without_control_characters(text: str) -> None:
    assert harmful(plain(text)) == set()
    assert len(plain(text).splitlines()) <= 1
    assert harmful(plain_lines(text)) == set()
    assert plain_lines(text).count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("grün, 日本語, α=0.3, 1\u00a0000, 👍, e\u0301", "grün, 日本語, α=0.3, 1\u00a0000, 👍, e\u0301"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b2J\x7f\x00", r"\x9b2J\x7f\x00"),
        ("a\r\n\tb", r"a\r\n\tb"),
        ("\u202eabc\u2066\u200b\ufeff", r"\u202eabc\u2066\u200b\ufeff"),
        ("\u2028\u2029\x85", r"\u2028\u2029\x85"),
        ("\ud800\udfff", r"\ud800\udfff"),
        ("\u3164\u115f", r"\u3164\u115f"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_visible_characters_stay_and_others_are_escaped(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_the_terminal_output_of_a_run_is_clean() -> None:
    out = io.StringIO()
    Progress(out).say(HOSTILE)
    JsonProgress("r", out).say(HOSTILE)
    assert harmful(out.getvalue()) == set()
    assert forged(out.getvalue()) == []
    assert out.getvalue().count("\n") == 2


def test_a_log_record_is_one_clean_line_and_its_traceback_is_clean() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(PlainFormatter("%(levelname)s: %(message)s"))
    logger = logging.Logger("any")
    logger.addHandler(handler)
    logger.error("about %s", HOSTILE)
    assert out.getvalue().count("\n") == 1
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logger.exception("failed")
    assert harmful(out.getvalue()) == set()


@pytest.fixture
def many(tmp_path: Path) -> str:
    """A run directory with more rollouts than a pipe holds."""
    (tmp_path / "config.yaml").write_text("{}")
    RolloutFile(tmp_path, 1 << 24).append([rollout(step, prompt="…é" * 500) for step in range(200)])
    return str(tmp_path)


def program(*arguments: str, shell: str = "{}", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as its own process, in a line of bash with `{}` in its place."""
    command = f'{sys.executable} -m services.cli "$@"'
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shell.format(command)}", "scope", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("how", [["--limit", "200"], ["--limit", "200", "--json"]])
def test_a_reader_that_leaves_ends_the_command_quietly(many: str, how: list[str]) -> None:
    done = program("rollouts", many, *how, shell="{} | head -1")
    assert (done.returncode, done.stderr) == (141, "")
    assert done.stdout.count("\n") == 1


class Closed(io.StringIO):
    """A pipe without a reader."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.fixture
def unread(scope: Scope, monkeypatch: pytest.MonkeyPatch) -> Scope:
    """Run `scope` with a standard output that nobody reads."""

    def unread(*arguments: str) -> Outcome:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", Closed())
            return scope(*arguments)

    return unread


@pytest.mark.parametrize("command", [*LEAVES, "", "entropy"])
def test_the_help_of_every_command_ends_quietly_without_a_reader(unread: Scope, command: str) -> None:
    assert unread(*command.split(), "--help") == Outcome(141, "", "")


def test_what_shows_a_run_ends_quietly_without_a_reader(unread: Scope, hostile: Path) -> None:
    for command in (
        "status",
        "entropy get",
        "queue stats",
        "rollouts",
        "token whoami",
        "audit",
        "token list",
    ):
        assert unread(*command.split()) == Outcome(141, "", ""), command
        assert unread(*command.split(), "--json") == Outcome(141, "", ""), command


def test_a_closed_standard_output_is_no_error(many: str) -> None:
    done = program("rollouts", many, shell="{} >&-")
    assert (done.returncode, done.stderr) == (0, "")
    done = program("trian", shell="{} 2>&-")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_a_full_disk_is_one_sentence(many: str, how: list[str]) -> None:
    done = program("rollouts", many, *how, shell="{} >/dev/full")
    assert done.returncode == 2
    assert done.stderr == "scope: The output of this command cannot be written: No space left on device.\n"


def test_an_encoding_that_lacks_a_character_shows_its_escape(many: str) -> None:
    done = program("rollouts", many, "--limit", "1", LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u2026\xe9" in done.stdout
    assert done.stdout.isascii()
