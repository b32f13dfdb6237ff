r"""The commands of LaTeX that only concern looks, those with arguments, and different names of the same thing."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of a text, separated by white space."""
    return frozenset(text.split())


SPACING = words("quad qquad thinspace enspace medspace thickspace hfill") | {",", ";", ":", "!", " ", ">"}
LOOKS = words(
    r"""( ) [ ] left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr displaystyle textstyle
    scriptstyle limits nolimits bf rm it sf tt bfseries itshape rmfamily normalfont large Large small mathstrut"""
)
"""commands that are dropped"""
MATH_FONTS = words("mathbf mathit mathsf mathtt mathcal boldsymbol bm pmb mathnormal underline ensuremath")
TEXT_FONTS = words(
    "text textrm textbf textit textsf texttt textup textnormal mbox hbox emph mathrm operatorname"
)
DROPPED = words("tag label hspace vspace phantom hphantom vphantom color")
"""commands that are dropped with their argument"""
COLOURED = {"textcolor": 1, "colorbox": 1, "fcolorbox": 2}
"""command → arguments before the text"""
ARGUMENTS = {
    "frac": 2,
    "binom": 2,
    "sqrt": 1,
    "overline": 1,
    "bar": 1,
    "hat": 1,
    "vec": 1,
    "mathbb": 1,
    "pmod": 1,
}
SAME = {
    **dict.fromkeys(words("dfrac tfrac cfrac sfrac nicefrac"), "frac"),
    **dict.fromkeys(words("dbinom tbinom"), "binom"),
    **dict.fromkeys(words("leq leqslant"), "le"),
    **dict.fromkeys(words("geq geqslant"), "ge"),
    **dict.fromkeys(words("approxeq simeq"), "approx"),
    **dict.fromkeys(words("lvert rvert vert"), "|"),
    **dict.fromkeys(words("bullet ast"), "cdot"),
    **dict.fromkeys(words("dots cdots"), "ldots"),
    **dict.fromkeys(words("smallsetminus backslash"), "setminus"),
    "neq": "ne",
    "lt": "<",
    "gt": ">",
    "varnothing": "emptyset",
    "degree": "circ",
    "colon": ":",
    "lbrace": "{",
    "rbrace": "}",
    "lbrack": "[",
    "rbrack": "]",
    "lparen": "(",
    "rparen": ")",
    "varepsilon": "epsilon",
    "varphi": "phi",
    "vartheta": "theta",
}
"""command → the name that it is read as"""
