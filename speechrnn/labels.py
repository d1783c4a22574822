"""Ordered symbols, and text to and from their ids; id 0 is the CTC blank and no symbol.

The symbol at position ``k`` has id ``k + 1`` in every head. A classification head has no blank
and puts id ``k + 1`` into column ``k``; a CTC head has the blank in column 0.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from speechrnn.errors import LabelError

BLANK_ID = 0
# Symbols at steps count down from here where they are but a guess.
GUESSED = -2
# Labels of recordings that say nothing, and of those that say something else.
SILENCE, UNKNOWN = "_silence_", "_unknown_"


def normalise_text(text: str) -> str:
    """Unicode NFC with runs of white space folded to one space and none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


@dataclass(frozen=True)
class Labels:
    """The symbols of a model, in the order of their ids (1, 2, ...).

    Raises:
        LabelError: A symbol is empty, not normalised, not Unicode text, or stands twice.
    """

    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        for symbol in self.symbols:
            _check_symbol(symbol)
        if len(set(self.symbols)) != len(self.symbols):
            twice = next(s for s in self.symbols if self.symbols.count(s) > 1)
            raise LabelError(f"label {twice!r} stands twice in the list of labels")

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> Labels:
        """One label for each different text, sorted by code point: the same set, the same order."""
        return cls(tuple(sorted({normalise_text(text) for text in texts})))

    def __len__(self) -> int:
        return len(self.symbols)

    def id_of(self, text: str) -> int:
        """The id, from 1, of the label that ``text`` is.

        Raises:
            LabelError: No label is this text.
        """
        try:
            return self.symbols.index(normalise_text(text)) + 1
        except ValueError:
            known = ", ".join(self.symbols[:20]) + (" ..." if len(self) > 20 else "")
            raise LabelError(f"unknown label {text!r}; the model knows {known}") from None

    def text_of(self, symbol_id: int) -> str:
        """The label with this id; the blank has none."""
        if not 1 <= symbol_id <= len(self.symbols):
            raise LabelError(f"label id {symbol_id}: expected 1 to {len(self.symbols)}")
        return self.symbols[symbol_id - 1]


def _check_symbol(symbol: str) -> None:
    if not symbol:
        raise LabelError("label '': is empty, expected text; name what is said in each recording")
    if symbol != normalise_text(symbol):
        raise LabelError(
            f"label {symbol!r}: expected {normalise_text(symbol)!r}, without outer or double "
            "spaces and in Unicode form NFC"
        )
    try:
        symbol.encode()
    except UnicodeEncodeError as error:  # bytes of a folder's name that are no UTF-8
        raise LabelError(
            f"label {symbol!r}: is no UTF-8 text; rename its folder, or use a manifest"
        ) from error
