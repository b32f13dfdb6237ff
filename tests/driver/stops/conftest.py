"""Commands on terminals of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.runs.terminal import Terminal, short_temporary_folder


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Starts `scope` with some arguments on a terminal; every terminal is closed at the end."""
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}
    terminals: list[Terminal] = []
    with short_temporary_folder() as temporary:

        def start(*arguments: str) -> Terminal:
            terminals.append(Terminal(arguments, environment, temporary))
            return terminals[-1]

        yield start
        for terminal in terminals:
            terminal.close()
