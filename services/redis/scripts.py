"""The loader of Lua scripts. They are package data: `lua/<name>.lua` beside the Python module that runs them."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

_SHARED = "services.redis"
_INCLUDE = re.compile(r"^[ \t]*-- include: ([a-z_]+)\n", re.MULTILINE)


@cache
def script_text(package: str, name: str) -> str:
    """The script `name` of a package, with the fragments that it includes.

    A line `-- include: FRAGMENT` is replaced by `FRAGMENT.lua` of the same package or, where it has none, of
    `services.redis`. Fragments may include others. Raises FileNotFoundError for a script or fragment that is missing.
    """
    return _expanded(package, _file(package, name))


def _expanded(package: str, file: Traversable) -> str:
    def fragment(include: re.Match[str]) -> str:
        own = _file(package, include[1])
        return _expanded(package, own if own.is_file() else _file(_SHARED, include[1]))

    return _INCLUDE.sub(fragment, file.read_text("utf-8"))


def _file(package: str, name: str) -> Traversable:
    return files(package).joinpath("lua", f"{name}.lua")
