"""Reading the configuration: YAML file + `--set a.b=c` overrides → one validated `RunConfig`.

Torch-free. Every fault is a `ScopeError` that names the field, its value and what is allowed. YAML is read by
the core schema of YAML 1.2 (so `3e-4` is a number and `on` is text); only plain data is constructed.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import re
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from trainer.config import RunConfig
from trainer.errors import ScopeError

_SCALARS = {
    "null": (re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"^[-+]?[0-9]{1,400}$"), list("-+0123456789")),
    "float": (
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        list("-+.0123456789"),
    ),
}


class _Loader(yaml.SafeLoader):
    """Plain data only; a key that occurs twice in one mapping is refused."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own class-level table
    yaml_constructors = {  # noqa: RUF012
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rsplit(":", 1)[-1] in {*_SCALARS, "str", "seq", "map"}
    }

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        # PyYAML's own reads 010 as 8.
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


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)


class _Dumper(yaml.SafeDumper):
    """Quotes text exactly where `_Loader` would read something else."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


for _tag, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _first)
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _first)


class FieldDescription(NamedTuple):
    """One field of the tree, for messages and for the reference page."""

    path: str
    """dotted, for instance `optimizer.learning_rate`"""
    type: str
    default: Any
    allowed: str
    """the range in words; empty where the type says all"""
    description: str


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read `path` (YAML), apply `overrides` (`"a.b=c"`, later ones win) and validate strictly.

    Raises:
        ScopeError: the file is missing, unreadable, not YAML or not a mapping; an override has no `=`, holds
            a mapping, or sets a field inside something that is no block; a field is unknown or out of range.
            One paragraph for each problem.
    """
    return _overridden(_read_tree(Path(path)), overrides)


def load_config_over(below: dict[str, Any], path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Like `load_config`, with `below`, a plain tree, for the fields that the file leaves out."""
    return _overridden(_merged(below, _read_tree(Path(path))), overrides)


def config_over(below: dict[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """Like `load_config`, of a plain tree in place of a file; `below` itself stays as it is."""
    return _overridden(copy.deepcopy(below), overrides)


def default_config(overrides: Sequence[str] = ()) -> RunConfig:
    """The defaults with `overrides`. Raises like `load_config`."""
    return _overridden({}, overrides)


def validate_config(tree: dict[str, Any]) -> RunConfig:
    """Validate a plain tree, such as a stored `config.yaml` or a run's spec. Raises `ScopeError`."""
    try:
        # Through JSON, because the strict mode of pydantic takes a list for a tuple only there.
        return RunConfig.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        problems = [_explain(detail) for detail in error.errors(include_url=False)]
        raise ScopeError("\n\n".join(dict.fromkeys(problems))) from None


def canonical_json(config: RunConfig) -> str:
    """The configuration as JSON with sorted keys and no spaces: equal trees give equal text."""
    return json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)


