"""The console of rich that commands use: the texts that it shows are cleaned, only its own styles are escapes."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import IO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from services.host.terminal import plain_lines, write


class PlainConsole(Console):
    """Prints to standard output."""

    def __init__(self) -> None:
        # `[red]` and `:smile:` are text: they come from models and people.
        super().__init__(file=cast("IO[str]", _StandardOutput()), markup=False, emoji=False, highlight=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Clean every text just before it is printed; rich's own cursor movements are `control` segments."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain_lines(segment.text), segment.style)


class _StandardOutput(io.TextIOBase):
    """Standard output, written by `write`, whose errors commands know."""

    def __init__(self) -> None:
        self._stream = sys.stdout

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._stream.encoding

    def write(self, text: str, /) -> int:
        write(text, self._stream)
        return len(text)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()
