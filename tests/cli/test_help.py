"""Help, version, examples and suggestions."""

from __future__ import annotations

import platform
import re
import shlex
import subprocess

import pytest

from services.cli.main import make_parser
from services.cli.parser import examples_of
from services.host import environment
from tests.support.command_line import LEAVES, PARSERS, Scope
from tests.support.repository import ROOT
from trainer.config.load import load_config

EXAMPLES = [(name, example) for name, parser in PARSERS.items() for example in examples_of(parser)]


def test_the_version_names_the_program_its_source_and_python(scope: Scope) -> None:
    outcome = scope("--version")
    asked = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=10
    )
    known = (ROOT / ".git").exists() and asked.returncode == 0
    commit = rf" \(commit {asked.stdout.strip()}(-dirty)?\)" if known else ""
    assert outcome.status == 0
    assert re.fullmatch(rf"scope \d+\.\d+\.\d+{commit}, Python {platform.python_version()}\n", outcome.out)


def test_the_version_needs_no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert re.fullmatch(r"\d+\.\d+\.\d+", environment.program_version())


@pytest.mark.parametrize("command", ["", "entropy", "queue", "token"])
def test_a_command_that_needs_another_shows_its_help(scope: Scope, command: str) -> None:
    alone, asked = scope(*command.split()), scope(*command.split(), "--help")
    assert (alone.status, alone.err) == (0, "")
    assert alone.out == asked.out
    assert alone.out.startswith(f"usage: scope {command}".strip())


@pytest.mark.parametrize("command", PARSERS)
def test_every_help_text_says_what_the_command_does_and_shows_examples(scope: Scope, command: str) -> None:
    outcome = scope(*command.split(), "--help")
    parser = PARSERS[command]
    assert (outcome.status, outcome.err) == (0, "")
    assert parser.description
    assert "examples:\n" in outcome.out
    most = 3 if command in LEAVES or not command else 5
    assert 1 <= len(examples_of(parser)) <= most


@pytest.mark.parametrize(("command", "example"), EXAMPLES)
def test_an_example_is_a_command_line_of_its_command(command: str, example: str) -> None:
    words = shlex.split(re.sub(r"^source <?\((scope .*?)( \| psub)?\)$", r"\1", example))
    assert words[0] == "scope"
    assert " ".join(words[1:]).startswith(command)
    options = make_parser().parse_args(words[1:])
    if (config := getattr(options, "config", None)) is not None:
        load_config(ROOT / config, options.overrides)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("trian x.yaml", "there is no command 'trian'. Did you mean train?"),
        ("statsu --json", "there is no command 'statsu'. Did you mean status?"),
        ("entropy gte", "there is no command 'entropy gte'. Did you mean entropy get?"),
        ("queue dead-leters", "Did you mean queue dead-letters?"),
        ("token whoamI", "Did you mean token whoami?"),
        ("xyzzy", "there is no command 'xyzzy'. The commands are train, submit,"),
        ("entropy xyzzy", "The commands are get, set, reset, history, watch."),
        (
            "entropy set 0.3 --ovr-steps 3",
            "scope entropy set has no option '--ovr-steps'. Did you mean --over-steps?",
        ),
        ("export --ot x", "scope export has no option '--ot'. Did you mean --out?"),
        ("train --sett=a.b=c", "scope train has no option '--sett'. Did you mean --set?"),
        ("status --qqqq", "scope status has no option '--qqqq'. See scope status --help."),
        ("--verson", "scope has no option '--verson'. Did you mean --version?"),
        (
            "token create --name x --scope oprator",
            "--scope='oprator' is not allowed: one of viewer, operator, admin.",
        ),
        ("token create --name x --scope oprator", "Did you mean operator?"),
        ("completion bsh", "Did you mean bash?"),
        ("status one two", "scope status takes no further argument, and 'two' is one too many."),
        ("audit --limit many", "argument --limit: invalid int value: 'many'. See scope audit --help."),
        ("export quickstart", "the following arguments are required: --out. See scope export --help."),
    ],
)
def test_a_slip_is_told_with_what_was_meant(scope: Scope, arguments: str, says: str) -> None:
    outcome = scope(*arguments.split())
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("scope: ")
    assert outcome.err.count("\n") == 1
    assert says in outcome.err
