"""Fields that hold a path: what may stand in them, and the path that they mean.

The text stays as it is written, so that `~` means the home directory of the user whose process uses the path, also on
another machine. `expanded` is the one place where it becomes a directory.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from trainer.errors import ScopeError

_VARIABLE = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[^}]*\})")


def expanded(path: str) -> Path:
    """The path that a field means: `~` and `~user` at its start are home directories. Raises ScopeError."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ScopeError(
            f"The path {path!r} begins with a home directory that is not known on this machine: write it out."
        ) from error


def check_path(path: str) -> str:
    """Return `path` as it is. Raises ValueError for a text that names no file or, by mistake, another one."""
    if not path.strip():
        raise ValueError(f"the path {path!r} is empty: name a file or a directory, or leave the field out")
    if path != path.strip():
        raise ValueError(f"the path {path!r} begins or ends with white space: remove it")
    if any(not _allowed(character) for character in path):
        raise ValueError(f"the path {path!r} contains a control character: remove it")
    if variable := _VARIABLE.search(path):
        raise ValueError(
            f"the path {path!r} contains {variable[0]}, and the configuration reads no environment variables: write "
            "the path out, or begin it with ~ for the home directory"
        )
    return path


def _allowed(character: str) -> bool:
    return character >= " " and not "\x7f" <= character <= "\x9f" and not "\ud800" <= character <= "\udfff"


PathText = Annotated[str, AfterValidator(check_path)]
