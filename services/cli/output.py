"""What commands print. Every command prints through this module, which lets no control character through."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

from services.host.terminal import OutputClosed, plain, plain_lines, write, write_line
from trainer.errors import ScopeError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console


def say(line: str) -> None:
    """Print one line; a line break in it is shown as an escape."""
    write_line(line, sys.stdout)


def say_lines(text: str) -> None:
    """Print a text whose line breaks are meant."""
    write(f"{plain_lines(text)}\n", sys.stdout)


def say_json(document: BaseModel | dict[str, Any] | list[Any], indent: int | None = 2) -> None:
    """Print a JSON document in ASCII, which escapes every control character. indent: None for one line."""
    # Not `model_dump_json`, which leaves DEL, C1 and bidirectional characters as they are.
    data = document if isinstance(document, dict | list) else document.model_dump(mode="json")
    write(f"{json.dumps(data, indent=indent)}\n", sys.stdout)


def remark(line: str) -> None:
    """Print one line on stderr that is no error, such as where the output comes from."""
    _to_stderr(plain(line))


def complain(message: str) -> None:
    """Print an error, one line for each of its paragraphs."""
    _to_stderr("scope: " + "\n\n".join(map(plain, message.split("\n\n"))))


def complain_lines(text: str) -> None:
    """Print a traceback."""
    _to_stderr(plain_lines(text))


def terminal() -> Console:
    """A console of rich for tables and live pictures, which interprets no markup in texts."""
    from services.cli.console import PlainConsole

    return PlainConsole()


def _to_stderr(text: str) -> None:
    # An error that nobody can read must not hide the exit status.
    with contextlib.suppress(OutputClosed, ScopeError):
        write(f"{text}\n", sys.stderr)
