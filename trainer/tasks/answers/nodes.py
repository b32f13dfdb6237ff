r"""An answer as a sequence of nodes: numerals, names, text, commands with their arguments.

What only concerns the looks of an answer (fonts, colours, spacing, sizes, delimiters of mathematics) is resolved here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from trainer.tasks.answers.boxed import closing_brace
from trainer.tasks.answers.characters import latex_characters
from trainer.tasks.answers.numerals import Numeral, read_numeral
from trainer.tasks.answers.vocabulary import (
    ARGUMENTS,
    COLOURED,
    DROPPED,
    LOOKS,
    MATH_FONTS,
    SAME,
    SPACING,
    TEXT_FONTS,
)

DEEPEST = 60
"""levels of nested braces"""

_MATHEMATICAL = re.compile(r"[^A-Za-z]*|\s*(?:[eid]|pi)\s*")
_WORDS = re.compile(r"[A-Za-z .()'-]*")
_ENVIRONMENT = re.compile(r"\\begin\s*\{([a-z]*matrix|array|cases|aligned)\}")
_COMMAND = re.compile(r"\\([A-Za-z]+|.)", re.DOTALL)
_TRAILING_SPACE = re.compile(r"(?:(?<!\\)\\(?:[,;:!> ]|q?quad(?![A-Za-z]))\s*)+$")
_LETTERS = re.compile(r"[A-Za-z]+")


class Unreadable(Exception):
    """The answer does not have a form that is understood."""


@dataclass(frozen=True)
class Node:
    """One part of an answer.

    kind: "numeral", "name" (a run of letters), "text" (letters in a text font), "command", "group" (braces), "matrix",
    or "symbol" (one character). text: letters, name of the command or character. arguments: of a command, group, or the
    cells of a matrix in rows of `columns`. space: whether white space stands before it.
    """

    kind: str
    text: str = ""
    arguments: tuple[tuple[Node, ...], ...] = ()
    numeral: Numeral | None = None
    columns: int = 0
    space: bool = False

    def names(self, *texts: str) -> bool:
        """Whether this is a command or symbol with one of these names."""
        return self.kind in ("command", "symbol") and self.text in texts


Commas = Literal["outside", "everywhere", "nowhere"]
"""where `1,234` is one number: outside brackets only, since `(1,234)` is a pair; everywhere; nowhere"""


def read_nodes(answer: str, commas: Commas = "outside") -> tuple[Node, ...]:
    """The nodes of an answer. Raises Unreadable."""
    text = _without_delimiters(latex_characters(answer))
    return _Reader(text, commas, 0).nodes()


def _without_delimiters(text: str) -> str:
    """Without what encloses an answer (white space, Markdown's emphasis and code, `$`) and a final full stop."""
    before = None
    while text != before:
        before = text
        text = text.strip()
        for mark in ("$$", "$", "**", "__", "`"):
            inside = text[len(mark) : -len(mark)]
            if (
                len(text) > 2 * len(mark)
                and text.startswith(mark)
                and text.endswith(mark)
                and mark not in inside
            ):
                text = inside
        text = _TRAILING_SPACE.sub("", text).rstrip(";,").removesuffix("\\\\")
        if text.endswith(".") and not text.endswith(".."):
            text = text[:-1]
    if text.count("$") - text.count("\\$") == 1 and re.match(r"-?\s*\$", text):
        return text.replace("$", "\\$", 1)  # a dollar sign, not a delimiter
    return re.sub(r"(?<!\\)\$", " ", text)


class _Reader:
    def __init__(self, text: str, commas: Commas, depth: int) -> None:
        if depth > DEEPEST:
            raise Unreadable("nested too deeply")
        self._text, self._depth = text, depth
        self._commas: Commas = commas
        self._at, self._space, self._brackets = 0, False, 0
        self._found: list[Node] = []

    def nodes(self) -> tuple[Node, ...]:
        while self._at < len(self._text):
            self._next()
        return tuple(self._found)

    def _add(self, node: Node) -> None:
        self._found.append(node)
        self._space = False

    def _splice(self, nodes: tuple[Node, ...]) -> None:
        self._found.extend(nodes)
        self._space = False

    def _next(self) -> None:
        character = self._text[self._at]
        grouped = self._commas == "everywhere" or (self._commas == "outside" and not self._brackets)
        numeral = read_numeral(self._text, self._at, commas=grouped)
        if character.isspace() or character == "~":
            self._at, self._space = self._at + 1, True
        elif numeral is not None:
            self._add(
                Node("numeral", self._text[self._at : numeral[1]], numeral=numeral[0], space=self._space)
            )
            self._at = numeral[1]
        elif character == "\\":
            self._command()
        elif character == "{":
            inside = self._braces()
            self._add(Node("group", arguments=(self._inner(inside),), space=self._space))
        elif found := _LETTERS.match(self._text, self._at):
            self._add(Node("name", found[0], space=self._space))
            self._at = found.end()
        elif character in "^_":
            self._at += 1
            self._add(Node("symbol", character, (self._script(),), space=self._space))
        elif character == "*" and self._text.startswith("**", self._at):
            self._at += 2
            self._add(Node("symbol", "^", (self._script(),), space=self._space))
        elif character == "}":
            raise Unreadable("a brace is not opened")
        else:
            self._brackets += (character in "([") - (character in ")]")
            self._add(Node("symbol", character, space=self._space))
            self._at += 1

    def _command(self) -> None:
        if environment := _ENVIRONMENT.match(self._text, self._at):
            self._environment(environment)
            return
        found = _COMMAND.match(self._text, self._at)
        if found is None:
            raise Unreadable("ends in a backslash")
        name, self._at = SAME.get(found[1], found[1]), found.end()
        if name in SPACING:
            self._space = True
        elif name in LOOKS:
            if name in ("left", "right") and self._text.startswith(".", self._at):
                self._at += 1
        elif name in DROPPED:
            self._argument()
        elif name in COLOURED:
            for _ in range(COLOURED[name]):
                self._argument()
            self._splice(self._inner(self._argument()))
        elif name in MATH_FONTS:
            self._splice(self._inner(self._argument()))
        elif name in TEXT_FONTS:
            self._styled(self._argument())
        elif name in "{}<>|[]():" and len(name) == 1:
            self._brackets += (name in "{([") - (name in "})]")
            # Escaped braces enclose sets; plain ones only group.
            self._add(Node("symbol", name, space=self._space))
        else:
            self._with_arguments(name)

    def _with_arguments(self, name: str) -> None:
        space, arguments = self._space, []
        if name == "sqrt" and (root := re.compile(r"\s*\[([^\]]*)\]").match(self._text, self._at)):
            self._at = root.end()
            arguments.append(self._inner(root[1]))
        for _ in range(ARGUMENTS.get(name, 0)):
            arguments.append(self._inner(self._argument()))
        self._add(Node("command", name, tuple(arguments), space=space))

    def _styled(self, content: str) -> None:
        """The content of a text font: mathematics if no word is in it, else words and what stands between."""
        if _MATHEMATICAL.fullmatch(content):
            self._splice(self._inner(content.replace("pi", "\\pi ")))
        elif _WORDS.fullmatch(content):
            self._add(Node("text", " ".join(content.split()), space=True))
        else:
            inner = self._inner(content)
            self._splice(tuple(replace(node, kind="text") if node.kind == "name" else node for node in inner))

    def _environment(self, opened: re.Match[str]) -> None:
        closing = f"\\end{{{opened[1]}}}"
        end = self._text.find(closing, opened.end())
        if end < 0:
            raise Unreadable("an environment is not closed")
        inside, self._at = self._text[opened.end() : end], end + len(closing)
        if opened[1] == "array":
            inside = re.sub(r"^\s*\{[^}]*\}", "", inside)
        rows = [row.split("&") for row in re.split(r"\\\\(?:\[[^\]]*\])?", inside) if row.strip()]
        if opened[1] in ("cases", "aligned") or not rows or len({len(row) for row in rows}) != 1:
            raise Unreadable(f"this {opened[1]} is not understood")
        cells = tuple(self._inner(cell) for row in rows for cell in row)
        self._add(Node("matrix", opened[1], cells, columns=len(rows[0]), space=self._space))

    def _braces(self) -> str:
        end = closing_brace(self._text, self._at)
        if end is None:
            raise Unreadable("a brace is not closed")
        inside, self._at = self._text[self._at + 1 : end], end + 1
        return inside

    def _argument(self) -> str:
        r"""What a command takes: braces, another command with its own arguments, or one character (`\frac12`)."""
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1
        if self._at >= len(self._text):
            raise Unreadable("an argument is missing")
        start = self._at
        if self._text[start] == "{":
            return self._braces()
        found = _COMMAND.match(self._text, start)
        self._at = found.end() if found else start + 1
        if found:
            for _ in range(ARGUMENTS.get(SAME.get(found[1], found[1]), 1 if found[1] in TEXT_FONTS else 0)):
                self._argument()
        return self._text[start : self._at]

    def _script(self) -> tuple[Node, ...]:
        """A power or an index: what LaTeX takes, or a whole number as in plain text (`2^10`, `2^-3`)."""
        plain = re.compile(r"\s*(-?[0-9]+(?:\.[0-9]+)?|\([^()]*\))").match(self._text, self._at)
        if plain:
            self._at = plain.end()
            return self._inner(plain[1])
        return self._inner(self._argument())

    def _inner(self, text: str) -> tuple[Node, ...]:
        return _Reader(text, self._commas, self._depth + 1).nodes()
