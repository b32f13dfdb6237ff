"""Loads the Lua scripts of the replay protocol; they are package data."""

from __future__ import annotations

from importlib.resources import files


def script(name: str) -> str:
    """The text of `name`.lua."""
    return files("services.replay").joinpath(f"{name}.lua").read_text("utf-8")


def fenced_script(name: str) -> str:
    """The text of `name`.lua with the fence before it; Redis wants the `#!lua` line first."""
    shebang, body = script(name).split("\n", 1)
    return f"{shebang}\n{script('fence')}{body}"
