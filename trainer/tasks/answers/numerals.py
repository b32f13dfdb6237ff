r"""Numerals: integers with thousands separators, decimals, e-notation, repeating decimals, other bases."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

LONGEST_EXPONENT = 5_000
"""largest power of ten in e-notation"""

_THIN = r"(?:\\[,;: ]|~)"
# "1 383/500" is a mixed number.
_GROUPS = tuple(
    rf"[0-9]{{1,3}}(?:{separator}[0-9]{{3}})+(?![0-9]|\s*/)" for separator in (r"\{,\}", _THIN, " ")
)
_COMMA_GROUPS = r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])"
_DIGITS = r"[0-9]+"
_REPEATED = (
    r"\\(?:overline|bar|dot)\s*(?:\{(?P<line>[0-9]+)\}|(?P<one>[0-9]))"
    r"(?:(?P<between>[0-9]*)\\dot\s*\{?(?P<last>[0-9])\}?)?"
    r"|\((?P<parens>[0-9]+)\)(?=\s*(?:$|[],;)}<>=]|\\)|\s[A-Za-z])"
    r"|(?P<dots>\\(?:ldots|dots|cdots)(?![A-Za-z])|\.\.\.)"
)
_DECIMALS = re.compile(
    rf"\.(?!\.)(?P<digits>[0-9]*(?:{_THIN}[0-9]{{3}})*(?:{_THIN}[0-9]{{1,3}})?)(?P<repeated>{_REPEATED})?"
)
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)(?![0-9.])")
_BASE = re.compile(r"\s*_\s*(?:\{\s*(?:\\text\s*\{)?\s*([0-9]{1,2}|[a-z]+)\s*\}?\s*\}|([0-9]))")
_HEXADECIMAL = re.compile(r"([0-9A-F]*[A-F][0-9A-F]*)\s*_\s*\{?\s*(1[1-6])\s*\}?")
_BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
_BASES |= {"twelve": 12, "sixteen": 16, "bin": 2, "oct": 8, "dec": 10, "hex": 16}
_PERIODS = re.compile(r"^([0-9]*?)(?:([0-9])\2{2,}|([0-9]{2,}?)\3+)$")


@dataclass(frozen=True)
class Numeral:
    """A numeral.

    significant: the digits that a decimal states, without zeros at the end; None for an integer or a repeating decimal,
    which are exact.
    """

    value: Fraction
    significant: int | None = None


def read_numeral(text: str, start: int, *, commas: bool) -> tuple[Numeral, int] | None:
    """The numeral at `start` of `text` and the position after it; None if there is none.

    commas: `1,234` is one number rather than a list of two.
    """
    based = _HEXADECIMAL.match(text, start)
    if based:
        return Numeral(Fraction(int(based[1], int(based[2])))), based.end()
    whole, position = _whole(text, start, commas=commas)
    decimals = _DECIMALS.match(text, position)
    if not whole and not (decimals and (decimals["digits"] or decimals["repeated"])):
        return None
    if decimals and (decimals["digits"] or decimals["repeated"]):
        return _decimal(whole, decimals, text)
    if decimals and not text[decimals.end() : decimals.end() + 1].isalnum():
        position = decimals.end()  # "5."
    if (based := _BASE.match(text, position)) and (
        value := _in_base(whole, based[1] or based[2])
    ) is not None:
        return Numeral(Fraction(value)), based.end()
    return _scaled(Fraction(int(whole)), None, text, position)


def _whole(text: str, start: int, *, commas: bool) -> tuple[str, int]:
    for pattern in (*((_COMMA_GROUPS,) if commas else ()), *_GROUPS, _DIGITS):
        if (found := re.compile(pattern).match(text, start)) and not (
            pattern != _DIGITS and found[0].startswith("0")
        ):
            return re.sub(r"[^0-9]", "", found[0]), found.end()
    return "", start


def _decimal(whole: str, decimals: re.Match[str], text: str) -> tuple[Numeral, int]:
    digits = re.sub(r"[^0-9]", "", decimals["digits"])
    if decimals["repeated"]:
        period = _period(digits, decimals)
        if period is not None:
            fixed, repeated = period
            tail = Fraction(int(repeated), (10 ** len(repeated) - 1) * 10 ** len(fixed))
            return Numeral(Fraction(int(f"{whole or 0}{fixed}"), 10 ** len(fixed)) + tail), decimals.end()
    cut = decimals["repeated"] and not decimals["dots"]
    end = decimals.start("repeated") if cut else decimals.end()
    value = Fraction(int(f"{whole or 0}{digits}"), 10 ** len(digits))
    # Zeros at the end say that the number is exact, not that it was rounded there.
    stated = digits.rstrip("0")
    significant = len(f"{whole}{stated}".lstrip("0")) if stated else None
    return _scaled(value, significant, text, end)


def _period(digits: str, decimals: re.Match[str]) -> tuple[str, str] | None:
    """(digits before the period, period) of a repeating decimal; None if nothing repeats."""
    if decimals["dots"]:
        found = _PERIODS.match(digits)
        return None if found is None else (found[1], found[2] or found[3])
    if decimals["parens"]:
        return digits, decimals["parens"]
    repeated = decimals["line"] or decimals["one"]
    if decimals["last"]:
        repeated += f"{decimals['between'] or ''}{decimals['last']}"
    return digits, repeated


def _scaled(value: Fraction, significant: int | None, text: str, position: int) -> tuple[Numeral, int]:
    exponent = _EXPONENT.match(text, position)
    if exponent is None or abs(int(exponent[1])) > LONGEST_EXPONENT:
        return Numeral(value, significant), position
    return Numeral(value * Fraction(10) ** int(exponent[1]), significant), exponent.end()


def _in_base(digits: str, named: str) -> int | None:
    base = int(named) if named.isdigit() else _BASES.get(named, 0)
    try:
        return int(digits, base) if 2 <= base <= 36 else None
    except ValueError:
        return None
