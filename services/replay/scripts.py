"""Loads the Lua scripts of the replay protocol; they are package data."""

from __future__ import annotations

from importlib.resources import files


def script(name: str) -> str:
    """The text of `name`.lua."""
    return files("services.replay").joinpath("lua", f"{name}.lua").read_text("utf-8")


def fenced_script(name: str) -> str:
    """The text of `name`.lua with the fence before it."""
    return _preceded("fence", name)


def resolving_script(name: str) -> str:
    """The text of `name`.lua with what resolves dead letters before it."""
    return _preceded("resolve_dead_letter", name)


def _preceded(first: str, name: str) -> str:
    """One script of two texts; Redis wants the `#!lua` line at its very beginning."""
    shebang, body = script(name).split("\n", 1)
    return f"{shebang}\n{script(first)}{body}"
