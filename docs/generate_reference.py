"""Writes what the documentation takes from the code.

    .venv/bin/python docs/generate_reference.py

docs/reference/configuration.md and docs/reference/command-line.md are written whole; of docs/architecture.md, the
table of packages; of docs/how-to/stop-and-resume.md, the table of what a resumption may change.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from services.cli.connect import add_run
from services.cli.main import make_parser
from services.cli.parser import examples_of
from services.run.resumption import RULES, Rule
from trainer import config
from trainer.config.fields import FieldDescription, describe_fields

DOCS = Path(__file__).parent
ROOT = DOCS.parent
CONFIGURATION = DOCS / "reference" / "configuration.md"
COMMAND_LINE = DOCS / "reference" / "command-line.md"
ARCHITECTURE = DOCS / "architecture.md"
RESUMING = DOCS / "how-to" / "stop-and-resume.md"

CONFIGURATION_INTRODUCTION = """\
# Configuration

<!-- Written by docs/generate_reference.py from trainer/config/. Edit the fields there and run the script again. -->

One YAML file describes a run. `deploy/configs/` has files to start from: `deploy/configs/countdown-cpu.yaml` is the
quickstart, `deploy/configs/countdown-cot-cpu.yaml` the task with a chain of thought. A field that the file leaves out
has the default given here. `scope train --set a.b=c` overrides a field; it may be given any number of times, and the
last one wins. A field of text takes the value as it stands, without quotes: `--set model.system_prompt='Answer: yes'`;
`null` unsets a text that may be unset. Any other value is read as YAML, so `--set evaluation.ks=[1,8]` is a list.

Types are strict: `3` is not a string and `"3"` is not a number. An unknown field, a wrong type or a value out of range
is refused before anything starts, with the field, the value and what is allowed. Some fields depend on each other; the
message then names both. The resolved tree is written to `config.yaml` in the run directory.

`~` at the start of a path is the home directory. A path with an environment variable (`$HOME`) is refused.

The tree is immutable, and no environment variable changes a field. Environment variables carry secrets only:
`SCOPE_REDIS_PASSWORD` is the password of `redis.url`, `SCOPE_TOKEN` a bearer token of the control plane, and
`task.verifier.authorization_variable` names the variable whose value a remote verifier receives as authorization.
"""

COMMAND_LINE_INTRODUCTION = """\
# Command line

<!-- Written by docs/generate_reference.py from the parsers of services/cli/. Edit them and run the script again. -->

`make install` puts `scope` into `.venv/bin/`. `scope COMMAND --help` prints the same options as this page, and
`scope --version` the version, the commit of a checkout and that of Python. `scope completion` prints a script for bash,
zsh or fish that completes commands, options, choices and the ids of runs; put its line into the shell's start file.

| exit status | meaning |
|---|---|
| 0 | the command succeeded; the run finished, or stopped in order |
| 1 | an unexpected error, with a traceback; a check or a watched run that failed; a `--wait` that ran out |
| 2 | an error that the message explains and that the user can correct |
| 130, 143, 129 | interrupted by Ctrl-C, SIGTERM or a closed terminal; a run only before its first step or twice |
| 141 | nobody reads the output any more, as after a pipe to `head -1` |

Whatever a command prints is free of control characters: those in texts of models, people and servers are shown as
escapes such as `\\x1b`. `--json` prints ASCII.

"""

SELECTING = """\
## Options that select a run

Commands that talk to a control plane take these options. Without any of them they use the newest run under `runs/`.
A command without another argument also takes the run as its argument: `scope status quickstart` is `scope status --run
quickstart`.

