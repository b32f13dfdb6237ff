"""Reading and writing YAML by the core schema of YAML 1.2: `3e-4` is a number and `on` is text."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from typing import Any

import yaml

from trainer.errors import ScopeError

_SCALARS = {
    "null": (re.compile(r"^(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    "int": (re.compile(r"^[-+]?[0-9]{1,400}\Z"), list("-+0123456789")),
    "float": (
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        list("-+.0123456789"),
    ),
}

_BREAKS = re.compile("[\n\r\x85\u2028\u2029]")
_HINTS = {
    "mapping values are not allowed here": "; put text that contains ': ' into quotes",
    "found unexpected end of stream": "; a quote or bracket that is opened must be closed",
}
"""what to do, by the library's name of a problem"""


class Loader(yaml.SafeLoader):
    """Plain data only; a duplicate key in a mapping is refused."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own class-level table
    yaml_constructors = {  # noqa: RUF012
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rsplit(":", 1)[-1] in {*_SCALARS, "str", "seq", "map"}
    }

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        # PyYAML's own method reads 010 as 8.
        return int(self.construct_scalar(node))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is not a name", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} occurs twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_integer)


class Dumper(yaml.SafeDumper):
    """Quotes text only where `Loader` would otherwise read another type."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML's other styles write NEL and the separators of lines and paragraphs so that they are read as a blank.
    style = '"' if _BREAKS.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


Dumper.add_representer(str, _quoted)

for _tag, (_pattern, _first) in _SCALARS.items():
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _first)
    Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _first)


def parse(text: str, where: str) -> Any:
    """The plain data in `text`. Raises ScopeError, which begins with `where`, for anything else."""
    try:
        # The loader derives from SafeLoader and constructs even fewer types.
        value = yaml.load(text, Loader=Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ScopeError(f"{where} is not valid YAML: {_fault(error, text)}.") from None
    try:
        json.dumps(value)
    except (ValueError, RecursionError):
        raise ScopeError(f"{where} has infinite nesting: an alias refers to itself.") from None
    return value


def _fault(error: Exception, text: str) -> str:
    """Where and why a text is not YAML, as part of a sentence."""
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return f"line {line}, column {column}: the character {chr(error.character)!r} is not allowed"
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark, context = error.problem_mark, f" {error.context}" if error.context else ""
    hint = _HINTS.get(error.problem or "", "")
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{context}{hint}"
