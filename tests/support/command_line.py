"""The command line in tests: what a command returned, and every command that there is."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from services.cli.main import make_parser


@dataclass(frozen=True)
class Outcome:
    """The result of a command."""

    status: int
    out: str
    err: str


Scope = Callable[..., Outcome]
"""runs `scope` with the given arguments"""


def _below(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield from _below(inner, f"{name} {word}".strip())


PARSERS = dict(_below(make_parser(), ""))
"""every command, as typed after `scope`, and its parser; the empty name is `scope` alone"""
LEAVES = {name: parser for name, parser in PARSERS.items() if parser._subparsers is None}
"""those that take no further command"""