"""

COLUMNS = "| field | type and range | default | meaning |\n|---|---|---|---|"
OPTION_COLUMNS = "| argument | meaning |\n|---|---|"
RULE_COLUMNS = "| fields | a change |\n|---|---|"
RULES_TABLE = re.compile(r"(?<=<!-- resumption -->\n).*?(?=<!-- end of resumption -->)", re.DOTALL)
PACKAGE_COLUMNS = "| package | what it holds |\n|---|---|"
PACKAGES = re.compile(r"(?<=<!-- packages -->\n).*?(?=<!-- end of packages -->)", re.DOTALL)


def configuration_page() -> str:
    """docs/reference/configuration.md."""
    blocks = [
        _block(name, list(fields))
        for name, fields in groupby(describe_fields(), key=lambda field: field.path.rpartition(".")[0])
    ]
    return "\n".join([CONFIGURATION_INTRODUCTION, *blocks])


def command_line_page() -> str:
    """docs/reference/command-line.md."""
    sections = [_command(name, parser, purpose) for name, parser, purpose in commands()]
    return COMMAND_LINE_INTRODUCTION + "\n".join([*sections, SELECTING + _options(_selecting())])


def architecture_page() -> str:
    """docs/architecture.md as it is, with the table of packages written anew."""
    tables = [_package_table(room) for room in ("services", "trainer")]
    return PACKAGES.sub(lambda _: "\n" + "\n\n".join(tables) + "\n\n", ARCHITECTURE.read_text())


def resuming_page() -> str:
    """docs/how-to/stop-and-resume.md as it is, with the table of what a resumption may change written anew."""
    rows = [f"| {_rule_fields(rule)} | {_cell(_rule_effect(rule))} |" for rule in RULES]
    table = "\n".join([RULE_COLUMNS, *rows])
    return RULES_TABLE.sub(lambda _: f"\n{table}\n\n", RESUMING.read_text())


def _rule_effect(rule: Rule) -> str:
    match rule.kind:
        case "free":
            return f"allowed: {rule.about}" if rule.about else "allowed, from here on"
        case "with_model_path":
            return f"allowed where `model.path` is set; otherwise fixed: {rule.about}"
        case "with_same_roles":
            return f"allowed between laws: {rule.effect}; otherwise fixed: {rule.about}"
        case "fixed":
            return f"fixed: {rule.about}"


def _rule_fields(rule: Rule) -> str:
    """The fields of a rule; a block of which every field has the same rule is named as a whole."""
    every = [field.path for field in describe_fields()]
    shown: list[str] = []
    for field in rule.fields:
        blocks = [field[:end] for end, character in enumerate(field) if character == "."]
        whole = (
            block
            for block in blocks
            if all(path in rule.fields for path in every if path.startswith(f"{block}."))
        )
        block = next(whole, None)
        shown.append(f"`{field}`" if block is None else f"`{block}.*`")
    return ", ".join(dict.fromkeys(shown))


def packages(room: str) -> dict[str, str]:
    """Every package under `services` or `trainer`, as a path, and the first sentence of its docstring."""
    found = sorted((ROOT / room).rglob("__init__.py"), key=lambda path: path.parent.parts)
    return {
        f"{file.parent.relative_to(ROOT)}/": _first_sentence(file)
        for file in found
        if file.parent.name != room
    }


def commands() -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Name, parser and purpose of every command that takes no further subcommand."""
    parsers = _subparsers(make_parser())
    for name, parser, purpose in parsers:
        inner = _subparsers(parser)
        if not inner:
            yield name, parser, purpose
        for action, action_parser, action_purpose in inner:
            yield f"{name} {action}", action_parser, action_purpose


def arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What a command takes, but for `--help`."""
    return [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]


def _subparsers(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.ArgumentParser, str]]:
    return [
        (choice.dest, action.choices[choice.dest], choice.help or "")
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for choice in action._choices_actions
    ]


def _selecting() -> list[argparse.Action]:
    parser = argparse.ArgumentParser()
    add_run(parser, positional=False)
    return arguments(parser)


def _command(name: str, parser: argparse.ArgumentParser, purpose: str) -> str:
    selecting = {action.dest for action in _selecting()}
    taken = arguments(parser)
    selects = selecting <= {action.dest for action in taken}
    own = [action for action in taken if not (selects and action.dest in selecting)]
    parts = [f"## `scope {name}`", f"{purpose[0].upper()}{purpose[1:]}."]
    parts += [_options(own).rstrip("\n")] if own else []
    if selects:
        also = "Also takes" if own else "Takes"
        parts.append(f"{also} the [options that select a run](#options-that-select-a-run).")
    parts.append("\n".join(f"    {example}" for example in examples_of(parser)))
    return "\n\n".join(parts) + "\n"


def _options(actions: list[argparse.Action]) -> str:
    return "\n".join([OPTION_COLUMNS, *(_option(action) for action in actions)]) + "\n"


def _option(action: argparse.Action) -> str:
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    name = ", ".join(action.option_strings)
    takes = action.nargs != 0
    shown = " ".join(part for part in (name, str(value) if takes else "") if part)
    if action.nargs == "+":
        shown += " ..."
    meaning = action.help or ""
    if action.required == bool(action.option_strings):
        meaning += " (required)" if action.required else " (optional)"
    elif takes and "default" not in meaning and action.default not in (None, [], ""):
        meaning += f"; default: {action.default}"
    return f"| `{_cell(shown)}` | {_cell(meaning)} |"


def _package_table(room: str) -> str:
    rows = [f"| `{path}` | {_cell(sentence)} |" for path, sentence in packages(room).items()]
    return "\n".join([PACKAGE_COLUMNS, *rows])


def _first_sentence(file: Path) -> str:
    """Up to the first full stop that ends a sentence of the module's docstring."""
    docstring = " ".join((ast.get_docstring(ast.parse(file.read_text())) or "").split())
    return re.split(r"(?<=\.) ", docstring, maxsplit=1)[0]


def _block(name: str, fields: list[FieldDescription]) -> str:
    rows = "\n".join(_row(field) for field in fields)
    heading = f"## `{name}`" if name else "## The run"
    return f"{heading}\n\n{_purpose(name)}\n\n{COLUMNS}\n{rows}\n"


def _purpose(name: str) -> str:
    """The docstring of the block's class, as one paragraph."""
    model: type[config.Block] = config.RunConfig
    for part in filter(None, name.split(".")):
        annotation = model.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, config.Block)):
            raise TypeError(f"{name} is not a block of the configuration")
        model = annotation
    return " ".join((model.__doc__ or "").split())


def _row(field: FieldDescription) -> str:
    shown = field.default if isinstance(field.default, str) else json.dumps(field.default)
    cells = (
        f"`{field.path}`",
        f"{field.type} {field.allowed}".strip(),
        f"`{shown}`",
        field.description,
    )
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


PAGES = {
    CONFIGURATION: configuration_page,
    COMMAND_LINE: command_line_page,
    ARCHITECTURE: architecture_page,
    RESUMING: resuming_page,
}

if __name__ == "__main__":
    for path, page in PAGES.items():
        path.write_text(page())
