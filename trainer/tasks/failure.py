"""A verifier without a score: the exception, its cause in one line, and numbers as verifiers give them."""

from __future__ import annotations

import math
import numbers
import sys
import sysconfig
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.roles import MOST_COMPONENTS

LONGEST_CAUSE = 240
"""characters"""
LONGEST_LABEL = 120
"""characters of a verdict's label, and of a component's name"""
ABSTAINS = "abstains"
"""the cause where a verifier says that it has no score"""
_OWN = str(Path(__file__).resolve().parents[1])
_LIBRARIES = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


class NoScore(Exception):
    """The verifier gives no score for a response. The message is the cause, one line.

    abstains: it says so deliberately, so that `task.verifier.on_failure` does not apply.
    """

    def __init__(self, cause: str, *, abstains: bool = False) -> None:
        super().__init__(cause)
        self.abstains = abstains


def cause_of(error: BaseException, *, with_place: bool = True) -> str:
    """Type, first line and place of an error, such as "KeyError: 'score' (reward.py:12)". Never raises."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:
        lines = []
    said = f": {lines[0].strip()}" if lines and lines[0].strip() else ""
    place = _place(error) if with_place else ""
    return one_line(f"{type(error).__name__}{said}", LONGEST_CAUSE - len(place)) + place


def one_line(text: str, most: int = LONGEST_CAUSE) -> str:
    """`text` as one line of at most `most` characters that UTF-8 can encode."""
    line = " ".join(text[: 4 * most].encode("utf-8", "replace").decode().split())
    return line if len(line) <= most else line[: most - 1] + "…"


def as_number(value: Any) -> float:
    """A number of any library as a float: also of NumPy or torch with one element, a fraction, a decimal or a bool.

    One that is too large for a float becomes the largest float. Raises TypeError for anything else, text included, and
    ValueError for a number that is not finite.
    """
    kind = type(value)
    text = issubclass(kind, str | bytes | bytearray)
    imaginary = issubclass(kind, numbers.Complex) and not issubclass(kind, numbers.Real)
    if text or imaginary or not (hasattr(kind, "__float__") or hasattr(kind, "__index__")):
        raise TypeError(f"must be a number, not {_shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.copysign(sys.float_info.max, 1 if value > 0 else -1)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise TypeError(f"must be a number, not {_shown(value)}") from error
    if not math.isfinite(number):
        raise ValueError(f"must be a finite number, not {number}")
    return number


def bounded_components(parts: Mapping[Any, Any]) -> dict[str, float]:
    """The first `MOST_COMPONENTS` finite numbers of `parts`, clipped to [0, 1]; anything else is left out."""
    kept: dict[str, float] = {}
    for name, value in parts.items():
        if len(kept) == MOST_COMPONENTS:
            break
        try:
            kept[one_line(str(name), LONGEST_LABEL)] = min(max(as_number(value), 0.0), 1.0)
        except (TypeError, ValueError):
            continue
    return kept


def _shown(value: Any) -> str:
    """Text of a value for a message; never raises."""
    try:
        text = repr(value)
    except Exception:
        text = ""
    return one_line(f"{type(value).__name__} {text}", 80)


def _place(error: BaseException) -> str:
    """File and line of the error's innermost frame, if possible one outside of libraries and of this package."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not _inside(frame.filename, _OWN)]
    written = [frame for frame in theirs if not any(_inside(frame.filename, path) for path in _LIBRARIES)]
    if not theirs:
        return ""
    frame = (written or theirs)[-1]
    return f" ({one_line(Path(frame.filename).name, 60)}:{frame.lineno})"


def _inside(filename: str, folder: str) -> bool:
    return filename.startswith((folder + "/", "<frozen"))
