"""The search space: the fields of the configuration that a search varies, and the range of each."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.compare.plan import SHARED
from trainer.config import RunConfig
from trainer.config.load import config_over
from trainer.errors import ScopeError

TARGET = "entropy_control.target"
DIGITS = 4
"""significant digits of a value that is tried"""
MOST_FIELDS = 4
FIXED = (*SHARED, "steps")
"""fields and blocks that every trial must share: trials are compared on them"""

Values = Mapping[str, float]
"""dotted field → value"""


@dataclass(frozen=True)
class Dimension:
    """A field of the configuration and its range, both ends included."""

    field: str
    low: float
    high: float
    log: bool
    """whether values are drawn evenly on a logarithmic scale"""
    whole: bool
    """whether the field takes whole numbers only"""

    def rounded(self, value: float) -> float:
        """Return `value` with `DIGITS` significant digits, within the range."""
        if self.whole:
            return int(value)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


def parse_space(texts: Sequence[str], config: RunConfig) -> tuple[Dimension, ...]:
    """Parse `FIELD=LOW:HIGH` or `FIELD=LOW:HIGH:log`; without any, half to twice the entropy target of `config`.

    Raises ScopeError for a field that is not a number or must not vary, and for a range that the configuration refuses.
    """
    texts = texts or [_default(config)]
    parsed = [_parse(text) for text in texts]
    fields = [field for field, *_ in parsed]
    for field in fields:
        if field.partition(".")[0] in FIXED:
            raise ScopeError(
                f"--search {field} is not allowed: {field} must be the same in every trial; use --set."
            )
        if fields.count(field) > 1:
            raise ScopeError(f"--search names {field} {fields.count(field)} times. Give it one range.")
    if len(fields) > MOST_FIELDS:
        raise ScopeError(
            f"--search names {len(fields)} fields. At most {MOST_FIELDS} can be searched together."
        )
    if TARGET in fields and config.entropy_control.kind == "none":
        raise ScopeError(
            f"--search {TARGET} has no effect with entropy_control.kind = none, which holds no target. "
            "Add --set entropy_control.kind=split_range."
        )
    tree = config.model_dump(mode="json")
    whole = [_is_whole(tree, field, low) for field, low, _, _ in parsed]
    for corner in itertools.product(*([(f, low), (f, high)] for f, low, high, _ in parsed)):
        try:
            config_over(tree, settings_of(dict(corner)))
        except ScopeError as error:
            raise ScopeError(f"--search {', '.join(settings_of(dict(corner)))}: {error}") from error
    return tuple(
        Dimension(field, low, high, log, integer)
        for (field, low, high, log), integer in zip(parsed, whole, strict=True)
    )


def settings_of(values: Values) -> list[str]:
    """Return the values as `--set` takes them."""
    return [f"{field}={value!r}" for field, value in values.items()]


def trial_name(values: Values) -> str:
    """Return the name of the trial's directory, which is also a part of its runs' ids."""
    parts = [f"{field.rpartition('.')[2]}-{value!r}" for field, value in values.items()]
    return re.sub(r"[^A-Za-z0-9._-]", "", "-".join(parts))


def configured(dimensions: Sequence[Dimension], config: RunConfig) -> Values | None:
    """Return the values that `config` has itself, or None when one is outside its range."""
    tree = config.model_dump(mode="json")
    found = {dimension.field: _value(tree, dimension.field) for dimension in dimensions}
    return found if within(dimensions, found) else None


def within(dimensions: Sequence[Dimension], values: Mapping[str, Any]) -> bool:
    """Whether every value is a number in its range."""
    return all(_is_number(values[d.field]) and d.low <= values[d.field] <= d.high for d in dimensions)


def _default(config: RunConfig) -> str:
    target = config.entropy_control.target
    if target == "auto" or target <= 0:
        raise ScopeError(
            f"{TARGET} = {target} gives no range to search. Give one, in nats per token: --search {TARGET}=0.1:0.6."
        )
    law = config.entropy_control
    return f"{TARGET}={max(target / 2, law.target_min)!r}:{min(target * 2, law.target_max)!r}"


def _parse(text: str) -> tuple[str, float, float, bool]:
    field, _, ends = text.partition("=")
    low, high, *scale = [part.strip() for part in ends.split(":")] if ":" in ends else ["", ""]
    numbers = list(_numbers(low, high))
    if not field.strip() or len(numbers) < 2 or scale not in ([], ["log"]):
        raise ScopeError(
            f"--search {text!r} is not a range: write FIELD=LOW:HIGH, or FIELD=LOW:HIGH:log for a logarithmic scale, "
            f"such as {TARGET}=0.1:0.6."
        )
    if numbers[0] >= numbers[1]:
        raise ScopeError(f"--search {text!r} is empty: {low} must be below {high}.")
    if scale and numbers[0] <= 0:
        raise ScopeError(f"--search {text!r} is not allowed: a logarithmic scale begins above 0.")
    return field.strip(), numbers[0], numbers[1], bool(scale)


def _numbers(*texts: str) -> Iterator[float]:
    for text in texts:
        try:
            number = int(text) if text.lstrip("+-").isdecimal() else float(text)
        except ValueError:
            continue
        if math.isfinite(number):
            yield number


def _is_whole(tree: dict[str, Any], field: str, value: float) -> bool:
    """Whether the field takes whole numbers only. Raises ScopeError for a field that takes no numbers."""
    try:
        made = config_over(tree, settings_of({field: value}))
    except ScopeError as error:
        raise ScopeError(f"--search {field}: {error}") from error
    found = _value(made.model_dump(mode="json"), field)
    if not _is_number(found):
        raise ScopeError(f"--search {field} is not allowed: {field} is not a number.")
    return isinstance(found, int)


def _value(tree: Any, field: str) -> Any:
    for name in field.split("."):
        tree = tree[name]
    return tree


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
