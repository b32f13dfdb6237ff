"""Units of answers, by pint: what they measure, and how large they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from trainer.tasks.answers.nodes import Node
from trainer.tasks.answers.vocabulary import words

MOST_WORDS = 12
"""words, signs and powers of the longest unit"""
_SYMBOLS = words("m g s h L l N J W V A K C F T H")
"""units of one letter; other letters are variables"""
_SHORT = words(
    "mm cm km in ft yd mi mg kg oz lb lbs ml mL cL dL sec min hr hrs mph kph kmh Hz kHz MHz kW MW kWh Wh Pa kPa MPa "
    "atm bar eV keV MeV mol kJ MJ cal kN mA kV mV nm um pm ms ns us day yr ha kB MB GB ohm tsp ton gal cup pt qt psi "
    "rpm"
)
"""units of two or three letters; pint would read others, such as `ab`, as prefixes of rare units"""
_CURRENCY = {
    **{name: ("dollar", Fraction(1)) for name in ("$", "dollar", "dollars", "usd", "bucks")},
    **{name: ("dollar", Fraction(1, 100)) for name in ("cent", "cents")},
    **{name: ("euro", Fraction(1)) for name in ("euro", "euros", "eur")},
    **{name: ("sterling", Fraction(1)) for name in ("sterling", "gbp")},
    **{name: ("yen", Fraction(1)) for name in ("yen", "jpy")},
    **{name: ("rupee", Fraction(1)) for name in ("rupee", "rupees", "inr")},
}
_ANGLES = {
    **dict.fromkeys(words("degree degrees deg"), "degree"),
    **dict.fromkeys(words("radian radians rad"), "radian"),
}
_NOUNS = words(
    "point points dot dots count counts bit bits scruple scruples drop drops hand hands stone link links"
)
"""pint knows them as units; in an answer they are things that were counted"""
_LITRES = {
    "litre": "liter",
    "litres": "liter",
    "l": "liter",
    "L": "liter",
    "ml": "milliliter",
    "mL": "milliliter",
}
_SPELLED = {
    **_LITRES,
    "sqft": "foot**2",
    "kmh": "km/hour",
    "kmph": "km/hour",
    "secs": "second",
    "mins": "minute",
}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_POWERS_AFTER = {"squared": 2, "cubed": 3}
_WORDS = re.compile(r"[A-Za-z]+|[0-9]+|[-/^*°]")
CURRENCY_SIGNS = {"$", "euro", "sterling", "yen", "rupee"}
"""commands that name a currency before a number"""


@dataclass(frozen=True)
class Unit:
    """A unit: `value` in it is `scale * value + offset` in the base units of `measures`, ((base unit, power), ...)."""

    measures: tuple[tuple[str, Fraction], ...]
    scale: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)

    def combined(self, other: Unit, power: int) -> Unit:
        """This unit times `other` to `power`; a temperature in a product is a difference."""
        powers = dict(self.measures)
        for name, exponent in other.measures:
            powers[name] = powers.get(name, Fraction(0)) + exponent * power
        measures = tuple(sorted((name, exponent) for name, exponent in powers.items() if exponent))
        return Unit(measures, self.scale * other.scale**power)


DEGREE = Unit((("degree", Fraction(1)),))
RADIAN = Unit((("radian", Fraction(1)),))
NONE = Unit(())


def currency(sign: str) -> Unit:
    """The unit of a currency sign or word."""
    name, scale = _CURRENCY[sign]
    return Unit(((name, Fraction(1)),), scale)


def read_unit(nodes: Sequence[Node]) -> Unit | None:
    """The unit that the nodes spell; None if they are none, or one that is not known."""
    spelled = list(_words(nodes))
    if not spelled or None in spelled or len(spelled) > MOST_WORDS:
        return None
    unit, sign, prefix, at = NONE, 1, 1, 0
    read: list[tuple[Unit, int]] = []
    while at < len(spelled):
        word, at = str(spelled[at]), at + 1
        if word in ("*", "^"):
            return None
        if word in ("/", "per"):
            sign = -1
        elif word.lower() in _POWERS:
            prefix = _POWERS[word.lower()]
        elif word.lower() in _POWERS_AFTER and read:
            read[-1] = (read[-1][0], read[-1][1] * _POWERS_AFTER[word.lower()])
        else:
            one = _unit_of(word)
            if one is None:
                return None
            power, at = _power(spelled, at)
            read.append((one, sign * prefix * power))
            prefix = 1
            sign = sign if at < len(spelled) and spelled[at] == "*" else 1
            at += at < len(spelled) and spelled[at] == "*"
    if len(read) == 1 and read[0][1] == 1:
        return read[0][0]
    for one, power in read:
        unit = unit.combined(one, power)
    return unit if read else None


def _power(words: Sequence[str | None], at: int) -> tuple[int, int]:
    if at < len(words) and words[at] == "^":
        negative = at + 1 < len(words) and words[at + 1] == "-"
        digits = words[at + 1 + negative] if at + 1 + negative < len(words) else None
        if digits is not None and digits.isdigit() and len(digits) == 1:
            return (-1 if negative else 1) * int(digits), at + 2 + negative
    elif at < len(words) and (found := words[at]) is not None and found.isdigit() and found in "23":
        return int(found), at + 1  # cm2
    return 1, at


def _words(nodes: Sequence[Node]) -> Iterator[str | None]:
    """Words, digits, "^", "/" and "*" of a unit; None for what no unit contains."""
    for at, node in enumerate(nodes):
        if node.names("^") and node.arguments:
            inner = node.arguments[0]
            if len(inner) == 1 and inner[0].names("circ"):
                yield _temperature(nodes, at)
            else:
                yield "^"
                yield from _words(inner)
        elif node.kind in ("text", "name"):
            if not (at and _is_degree(nodes[at - 1]) and node.text in ("C", "F")):  # read with the degree
                yield from _WORDS.findall(node.text.replace(".", " "))
        elif node.kind == "numeral" and node.text.isdigit():
            yield node.text
        elif node.names("circ"):
            yield _temperature(nodes, at)
        elif node.names("cdot", "times", "*"):
            yield "*"
        elif node.names("/", "-") or (node.kind == "command" and node.text in CURRENCY_SIGNS):
            yield node.text
        elif node.kind == "group":
            yield from _words(node.arguments[0])
        elif node.names("mu"):
            yield "micro"
        elif node.names("Omega"):
            yield "ohm"
        else:
            yield None


def _is_degree(node: Node) -> bool:
    inner = node.arguments[0] if node.names("^") and node.arguments else (node,)
    return len(inner) == 1 and inner[0].names("circ")


def _temperature(nodes: Sequence[Node], at: int) -> str:
    after = nodes[at + 1] if at + 1 < len(nodes) else None
    if after is not None and after.kind in ("name", "text") and after.text in ("C", "F"):
        return f"deg{after.text}"
    return "degree"


def _unit_of(word: str) -> Unit | None:
    lower = word.lower()
    if lower in _CURRENCY:
        return currency(lower)
    if lower in _ANGLES:
        return DEGREE if _ANGLES[lower] == "degree" else RADIAN
    if word in ("degC", "degF", "micro"):
        return _by_pint(word)
    if len(word) <= 3 and word not in _SYMBOLS | _SHORT:
        return None
    if lower in _NOUNS:
        return None
    return _by_pint(word) or (_by_pint(lower) if len(word) > 2 else None)


@lru_cache(maxsize=1024)
def _by_pint(word: str) -> Unit | None:
    import pint

    registry = _registry()
    try:
        unit = registry.parse_units(_SPELLED.get(word, word))
        scale, base = registry.get_root_units(unit)
    except (pint.PintError, AttributeError, ValueError, TypeError):
        return None
    measures = tuple(sorted((str(name), Fraction(power)) for name, power in base._units.items()))
    if not measures:
        return None
    offset = Fraction(0)
    if measures == (("kelvin", Fraction(1)),):
        offset = Fraction(registry.Quantity(Fraction(0), unit).to("kelvin").magnitude)
    return Unit(measures, Fraction(scale), offset)


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint

    # Its stubs know `float` only.
    exact: Any = Fraction
    return pint.UnitRegistry(non_int_type=exact, cache_folder=None)
