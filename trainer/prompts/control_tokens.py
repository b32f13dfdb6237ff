"""Control tokens: the added tokens of a tokenizer, which only the chat template may write.

Text of users, tools and environments may spell them (`<|im_end|>`, `<tool_call>`); it is then ordinary text. Before the
template sees a text, `marked` replaces every character with which a control token could begin or end by a character
that occurs nowhere else. So what spells a control token in the rendered template was written by the template.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trainer.errors import ScopeError

MARKS = range(0x100000, 0x10FFFE)
"""code points of private use, of which the marks are taken"""


@dataclass(frozen=True)
class Marks:
    """Characters that stand for others in some texts."""

    stand_for: dict[str, str]
    """mark → character"""

    def put(self, text: str) -> str:
        """The text with the marks in place of what they stand for."""
        for mark, character in self.stand_for.items():
            text = text.replace(character, mark)
        return text

    def remove(self, text: str) -> str:
        """The text without marks."""
        for mark, character in self.stand_for.items():
            text = text.replace(mark, character)
        return text


class ControlTokens:
    """The control tokens of one tokenizer.

    Added tokens of white space only, such as Gemma's for line breaks, are ordinary text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = {
            id_: token for id_, token in tokenizer.added_tokens_decoder.items() if _visible(token.content)
        }
        self.ids: dict[str, int] = {token.content: id_ for id_, token in added.items()}
        # The token of unknown text stands for text.
        self._written = {id_ for name, id_ in self.ids.items() if name != tokenizer.unk_token}
        self._pattern = _any_of(self.ids)
        self._of_text = _any_of(token.content for token in added.values() if not token.special)
        self._edges = {_visible(name)[place] for name in self.ids for place in (0, -1)}

    def first(self, text: str) -> str | None:
        """The control token that `text` begins with, after white space; None if there is none."""
        found = self._pattern.match(text.lstrip())
        return None if found is None else found[0]

    def marked(self, texts: Sequence[str], *, of_policy: Sequence[bool]) -> tuple[list[str], Marks]:
        """The texts with marks, and what the marks stand for.

        of_policy: whether a text is a turn of the policy, in which added tokens that are not special (`<think>`) keep
        their meaning.
        """
        texts = [text.encode(errors="replace").decode() for text in texts]
        characters = set().union(*(self._to_mark(text) for text in texts))
        taken = set().union(*texts)
        free = (chr(code) for code in MARKS if chr(code) not in taken)
        marks = Marks(dict(zip(free, sorted(characters), strict=False)))
        written = [
            _outside(self._of_text, text, marks) if own else marks.put(text)
            for text, own in zip(texts, of_policy, strict=True)
        ]
        return written, marks

    def encode(self, marked: str, marks: Marks, *, add_special_tokens: bool) -> list[int]:
        """Tokens of a rendered template in which texts are marked.

        Its control tokens are those that the template spells and, with add_special_tokens, those that the tokenizer
        adds to any text. Raises ScopeError if the tokenizer cannot keep them apart from the text.
        """
        written = self._pattern.findall(marked)
        text = marks.remove(marked)
        wanted = [self.ids[name] for name in written]
        if add_special_tokens:
            before, after = self._around
            wanted = [*before, *wanted, *after]
        if self._pattern.findall(text) == written:
            tokens = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
            if self._among(tokens) == self._among(wanted):
                return tokens
        aliases, core = self._aliased
        aliased = marks.remove(self._pattern.sub(lambda found: aliases[found[0]], marked))
        tokens = core.encode(aliased, add_special_tokens=add_special_tokens).ids
        if self._among(tokens) != self._among(wanted):
            raise ScopeError(
                "the tokenizer makes control tokens of ordinary text, which would change who says what in the prompt"
            )
        return tokens

    def _among(self, tokens: Iterable[int]) -> list[int]:
        """The control tokens among `tokens`."""
        return [token for token in tokens if token in self._written]

    def _to_mark(self, text: str) -> set[str]:
        """The characters of `text` with which a control token could begin or end, all if it could be a part of one."""
        bare = text.strip()
        part = any(bare in name for name in self.ids)
        return {c for c in bare if not c.isspace()} if part else self._edges.intersection(text)

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        """The tokens that the tokenizer adds before and after a text."""
        bare = self._tokenizer.encode("a", add_special_tokens=False)
        full = self._tokenizer.encode("a")
        at = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
        return full[:at], full[at + len(bare) :]

    @cached_property
    def _aliased(self) -> tuple[dict[str, str], Any]:
        """Names that no text contains, one per control token, and the tokenizer with control tokens of these names."""
        from tokenizers import Tokenizer

        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ScopeError(
                "the text of a control token occurs in a prompt, and only tokenizers with a tokenizer.json can keep it "
                "apart from the token"
            )
        nonce = uuid.uuid4().hex
        aliases = {name: f"\U000f0000{nonce}{number}\U000f0001" for number, name in enumerate(self.ids)}
        tree = json.loads(backend.to_str())
        for token in tree["added_tokens"]:
            if token["content"] in aliases:
                token |= {"content": aliases[token["content"]], "normalized": False, "single_word": False}
        _rename(tree["model"], aliases)
        core = Tokenizer.from_str(json.dumps(tree))
        if any(core.token_to_id(aliases[name]) != id_ for name, id_ in self.ids.items()):
            raise ScopeError(
                "the tokenizer's added tokens cannot be told apart from text with the same spelling"
            )
        return aliases, core


def _visible(name: str) -> str:
    """`name` without white space around it, also as SentencePiece writes it."""
    return name.strip(" \t\r\n\f\v\u2581")


def _any_of(names: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the names, the longest first; nothing if there are none."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _outside(kept: re.Pattern[str], text: str, marks: Marks) -> str:
    """`text` with marks, except where `kept` matches."""
    parts, end = [], 0
    for found in kept.finditer(text):
        parts += [marks.put(text[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*parts, marks.put(text[end:])])


def _rename(model: dict[str, Any], aliases: dict[str, str]) -> None:
    """Rename tokens in the vocabulary of a tokenizer's model, so that they keep their ids and no text becomes them."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {aliases.get(name, name): id_ for name, id_ in vocabulary.items()}
    else:
        model["vocab"] = [[aliases.get(name, name), score] for name, score in vocabulary]
    if model.get("unk_token") in aliases:
        model["unk_token"] = aliases[model["unk_token"]]
    if "merges" in model:
        model["merges"] = [
            [left, right]
            for left, right in model["merges"]
            if aliases.keys().isdisjoint((left, right, left + right))
        ]
