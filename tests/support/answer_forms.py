r"""Pairs of answers from a grammar, equal or unequal by construction."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from fractions import Fraction

Form = Callable[[random.Random], str]


def pairs(seed: int, number: int) -> Iterator[tuple[str, str, bool]]:
    """(gold, answer, whether they are equal), `number` of them, in equal parts."""
    chance = random.Random(seed)
    for at in range(number):
        kind = KINDS[at % len(KINDS)]
        same = bool((at // len(KINDS)) % 2)
        one, other = kind(chance, same)
        yield one, other, same


def _other(value: Fraction, chance: random.Random) -> Fraction:
    """Another value: near, of the other sign, inverted, or of another size."""
    candidates = [value + 1, -value, value / 10, value * 2, value + Fraction(1, 10 ** chance.randint(1, 30))]
    if value:
        candidates.append(1 / value)
    return chance.choice([candidate for candidate in candidates if candidate != value])


def _whole(value: int, chance: random.Random) -> str:
    digits, sign = str(abs(value)), "-" if value < 0 else ""
    forms = [digits, f"0{digits}" if digits == "7" else digits, f"{digits}.0", f"{digits}."]
    if len(digits) > 4:
        for separator in (",", "{,}", "\\,", "~", "\\ ", " "):
            forms.append(f"{abs(value):,}".replace(",", separator))
    if value and digits.endswith("00"):
        stripped = digits.rstrip("0")
        zeros = len(digits) - len(stripped)
        forms += [f"{stripped}e{zeros}", f"{stripped}\\times10^{{{zeros}}}", f"{stripped} \\cdot 10^{zeros}"]
    return sign + chance.choice(forms)


def rational(value: Fraction, chance: random.Random) -> str:
    """A way to write a rational number, exactly."""
    sign, size = "-" if value < 0 else "", abs(value)
    top, bottom = size.numerator, size.denominator
    if bottom == 1:
        return _whole(int(value), chance)
    scale = chance.randint(2, 9)
    forms = [
        f"{sign}\\frac{{{top}}}{{{bottom}}}",
        f"\\frac{{{sign}{top}}}{{{bottom}}}",
        f"{sign}\\dfrac{{{top * scale}}}{{{bottom * scale}}}",
        f"{sign}{top}/{bottom}",
        f"{sign}({top}/{bottom})",
    ]
    if top < 10 and bottom < 10:
        forms.append(f"{sign}\\tfrac{top}{bottom}")
    if top > bottom:
        whole, rest = divmod(top, bottom)
        forms += [f"{sign}{whole}\\frac{{{rest}}}{{{bottom}}}", f"{sign}{whole} {rest}/{bottom}"]
        forms.append(f"{sign}{whole}\\,\\dfrac{{{rest}}}{{{bottom}}}")
    forms += _decimals(sign, size)
    return chance.choice(forms)


def _decimals(sign: str, size: Fraction) -> list[str]:
    whole, rest = divmod(size.numerator, size.denominator)
    digits, seen = "", {}
    while rest and rest not in seen and len(digits) < 30:
        seen[rest] = len(digits)
        digit, rest = divmod(rest * 10, size.denominator)
        digits += str(digit)
    if rest == 0:
        return [
            f"{sign}{whole}.{digits}",
            f"{sign}{whole}.{digits}0",
            *([f"{sign}.{digits}"] if whole == 0 else []),
        ]
    if rest not in seen:
        return []
    fixed, repeated = digits[: seen[rest]], digits[seen[rest] :]
    return [f"{sign}{whole}.{fixed}\\overline{{{repeated}}}", f"{sign}{whole}.{fixed}({repeated})"]


LOOKS: list[str] = [
    "{}",
    "${}$",
    "\\({}\\)",
    "\\mathbf{{{}}}",
    "{{{}}}",
    "\\displaystyle {}",
    "{}\\,",
    "{}.",
    " {} ",
]
LOOKS += [
    "\\textcolor{{red}}{{{}}}",
    "**{}**",
    "\\left({}\\right)",
    "{{\\color{{blue}} {}}}",
    "\\boldsymbol{{{}}}",
]


def _dressed(text: str, chance: random.Random) -> str:
    looks = [look for look in LOOKS if not (look == "{}." and text.endswith("."))]
    return chance.choice(looks).format(text)


def _value(chance: random.Random) -> Fraction:
    kind = chance.randrange(4)
    if kind == 0:
        return Fraction(chance.randint(-9_999_999, 9_999_999))
    if kind == 1:
        return Fraction(chance.randint(-999, 999), 10 ** chance.randint(1, 6))
    if kind == 2:
        return Fraction(chance.randint(1, 9), 10 ** chance.randint(10, 30))
    return Fraction(chance.randint(-99, 99), chance.randint(1, 45))


def _numbers(chance: random.Random, same: bool) -> tuple[str, str]:
    value = _value(chance)
    other = value if same else _other(value, chance)
    return rational(value, chance), _dressed(rational(other, chance), chance)


def _surds(chance: random.Random, same: bool) -> tuple[str, str]:
    a, b, n = chance.randint(2, 9), chance.randint(2, 9), chance.choice([2, 3, 5, 6, 7])
    forms = [
        f"{a}\\sqrt{{{n}}}",
        f"\\sqrt{{{a * a * n}}}",
        f"\\frac{{{a * n}}}{{\\sqrt{{{n}}}}}",
        f"{a}*sqrt({n})",
    ]
    forms += [
        f"{a}√{n}",
        f"\\sqrt{{{n}}}\\cdot{a}",
        f"{a}\\cdot{n}^{{1/2}}",
        f"\\frac{{{a * b}\\sqrt{n}}}{{{b}}}",
    ]
    wrong = [
        f"{a}\\sqrt{{{n + 1}}}",
        f"-{a}\\sqrt{{{n}}}",
        f"\\sqrt{{{a * n}}}",
        f"{a + 1}\\sqrt{{{n}}}",
        f"{a}{n}",
    ]
    return chance.choice(forms), _dressed(chance.choice(forms if same else wrong), chance)


def _polynomials(chance: random.Random, same: bool) -> tuple[str, str]:
    p, q = chance.randint(1, 9), chance.randint(1, 9)
    forms = [f"(x+{p})(x+{q})", f"(x+{q})(x+{p})", f"x^2+{p + q}x+{p * q}", f"x(x+{p + q})+{p * q}"]
    forms.append(f"{p * q}+{p + q}x+x^{{2}}")
    wrong = [
        f"(x+{p})(x-{q})",
        f"x^2+{p + q}x+{p * q + 1}",
        f"x^2+{p + q + 1}x+{p * q}",
        f"x^3+{p + q}x+{p * q}",
    ]
    return chance.choice(forms), _dressed(chance.choice(forms if same else wrong), chance)


def _collections(chance: random.Random, same: bool) -> tuple[str, str]:
    values = [Fraction(value) for value in chance.sample(range(-20, 20), 3)]
    values[0] += Fraction(1, chance.randint(2, 9))
    ordered = chance.random() < 0.5
    answer = list(values)
    if not same:
        at = chance.randrange(3)
        answer[at] = _other(answer[at], chance)
        while answer[at] in values:
            answer[at] += 41
        if ordered and chance.random() < 0.5:
            answer = [values[1], values[0], values[2]]
    elif not ordered:
        chance.shuffle(answer)
    opening, closing = ("(", ")") if ordered else ("\\{", "\\}")
    written = [", ".join(rational(value, chance) for value in side) for side in (values, answer)]
    return f"{opening}{written[0]}{closing}", f"\\left{opening} {written[1]} \\right{closing}"


def _intervals(chance: random.Random, same: bool) -> tuple[str, str]:
    low = Fraction(chance.randint(-20, 10))
    high = low + Fraction(chance.randint(1, 30), chance.randint(1, 7))
    left, right = chance.choice("(["), chance.choice(")]")
    gold = f"{left}{rational(low, chance)}, {rational(high, chance)}{right}"
    if not same:
        change = chance.randrange(3)
        left = {"(": "[", "[": "("}[left] if change == 0 else left
        right = {")": "]", "]": ")"}[right] if change == 1 else right
        high = high + 1 if change == 2 else high
    symbols = "<" if left == "(" else "\\le", "<" if right == ")" else "\\le"
    as_inequality = f"{rational(low, chance)} {symbols[0]} x {symbols[1]} {rational(high, chance)}"
    as_interval = f"{left}{rational(low, chance)}, {rational(high, chance)}{right}"
    return gold, chance.choice([as_inequality, as_interval, f"x \\in {as_interval}"])


UNITS = [
    [("cm", Fraction(1, 100)), ("m", Fraction(1)), ("km", Fraction(1000)), ("mm", Fraction(1, 1000))],
    [("s", Fraction(1)), ("minutes", Fraction(60)), ("hours", Fraction(3600))],
    [("g", Fraction(1)), ("kg", Fraction(1000)), ("mg", Fraction(1, 1000))],
    [("m/s", Fraction(1)), ("km/h", Fraction(5, 18))],
    [("cm^2", Fraction(1, 10000)), ("m^2", Fraction(1)), ("square meters", Fraction(1))],
]


def _quantities(chance: random.Random, same: bool) -> tuple[str, str]:
    family = chance.choice(UNITS)
    (name, size), (other_name, other_size) = chance.choice(family), chance.choice(family)
    value = Fraction(chance.randint(1, 999), chance.choice([1, 2, 4, 5]))
    other = value * size / other_size
    if not same:
        other = other * chance.choice([2, 10, Fraction(1, 3)])
    words = [
        chance.choice([f"\\text{{ {unit}}}", f"\\,\\mathrm{{{unit}}}", f" {unit}"])
        for unit in (name, other_name)
    ]
    return f"{rational(value, chance)}{words[0]}", f"{rational(other, chance)}{words[1]}"


def _constants(chance: random.Random, same: bool) -> tuple[str, str]:
    value = Fraction(chance.randint(1, 20), chance.randint(1, 9))
    other = value if same else _other(value, chance)
    constant = chance.choice(["\\pi", "e", "\\sqrt{2}", "\\ln 2"])
    sides = []
    for number in (value, other):
        top, bottom = number.numerator, number.denominator
        sides.append(
            chance.choice(
                [f"\\frac{{{top}{constant}}}{{{bottom}}}", f"\\frac{{{top}}}{{{bottom}}}{constant}"]
            )
        )
    return sides[0], _dressed(sides[1], chance)


KINDS = [_numbers, _surds, _polynomials, _collections, _intervals, _quantities, _constants, _numbers]
