"""Unicode characters as LaTeX: digits of every script, fractions, roots, powers, operators, letters and currencies."""

from __future__ import annotations

import re
import unicodedata

_COMMANDS = {
    "×": "times",
    "⋅": "cdot",
    "·": "cdot",
    "∙": "cdot",
    "÷": "div",
    "±": "pm",
    "∓": "mp",
    "≤": "le",
    "⩽": "le",
    "≥": "ge",
    "⩾": "ge",
    "≠": "ne",
    "≈": "approx",
    "∞": "infty",
    "∈": "in",
    "∪": "cup",
    "∩": "cap",
    "∅": "emptyset",
    "ℝ": "mathbb{R}",
    "°": "degree",
    "√": "sqrt",
    "π": "pi",
    "θ": "theta",
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "δ": "delta",
    "ε": "epsilon",
    "λ": "lambda",
    "μ": "mu",
    "ρ": "rho",
    "σ": "sigma",
    "τ": "tau",
    "φ": "phi",
    "ϕ": "phi",
    "ω": "omega",
    "Δ": "Delta",
    "Ω": "Omega",
    "⌊": "lfloor",
    "⌋": "rfloor",
    "⌈": "lceil",
    "⌉": "rceil",
    "…": "ldots",
    "⟨": "langle",
    "⟩": "rangle",
}
_CURRENCIES = {"€": "euro", "£": "sterling", "¥": "yen", "₹": "rupee"}
_SAME = {
    **dict.fromkeys("−–—‒﹣－‐‑", "-"),
    **dict.fromkeys("∕⁄", "/"),
    **dict.fromkeys("∶", ":"),
    **dict.fromkeys("∣", "|"),
    **dict.fromkeys("\N{THIN SPACE}\N{NARROW NO-BREAK SPACE}\N{HAIR SPACE}\N{PUNCTUATION SPACE}", "\\,"),
    **dict.fromkeys("\N{NO-BREAK SPACE}", "~"),
    **dict.fromkeys("’′‘", "'"),
    **dict.fromkeys(
        "\N{ZERO WIDTH SPACE}\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}\N{WORD JOINER}\ufeff", ""
    ),
}
_SCRIPTS = {"<super": "^{", "<sub": "_{"}
_SLASHED = re.compile(r"\^\{([0-9]+)\}/_\{([0-9]+)\}")
_OVERLINES = "\u0305\u0304"


def latex_characters(text: str) -> str:
    """`text` with characters beyond ASCII written as LaTeX, where they have a meaning in an answer."""
    written: list[str] = []
    for character in text:
        if character in _OVERLINES and written:
            written[-1] = f"\\overline{{{written[-1]}}}"
        elif character.isascii():
            written.append(character)
        else:
            written.append(_one(character, written))
    return _SLASHED.sub(r"\\frac{\1}{\2}", "".join(written))


def _one(character: str, before: list[str]) -> str:
    if character in _SAME:
        return _SAME[character]
    if character in _COMMANDS:
        return f"\\{_COMMANDS[character]} "
    if character in _CURRENCIES:
        return f"\\{_CURRENCIES[character]} "
    decomposition = unicodedata.decomposition(character)
    kind, _, codes = decomposition.partition("> ")
    base = "".join(chr(int(code, 16)) for code in codes.split()) if codes else ""
    if kind in _SCRIPTS and base:
        opening = _SCRIPTS[kind]
        # Several raised digits are one power.
        if before and before[-1].startswith(opening):
            opening = before.pop()[:-1]
        return f"{opening}{_ascii(base)}}}"
    if kind == "<fraction" and "\N{FRACTION SLASH}" in base:
        top, _, bottom = base.partition("\N{FRACTION SLASH}")
        # A digit before it makes a mixed number, which the space keeps apart.
        space = " " if before and before[-1].isdigit() else ""
        return f"{space}\\frac{{{top}}}{{{bottom}}}" if bottom else character
    return _ascii(character)


def _ascii(text: str) -> str:
    written = []
    for character in text:
        digit = unicodedata.digit(character, None)
        plain = str(digit) if digit is not None else unicodedata.normalize("NFKC", character)
        written.append(_SAME.get(plain, plain))
    return "".join(written)
