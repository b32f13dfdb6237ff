"""The unit of an answer. math-verify compares numbers only: to it, 10 m equals 10 cm."""

from __future__ import annotations

import re

_NAMES = {
    "millimeter": "mm millimeter millimetre",
    "centimeter": "cm centimeter centimetre",
    "meter": "m meter metre",
    "kilometer": "km kilometer kilometre",
    "inch": "in inch inche",
    "foot": "ft foot feet",
    "yard": "yd yard",
    "mile": "mi mile",
    "milligram": "mg milligram",
    "gram": "g gram",
    "kilogram": "kg kilogram",
    "ounce": "oz ounce",
    "pound": "lb pound",
    "milliliter": "ml milliliter millilitre",
    "liter": "l liter litre",
    "second": "sec second",
    "minute": "min minute",
    "hour": "h hr hour",
    "day": "day",
    "week": "week",
    "month": "month",
    "year": "year",
    "dollar": "dollar",
    "cent": "cent",
    "degree": "degree",
    "radian": "rad radian",
}
_UNITS = {name: unit for unit, names in _NAMES.items() for name in names.split()}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_TRAILING = re.compile(r"\\(?:text|textrm|mathrm)\s*\{([^{}]*)\}\s*(?:\^\s*\{?\s*([23])\s*\}?)?$")
_DEGREE = re.compile(r"\^\s*\{?\s*\\circ\s*\}?$")


def stated_unit(answer: str) -> tuple[str, int] | None:
    """(unit, power) at the end of a LaTeX answer, or of a dollar sign before it; None without a known unit."""
    text = answer.strip().strip(".").strip()
    if text.startswith("\\$"):
        return "dollar", 1
    text = text.strip("$").strip()
    if _DEGREE.search(text):
        return "degree", 1
    found = _TRAILING.search(text)
    if found is None:
        return None
    words = found[1].lower().replace(".", " ").split()
    power = int(found[2] or 1)
    if len(words) == 2 and words[0] in _POWERS:
        power, words = _POWERS[words[0]], words[1:]
    unit = _UNITS.get(words[0]) or _UNITS.get(words[0].removesuffix("s")) if len(words) == 1 else None
    return None if unit is None else (unit, power)
