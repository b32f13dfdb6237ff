"""Text on terminals and in logs: control characters taken out of it, and lines written to a stream that may be gone."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import unicodedata
from typing import TextIO

from trainer.errors import ScopeError

_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
"""Letters and marks without a shape, which `str.isprintable` takes for visible."""
TAB = 4


class OutputClosed(Exception):
    """Nobody reads the output any more, as in `scope audit | head -1`. What is written afterwards is discarded."""


def plain(text: str) -> str:
    r"""`text` as one line of visible characters; any other becomes its escape, such as `\x1b` or `\n`.

    Others are control characters, line breaks, changes of the writing direction, characters of no width and lone
    surrogates. Texts from models, verifiers, people and servers must not move the cursor, forge a line or hide.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _is_visible(c) else c.encode("unicode_escape").decode() for c in text)


def plain_lines(text: str) -> str:
    """Like `plain`, for text whose line breaks are meant; tabs become spaces."""
    return "\n".join(plain(line) for line in text.expandtabs(TAB).split("\n"))


class PlainFormatter(logging.Formatter):
    """Formats log records without control characters. A message is one line; only a traceback has more."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of the record, without its traceback."""
        return plain(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """The record, with its traceback."""
        return plain_lines(super().format(record))


def write(text: str, stream: TextIO) -> None:
    """Write `text` as it is, and flush.

    Raises OutputClosed when nobody reads the stream, and ScopeError when it cannot be written (a full disk).
    """
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError as error:
        _discard(stream)
        raise OutputClosed("nobody reads the output of this command any more") from error
    except OSError as error:
        _discard(stream)
        raise ScopeError(f"The output of this command cannot be written: {error.strerror}.") from error


def write_line(text: str, stream: TextIO) -> None:
    """Write one line, cleaned by `plain`. Raises as `write`."""
    write(f"{plain(text)}\n", stream)


def prepare_streams() -> None:
    """Make the standard streams writable whatever the shell made of them.

    A closed one is discarded: the next file opened would otherwise take its number and receive the output of
    libraries. A character that the locale's encoding lacks is written as its escape.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = _usable(sys.stdout)
    sys.stderr = _usable(sys.stderr)


def _usable(stream: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def _discard(stream: TextIO) -> None:
    """Send the stream to /dev/null, also what it still holds and would write when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _is_visible(character: str) -> bool:
    shown = character.isprintable() or unicodedata.category(character) == "Zs"
    return shown and character not in _BLANKS
