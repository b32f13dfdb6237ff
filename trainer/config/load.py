"""Reading the configuration: YAML file + `--set a.b=c` overrides → one validated `RunConfig`.

Every error is a `ScopeError` that names the field, its value and what is allowed. YAML is read by the core schema of
YAML 1.2 (`3e-4` is a number, `on` is text); only plain data is constructed. The value of an override is YAML too,
except that a field of text takes it as it stands.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from trainer.config import RunConfig
from trainer.config.fields import describe_fields, field_inside, field_of, nearest_field
from trainer.config.yaml12 import Dumper, parse
from trainer.errors import ScopeError

MOST_BYTES = 4 << 20
"""of a configuration file; a device has no end"""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read `path` (YAML), apply `overrides` (`"a.b=c"`, later ones win) and validate strictly.

    Raises:
        ScopeError: the file is missing, unreadable, not YAML or not a mapping; an override has no `=`, is a mapping,
            or sets a field inside something that is not a block; a field is unknown or out of range. One paragraph per
            problem.
    """
    return _overridden(_read_tree(Path(path)), overrides)


def load_config_over(below: dict[str, Any], path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Like `load_config`; fields that the file does not set come from the plain tree `below`."""
    return _overridden(_merged(below, _read_tree(Path(path))), overrides)


def config_over(below: dict[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """Like `load_config` for a plain tree instead of a file; does not change `below`."""
    return _overridden(copy.deepcopy(below), overrides)


def default_config(overrides: Sequence[str] = ()) -> RunConfig:
    """The defaults with `overrides`. Raises like `load_config`."""
    return _overridden({}, overrides)


def validate_config(tree: dict[str, Any]) -> RunConfig:
    """Validate a plain tree, such as a stored `config.yaml` or a run's spec. Raises `ScopeError`."""
    try:
        # Through JSON, because only there does the strict mode of pydantic accept a list for a tuple.
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
    """The whole tree as YAML in order of declaration; `load_config` reads it back to an equal tree."""
    return yaml.dump(config.model_dump(mode="json"), Dumper=Dumper, sort_keys=False, allow_unicode=True)


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
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-8")
    except FileNotFoundError:
        raise ScopeError(f"The configuration file {str(path)!r} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScopeError(f"The configuration file {str(path)!r} cannot be read as text: {error}.") from None
    if len(data) > MOST_BYTES:
        raise ScopeError(
            f"The configuration file {str(path)!r} has more than {MOST_BYTES >> 20} MiB; it is no configuration."
        )
    tree = parse(text, f"The configuration file {str(path)!r}")
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ScopeError(
            f"The configuration file {str(path)!r} has {_kind(tree)} at its top level; it must be a "
            "mapping of blocks, such as `optimizer:` with `learning_rate: 3e-4` below it."
        )
    return tree


def _apply_override(tree: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    names = path.strip().split(".")
    if not equals or not all(names):
        raise ScopeError(
            f"The override {override!r} is not of the form a.b=value, for instance "
            "`--set optimizer.learning_rate=1e-4`."
        )
    value = _value(path.strip(), text, override)
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


def _value(path: str, text: str, override: str) -> Any:
    """The value that an override gives to the field `path`: text as it stands, anything else read as YAML."""
    kind = next((field.type for field in describe_fields() if field.path == path), None)
    if kind == "text" or (kind == "text or null" and text != "null"):
        return text
    value = parse(text, f"The value of the override {override!r}")
    if isinstance(value, dict) and kind != "a mapping":
        raise ScopeError(f"The override {override!r} sets a whole mapping; set its fields one by one.")
    return value


def _explain(detail: ErrorDetails) -> str:
    names = [str(part) for part in detail["loc"]]
    path = ".".join(names)
    value = detail["input"]
    if detail["type"] == "extra_forbidden":
        if len(names) == 1 and "." in path and path == nearest_field(path):
            return f"{path} is written with dots; in a file each block is a mapping with its fields below it."
        return f"{path} is not a field of the configuration. The nearest valid name is {nearest_field(path)}."
    if detail["type"] == "value_error":
        message = str(detail["ctx"]["error"]) if "ctx" in detail else detail["msg"]
        return f"{path}: {message}." if path else f"{message}."
    if detail["type"] in {"model_type", "model_attributes_type"}:
        shown = f"{path} = {_show(value)} is {_kind(value)}"
        return f"{shown}; it must be a block of fields, such as {field_inside(path)}."
    field = field_of(names)
    # After the field, the location has indices of lists, and names of the alternatives of its type.
    place = [part for part in names[field.path.count(".") + 1 :] if part.isdigit()]
    path = ".".join([field.path, *place])
    allowed = f"{field.type} {field.allowed}".strip()
    meaning = f" ({field.description})" if field.description else ""
    return (
        f"{path} = {_show(value)} is not allowed: it must be {allowed}{meaning}. "
        f"The default is {field.default!r}."
    )


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
