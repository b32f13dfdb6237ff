r"""Nodes of one value as a SymPy expression, exactly: a decimal is the fraction that it states.

The grammar is that of school notation: mixed numbers (`2\frac{2}{3}`, `2 2/3`), products without a sign, functions
with or without parentheses, powers of functions. Values that would be too large to compute are refused rather than
computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import sympy

from trainer.tasks.answers.nodes import Node, Unreadable
from trainer.tasks.answers.vocabulary import words

LARGEST_BITS = 1 << 17
"""bits of the largest integer that is computed"""
LARGEST_FACTORIAL = 5_000

_CONSTANTS: dict[str, Any] = {
    "pi": sympy.pi,
    "infty": sympy.oo,
    "infinity": sympy.oo,
    "inf": sympy.oo,
    "oo": sympy.oo,
    "e": sympy.E,
    "i": sympy.I,
    "I": sympy.I,
}
FUNCTIONS: dict[str, Any] = {
    **{name: getattr(sympy, name) for name in words("sin cos tan cot sec csc sinh cosh tanh coth exp")},
    **{f"arc{name}": getattr(sympy, f"a{name}") for name in words("sin cos tan cot sec csc")},
    **{f"a{name}": getattr(sympy, f"a{name}") for name in words("sin cos tan")},
    "ln": sympy.log,
    "abs": sympy.Abs,
    "Re": sympy.re,
    "Im": sympy.im,
    "floor": sympy.floor,
    "ceil": sympy.ceiling,
    "lg": lambda x: sympy.log(x, 10),
    "log": sympy.log,
    "gcd": sympy.gcd,
    "min": sympy.Min,
    "max": sympy.Max,
    "sqrt": lambda x: power(x, sympy.Rational(1, 2)),
}
_INVERSES = {"sin": sympy.asin, "cos": sympy.acos, "tan": sympy.atan, "cot": sympy.acot}
_GREEK = words(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell hbar"
)
_CLOSING = {"(": ")", "[": "]", "lfloor": "rfloor", "lceil": "rceil", "{": "}"}


class TooLarge(Unreadable):
    """The value is too large to be computed."""


def expression(nodes: Sequence[Node]) -> Any:
    """The SymPy expression of the nodes. Raises Unreadable, TooLarge."""
    parser = _Parser(nodes)
    value = parser.total()
    if not parser.ended:
        raise Unreadable(f"{parser.node.text!r} is not expected")
    if value.has(sympy.nan, sympy.zoo):
        raise Unreadable("the value is not defined")
    return value


def power(base: Any, exponent: Any) -> Any:
    """`base ** exponent`. Raises TooLarge."""
    if base.is_Rational and exponent.is_Rational and base not in (0, 1, -1):
        bits = max(int(base.p).bit_length(), int(base.q).bit_length())
        if abs(exponent) * bits > LARGEST_BITS:
            raise TooLarge("the power is too large")
    elif exponent.is_number and exponent.is_Rational and abs(exponent) > LARGEST_BITS:
        raise TooLarge("the power is too large")
    return base**exponent


class _Parser:
    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes, self._at = nodes, 0

    @property
    def ended(self) -> bool:
        return self._at >= len(self._nodes)

    @property
    def node(self) -> Node:
        return self._nodes[self._at]

    def _takes(self, *names: str) -> Node | None:
        if not self.ended and self.node.names(*names):
            self._at += 1
            return self._nodes[self._at - 1]
        return None

    def total(self) -> Any:
        """A sum of products."""
        value = self._product()
        while sign := self._takes("+", "-"):
            term = self._product()
            value = value + term if sign.text == "+" else value - term
        return value

    def _product(self) -> Any:
        if sign := self._takes("+", "-"):
            return self._product() if sign.text == "+" else -self._product()
        value = self._factor()
        while not self.ended:
            if self._takes("cdot", "times", "*"):
                value = value * self._signed_factor()
            elif self._takes("/", "div", ":"):
                divisor = self._signed_factor()
                if divisor == 0:
                    raise Unreadable("a division by zero")
                value = value / divisor
            elif self._takes("bmod", "mod"):
                value = sympy.Mod(value, self._signed_factor())
            elif self._begins_factor():
                value = value * self._factor()
            else:
                break
        return value

    def _signed_factor(self) -> Any:
        if sign := self._takes("+", "-"):
            return self._signed_factor() if sign.text == "+" else -self._signed_factor()
        return self._factor()

    def _begins_factor(self) -> bool:
        node = self.node
        if node.kind == "numeral":
            raise Unreadable("two numbers stand side by side")
        if node.kind in ("name", "group", "matrix"):
            return True
        if node.kind == "command":
            return node.text in (
                "frac",
                "sqrt",
                "binom",
                "overline",
                "bar",
                "hat",
                "vec",
                "lfloor",
                "lceil",
            ) or (node.text in _CONSTANTS or node.text in FUNCTIONS or node.text in _GREEK)
        return node.names("(", "[")

    def _factor(self) -> Any:
        if self.ended:
            raise Unreadable("something is missing at the end")
        node, self._at = self.node, self._at + 1
        if node.kind == "numeral":
            value = self._mixed(node)
        elif node.kind == "group":
            value = expression(node.arguments[0])
        elif node.kind == "name":
            return self._name(node.text)
        elif node.kind == "command":
            value = self._command(node)
        elif node.names("(", "[", "lfloor", "lceil"):
            value = self._enclosed(node.text)
        elif node.names("|"):
            value = self._absolute()
        else:
            raise Unreadable(f"{node.text!r} is not expected")
        return self._raised(value)

    def _mixed(self, node: Node) -> Any:
        assert node.numeral is not None
        value = _rational(node.numeral.value)
        if self.ended or not node.text.isdigit():
            return value
        after = self.node
        if after.names("frac") and (part := _proper(*after.arguments)) is not None:
            self._at += 1
            return value + part
        if after.kind == "numeral" and after.space and self._at + 2 < len(self._nodes):
            slash, below = self._nodes[self._at + 1 : self._at + 3]
            if slash.names("/") and (part := _proper((after,), (below,))) is not None:
                self._at += 3
                return value + part
        return value

    def _raised(self, value: Any) -> Any:
        """Powers, factorials and percent signs after a factor."""
        while not self.ended:
            if self._takes("!"):
                value = self._factorial(value)
            elif self.node.names("^") and self.node.arguments:
                exponent, self._at = self.node.arguments[0], self._at + 1
                if len(exponent) == 1 and exponent[0].names("circ"):
                    value = value * sympy.pi / 180
                elif len(exponent) == 1 and exponent[0].kind == "symbol" and exponent[0].text in "'*":
                    raise Unreadable("a derivative is not understood")
                else:
                    value = power(value, expression(exponent))
            elif self._takes("circ"):
                value = value * sympy.pi / 180
            elif self._takes("%"):
                value = value / 100
            else:
                break
        return value

    def _factorial(self, value: Any) -> Any:
        function = sympy.factorial2 if self._takes("!") else sympy.factorial
        if value.is_Integer and value > LARGEST_FACTORIAL:
            raise TooLarge("the factorial is too large")
        return function(value)

    def _name(self, letters: str) -> Any:
        """A run of letters: a function, a constant, or variables side by side, the last of which may be raised."""
        if letters in FUNCTIONS:
            return self._call(letters)
        if letters in _CONSTANTS:
            return self._raised(_CONSTANTS[letters])
        for name in ("sqrt", "sin", "cos", "tan", "ln", "log", "pi"):
            if letters.endswith(name) and len(letters) > len(name):
                before = sympy.Mul(*map(_letter, letters[: -len(name)]))
                return before * self._name(name)
        value = sympy.Mul(*map(_letter, letters[:-1]))
        return value * self._raised(self._indexed(letters[-1]))

    def _indexed(self, name: str) -> Any:
        if not self.ended and self.node.names("_") and self.node.arguments:
            index, self._at = self.node.arguments[0], self._at + 1
            return sympy.Symbol(f"{name}_{written(index)}")
        return _letter(name) if len(name) == 1 else sympy.Symbol(name)

    def _command(self, node: Node) -> Any:
        if node.text == "frac":
            above, below = map(expression, node.arguments)
            if below == 0:
                raise Unreadable("a division by zero")
            return above / below
        if node.text == "sqrt":
            radicand = expression(node.arguments[-1])
            root = expression(node.arguments[0]) if len(node.arguments) == 2 else sympy.Integer(2)
            if root == 0:
                raise Unreadable("a root of order zero")
            return _root(radicand, root)
        if node.text == "binom":
            above, below = map(expression, node.arguments)
            if below.is_Integer and below > LARGEST_FACTORIAL:
                raise TooLarge("the binomial coefficient is too large")
            return sympy.binomial(above, below)
        if node.text in ("overline", "bar", "hat", "vec"):
            return self._indexed(f"{node.text}({written(node.arguments[0])})")
        if node.text in ("lfloor", "lceil"):
            return self._enclosed(node.text)
        if node.text in _CONSTANTS:
            return _CONSTANTS[node.text]
        if node.text in FUNCTIONS:
            return self._call(node.text)
        if node.text in _GREEK:
            return self._indexed(node.text)
        raise Unreadable(f"\\{node.text} is not understood")

    def _call(self, name: str) -> Any:
        function = FUNCTIONS[name]
        exponent: Any = None
        if not self.ended and self.node.names("_") and self.node.arguments and name == "log":
            base, self._at = expression(self.node.arguments[0]), self._at + 1
            if base in (0, 1):
                raise Unreadable("a logarithm to the base 0 or 1")
            function = lambda x: sympy.log(x, base)  # noqa: E731
        if not self.ended and self.node.names("^") and self.node.arguments:
            exponent, self._at = expression(self.node.arguments[0]), self._at + 1
            if exponent == -1 and name in _INVERSES:
                function, exponent = _INVERSES[name], None
        arguments = self._arguments()
        try:
            value = function(*arguments)
        except TypeError as error:
            raise Unreadable(f"{name} of {len(arguments)} values") from error
        return self._raised(value if exponent is None else power(value, exponent))

    def _arguments(self) -> list[Any]:
        """In parentheses, or the product that follows: `\\sin 2x`."""
        if not self.ended and self.node.names("("):
            self._at += 1
            return self._list(")")
        if self.ended:
            raise Unreadable("a function of nothing")
        value = self._signed_factor()
        while not self.ended and self._begins_factor() and not self._calls():
            value = value * self._factor()
        return [value]

    def _calls(self) -> bool:
        return (
            self.node.kind in ("name", "command") and self.node.text in FUNCTIONS and self.node.text != "sqrt"
        )

    def _list(self, closing: str) -> list[Any]:
        values = [self.total()]
        while self._takes(","):
            values.append(self.total())
        if not self._takes(closing):
            raise Unreadable(f"{closing!r} is missing")
        return values

    def _enclosed(self, opening: str) -> Any:
        values = self._list(_CLOSING[opening])
        if len(values) != 1:
            raise Unreadable("a list is no number")
        if opening == "lfloor":
            return sympy.floor(values[0])
        return sympy.ceiling(values[0]) if opening == "lceil" else values[0]

    def _absolute(self) -> Any:
        value = self.total()
        if not self._takes("|"):
            raise Unreadable("'|' is missing")
        return sympy.Abs(value)


def written(nodes: Sequence[Node]) -> str:
    """The nodes as text, without their looks; a space only between two numbers or two words."""
    parts: list[str] = []
    for at, node in enumerate(nodes):
        inner = "".join(f"{{{written(argument)}}}" for argument in node.arguments)
        before = nodes[at - 1] if at else None
        alike = before is not None and before.kind == node.kind and node.kind in ("numeral", "name", "text")
        parts.append(
            (" " if alike and node.space else "")
            + ("\\" if node.kind == "command" else "")
            + node.text
            + inner
        )
    return "".join(parts)


def _rational(value: Any) -> Any:
    return sympy.Rational(value.numerator, value.denominator)


def _letter(letter: str) -> Any:
    return _CONSTANTS[letter] if letter in ("e", "i") else sympy.Symbol(letter)


def _proper(above: Sequence[Node], below: Sequence[Node]) -> Any:
    """The fraction of two whole numbers if it is less than one, else None."""
    if len(above) != 1 or len(below) != 1:
        return None
    top, bottom = above[0], below[0]
    if not (top.kind == bottom.kind == "numeral" and top.text.isdigit() and bottom.text.isdigit()):
        return None
    return sympy.Rational(int(top.text), int(bottom.text)) if 0 < int(top.text) < int(bottom.text) else None


def _root(radicand: Any, order: Any) -> Any:
    if radicand.is_Rational and order.is_Integer and order % 2 and radicand < 0:
        return -power(-radicand, 1 / order)
    return power(radicand, 1 / order)


def digits_of(value: Any) -> int:
    """Decimal digits of the longest rational number in an expression."""
    bits = [
        max(int(number.p).bit_length(), int(number.q).bit_length()) for number in value.atoms(sympy.Rational)
    ]
    return math.ceil(max(bits, default=1) * math.log10(2))
