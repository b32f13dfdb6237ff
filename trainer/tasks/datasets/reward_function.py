"""A reward function as in verl: loading, checking and calling it, and reading its result. Runs in a `BoundedPool`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from trainer.errors import ScopeError
from trainer.tasks.failure import as_number
from trainer.tasks.import_reference import load_reference

FIELD = "task.verifier.function"
ARGUMENTS = ("data_source", "solution_str", "ground_truth", "extra_info")

Scored = tuple[float | None, dict[str, float]]
"""score, None where the function abstains; the other numbers of its result by name"""

_loaded: dict[tuple[str, str | None], Callable[..., Any]] = {}


def call_reward_function(reference: str, folder: str | None, arguments: Mapping[str, Any] | None) -> Scored:
    """The result of the function `module:function`; without `arguments`, only load it.

    Raises ScopeError for a function that cannot be called, what the function raises, and TypeError or ValueError for a
    result that is no finite number.
    """
    key = reference, folder
    if key not in _loaded:
        function = load_reference(reference, folder, FIELD)
        require_callable(function, f"{FIELD}={reference!r}")
        _loaded[key] = function
    if arguments is None:
        return None, {}
    return read_result(_loaded[key](**arguments))


def require_callable(function: Any, what: str) -> None:
    """Raise ScopeError if `function` cannot be called with `ARGUMENTS`, or gives no result at once."""
    wanted = f"it must be compute_score({', '.join(ARGUMENTS)})"
    if not callable(function):
        raise ScopeError(f"{what} is a {type(function).__name__}, not a function: {wanted}.")
    called = function if inspect.isroutine(function) else type(function).__call__
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called):
        raise ScopeError(f"{what} is an async function: {wanted}, without async.")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ScopeError(f"{what} is a generator, with yield: {wanted}, which returns a number.")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        # Functions in C may have none.
        return
    try:
        signature.bind(**dict.fromkeys(ARGUMENTS))
    except TypeError as error:
        raise ScopeError(f"{what} takes {signature}: {wanted}, called by these names ({error}).") from error


def read_result(found: Any) -> Scored:
    """The score and further numbers of a result: a number, a mapping with `score`, or None."""
    parts = dict(found) if isinstance(found, Mapping) else {"score": found}
    if "score" not in parts:
        raise TypeError(f"the result has no 'score', but {', '.join(map(str, list(parts)[:5])) or 'nothing'}")
    score = parts.pop("score")
    numbers: dict[str, float] = {}
    for name, value in parts.items():
        try:
            numbers[str(name)] = as_number(value)
        except (TypeError, ValueError):
            continue
    if score is None:
        return None, numbers
    try:
        return as_number(score), numbers
    except (TypeError, ValueError) as error:
        raise type(error)(f"the score {error}") from None