def config_hash(config: RunConfig) -> str:
    """SHA-256 of `canonical_json`, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()


def dump_yaml(config: RunConfig) -> str:
    """The whole tree as YAML in declaration order; `load_config` reads it back to an equal tree."""
    return yaml.dump(config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


@lru_cache(maxsize=1)
def describe_fields() -> tuple[FieldDescription, ...]:
    """Every leaf of the tree in declaration order."""
    schema = RunConfig.model_json_schema()
    return tuple(_walk(schema, schema["$defs"], RunConfig().model_dump(), ""))


def _overridden(tree: dict[str, Any], overrides: Sequence[str]) -> RunConfig:
    for override in overrides:
        _apply_override(tree, override)
    return validate_config(tree)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        under = below.get(name)
        merged[name] = _merged(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _read_tree(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ScopeError(f"The configuration file {str(path)!r} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScopeError(f"The configuration file {str(path)!r} cannot be read as text: {error}.") from None
    tree = _parse(text, f"The configuration file {str(path)!r}")
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ScopeError(
            f"The configuration file {str(path)!r} holds {_kind(tree)} at its top level; it must be a "
            "mapping of blocks, such as `optimizer:` with `learning_rate: 3e-4` below it."
        )
    return tree


def _parse(text: str, where: str) -> Any:
    try:
        # The loader derives from SafeLoader and constructs fewer types still.
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ScopeError(f"{where} is not valid YAML: {' '.join(str(error).split())}.") from None
    try:
        json.dumps(value)
    except (ValueError, RecursionError):
        raise ScopeError(f"{where} is nested without end: an alias refers to itself.") from None
    return value


def _apply_override(tree: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    names = path.strip().split(".")
    if not equals or not all(names):
        raise ScopeError(
            f"The override {override!r} is not of the form a.b=value, for instance "
            "`--set optimizer.learning_rate=1e-4`."
        )
    value = _parse(text, f"The value of the override {override!r}")
    if isinstance(value, dict) and not any(
        field.path == path.strip() and field.type == "a mapping" for field in describe_fields()
    ):
        raise ScopeError(f"The override {override!r} sets a whole mapping; set its fields one by one.")
    node = tree
    for depth, name in enumerate(names[:-1], start=1):
        child = node.setdefault(name, {})
        if not isinstance(child, dict):
            raise ScopeError(
                f"The override {override!r} sets a field inside {'.'.join(names[:depth])}, but that is "
                f"{_kind(child)} in the file, not a block of fields."
            )
        node = child
    node[names[-1]] = value


def _explain(detail: ErrorDetails) -> str:
    names = [str(part) for part in detail["loc"]]
    path = ".".join(names)
    value = detail["input"]
    if detail["type"] == "extra_forbidden":
        if len(names) == 1 and "." in path and path == nearest_field(path):
            return (
                f"{path} is written with dots; in the file each block is a mapping, with its fields below it."
            )
        return f"{path} is not a field of the configuration. The nearest valid name is {nearest_field(path)}."
    if detail["type"] == "value_error":
        message = str(detail["ctx"]["error"]) if "ctx" in detail else detail["msg"]
        return f"{path}: {message}." if path else f"{message}."
    if detail["type"] in {"model_type", "model_attributes_type"}:
        shown = f"{path} = {_show(value)} is {_kind(value)}"
        return f"{shown}; it must be a block of fields, such as {_inside(path)}."
    field = _field_of(names)
    # What follows the field is the place in a list, or the alternative of its type that was tried.
    place = [part for part in names[field.path.count(".") + 1 :] if part.isdigit()]
    path = ".".join([field.path, *place])
    allowed = f"{field.type} {field.allowed}".strip()
    meaning = f" ({field.description})" if field.description else ""
    return (
        f"{path} = {_show(value)} is not allowed: it must be {allowed}{meaning}. "
        f"The default is {field.default!r}."
    )


def _field_of(names: Sequence[str]) -> FieldDescription:
    """The field that an error's location leads to, or into."""
    fields = {field.path: field for field in describe_fields()}
    prefixes = (".".join(names[:length]) for length in range(len(names), 0, -1))
    return next(fields[prefix] for prefix in prefixes if prefix in fields)


def nearest_field(path: str) -> str:
    """The valid dotted name (field or block) nearest to `path`, by the spelling of all or its last part."""

    def likeness(candidate: str) -> float:
        whole = difflib.SequenceMatcher(None, path, candidate).ratio()
        last = difflib.SequenceMatcher(None, path.rsplit(".", 1)[-1], candidate.rsplit(".", 1)[-1]).ratio()
        return max(whole, 0.9 * last + 0.1 * whole)

    leaves = [field.path for field in describe_fields()]
    blocks = dict.fromkeys(leaf.rsplit(".", 1)[0] for leaf in leaves if "." in leaf)
    return max([*leaves, *blocks], key=likeness)


def _inside(block: str) -> str:
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


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
