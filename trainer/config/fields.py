"""Every field of the configuration with type, range and default as text, for messages and the reference page."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from trainer.config import RunConfig


class FieldDescription(NamedTuple):
    """One field of the configuration."""

    path: str
    """dotted, for instance `optimizer.learning_rate`"""
    type: str
    default: Any
    allowed: str
    """the range as text; empty if the type has none"""
    description: str


@lru_cache(maxsize=1)
def describe_fields() -> tuple[FieldDescription, ...]:
    """Every field, in order of declaration."""
    schema = RunConfig.model_json_schema()
    return tuple(_walk(schema, schema["$defs"], RunConfig().model_dump(), ""))


def field_of(names: Sequence[str]) -> FieldDescription:
    """The field at the location of a validation error, or the one that contains it."""
    fields = {field.path: field for field in describe_fields()}
    prefixes = (".".join(names[:length]) for length in range(len(names), 0, -1))
    return next(fields[prefix] for prefix in prefixes if prefix in fields)


def nearest_field(path: str) -> str:
    """The valid name (field or block) most similar to `path`, by the whole name or its last part."""

    def likeness(candidate: str) -> float:
        whole = difflib.SequenceMatcher(None, path, candidate).ratio()
        last = difflib.SequenceMatcher(None, path.rsplit(".", 1)[-1], candidate.rsplit(".", 1)[-1]).ratio()
        return max(whole, 0.9 * last + 0.1 * whole)

    leaves = [field.path for field in describe_fields()]
    blocks = dict.fromkeys(leaf.rsplit(".", 1)[0] for leaf in leaves if "." in leaf)
    return max([*leaves, *blocks], key=likeness)


def field_inside(block: str) -> str:
    """The first field of a block, for a message."""
    return next(field.path for field in describe_fields() if field.path.startswith(f"{block}."))


def _walk(
    schema: dict[str, Any], definitions: dict[str, Any], defaults: dict[str, Any], prefix: str
) -> Iterator[FieldDescription]:
    for name, entry in schema["properties"].items():
        path = f"{prefix}{name}"
        if "$ref" in entry:
            block = definitions[entry["$ref"].rsplit("/", 1)[-1]]
            yield from _walk(block, definitions, defaults[name], f"{path}.")
            continue
        options = entry.get("anyOf", [entry])
        yield FieldDescription(
            path=path,
            type=" or ".join(_type_words(option) for option in options),
            default=defaults[name],
            allowed=" ".join(filter(None, map(_range_words, options))),
            description=entry.get("description", ""),
        )


def _type_words(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(repr(choice) for choice in schema["enum"])
    if "const" in schema:
        return repr(schema["const"])
    if "prefixItems" in schema:
        parts = [f"{_type_words(item)} {_range_words(item)}".rstrip() for item in schema["prefixItems"]]
        return f"[{', '.join(parts)}]"
    if "$ref" in schema:
        return "a mapping"
    if schema["type"] == "array":
        return f"a list, each element {_type_words(schema['items'])} {_range_words(schema['items'])}".rstrip()
    return {
        "integer": "a whole number",
        "number": "a finite number",
        "string": "text",
        "boolean": "true or false",
        "null": "null",
        "object": "a mapping",
    }[schema["type"]]


def _range_words(schema: dict[str, Any]) -> str:
    bounds = (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    )
    return " and ".join(f"{words} {schema[key]:,}" for key, words in bounds if key in schema)
