"""What a sequence of symbols spells: words that are symbols themselves, or characters.

A model of words has a symbol for each of its commands, which may be of several words ("zoom in").
A model of characters has one for each letter, and ``|`` between two words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from speechrnn.errors import LabelError
from speechrnn.labels import Labels, normalise_text

BOUNDARY = "|"
Symbols = Literal["words", "characters"]


@dataclass(frozen=True)
class Spelling:
    """Text to the ids of a model's symbols, and back."""

    labels: Labels
    symbols: Symbols

    @classmethod
    def from_texts(cls, texts: Iterable[str], symbols: Symbols, *, commands: bool) -> Spelling:
        """The symbols that all of the texts are spelled with, sorted by code point.

        Args:
            texts: Commands, or whole utterances.
            symbols: Of what kind.
            commands: Whether each text is one command: a symbol of its own, spaces and all.

        Raises:
            LabelError: ``|`` stands in a text that is to be spelled in characters, or a command is
            made up of others.
        """
        found = {normalise_text(text) for text in texts}
        if symbols == "characters":
            _refuse_boundary(found)
            return cls(Labels((BOUNDARY, *sorted({*"".join(found)} - {" "}))), symbols)
        if not commands:
            found = {word for text in found for word in text.split()}
        spelling = cls(Labels(tuple(sorted(found - {""}))), symbols)
        for text in sorted(found):
            if len(text.split()) > 1:
                spelling._refuse_two_readings(text)
        return spelling

    @property
    def boundary(self) -> int | None:
        """The id of the symbol between two words; None where a word needs none."""
        return self._ids[BOUNDARY] if self.symbols == "characters" else None

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: 1 + index for index, symbol in enumerate(self.labels.symbols)}

    @cached_property
    def _parts(self) -> set[str]:
        return {part for symbol in self.labels.symbols for part in symbol.split()}

    @cached_property
    def _most_words(self) -> int:
        return max(len(symbol.split()) for symbol in self.labels.symbols)

    def _refuse_two_readings(self, command: str) -> None:
        """A command that others make up together cannot be told from them in a text."""
        others = tuple(symbol for symbol in self.labels.symbols if symbol != command)
        try:
            parts = Spelling(Labels(others), self.symbols).units(command) if others else []
        except LabelError:
            return
        if parts:
            raise LabelError(
                f"label {command!r}: is also {' and '.join(repr(part) for part, _ in parts)} in a "
                "row; join its words, or leave one of them out"
            )

    def ids(self, text: str) -> list[int]:
        """The symbols that spell a text; of several readings the one with the longest first words.

        Raises:
            LabelError: No symbols spell it.
        """
        words = normalise_text(text).split()
        if self.symbols == "characters":
            _refuse_boundary([text])
            return [self._id(symbol, text) for symbol in BOUNDARY.join(words)]
        # From the end: how what stands from each word on is read, or None.
        readings: list[list[int] | None] = [*[None] * len(words), []]
        for start in range(len(words) - 1, -1, -1):
            for end in range(min(len(words), start + self._most_words), start, -1):
                symbol, rest = self._ids.get(" ".join(words[start:end])), readings[end]
                if symbol is not None and rest is not None:
                    readings[start] = [symbol, *rest]
                    break
        if readings[0] is None:
            unknown = next((word for word in words if word not in self._ids), words[0])
            self._id(unknown, text)  # raises, unless every word is known and they do not combine
            raise LabelError(f"text {text!r}: the model's symbols do not spell it")
        return readings[0]

    def words(self, ids: Sequence[int]) -> list[tuple[str, int, int]]:
        """The words that the symbols spell, each with its first symbol and the one behind its last.

        ``" ".join`` of them is the text. A command of several words is one.
        """
        if self.symbols == "words":
            return [(self.labels.text_of(i), n, n + 1) for n, i in enumerate(ids)]
        found, start = [], 0
        for end in range(len(ids) + 1):
            if end == len(ids) or ids[end] == self.boundary:
                if end > start:
                    letters = "".join(self.labels.text_of(i) for i in ids[start:end])
                    found.append((normalise_text(letters), start, end))
                start = end + 1
        return found

    def units(self, text: str) -> list[tuple[str, list[int]]]:
        """The words of a text as :meth:`words` has them, each with its symbols.

        Raises:
            LabelError: As :meth:`ids`.
        """
        ids = self.ids(text)
        return [(word, ids[first:behind]) for word, first, behind in self.words(ids)]

    def can_say(self, word: str) -> bool:
        """Whether a word is a symbol or part of one, or can be spelled."""
        if self.symbols == "words":
            return word in self._parts
        return set(normalise_text(word)) <= set(self.labels.symbols) - {BOUNDARY}

    def text(self, ids: Sequence[int]) -> str:
        """What the symbols spell."""
        return " ".join(word for word, _, _ in self.words(ids))

    def _id(self, symbol: str, text: str) -> int:
        found = self._ids.get(symbol)
        if found is None:
            known = ", ".join(self.labels.symbols[:20]) + (" ..." if len(self.labels) > 20 else "")
            raise LabelError(f"text {text!r}: unknown symbol {symbol!r}; the model knows {known}")
        return found


def check_symbols(symbols: str) -> None:
    """Raise LabelError for another kind than ``words`` and ``characters``."""
    if symbols not in get_args(Symbols):
        raise LabelError(f"symbols {symbols!r}: expected {' or '.join(get_args(Symbols))}")


def _refuse_boundary(texts: Iterable[str]) -> None:
    for text in texts:
        if BOUNDARY in text:
            raise LabelError(
                f"text {text!r}: holds {BOUNDARY!r}, which stands between two words; take it out"
            )
