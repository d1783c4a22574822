"""What guides a beam search beside the model: several scorers as one, hot words, a language model.

A scorer is what :class:`speechrnn.decoding.ctc.Scorer` says.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from speechrnn.decoding.ctc import Scorer
from speechrnn.errors import ConfigError


class Together:
    """Several scorers: what they add is added, and what one of them forbids is forbidden."""

    def __init__(self, scorers: Sequence[Scorer]) -> None:
        self._scorers = tuple(scorers)

    def start(self) -> Hashable:
        """The states before the first symbol."""
        return tuple(scorer.start() for scorer in self._scorers)

    def scores(self, state: Any) -> np.ndarray:
        """The sum of what each symbol adds, float ``[columns]``."""
        found = [scorer.scores(s) for scorer, s in zip(self._scorers, state, strict=True)]
        return np.sum(found, axis=0)

    def advance(self, state: Any, symbol: int) -> Hashable:
        """The states behind a symbol that all of them allow."""
        return tuple(
            scorer.advance(s, symbol) for scorer, s in zip(self._scorers, state, strict=True)
        )

    def final(self, state: Any) -> float:
        """The sum of what ending here adds."""
        return sum(scorer.final(s) for scorer, s in zip(self._scorers, state, strict=True))


class HotWords:
    """Phrases that are said gladly: each that is said adds to the score, as often as it is.

    While it is being said it adds already, symbol by symbol, so that the beam keeps it; what it
    added is taken back where it does not go on. Phrases may share symbols, as in the automaton of
    Aho and Corasick 1975, "Efficient string matching"; the state is the longest beginning of a
    phrase that was just said.

    Args:
        phrases: The symbols of each.
        columns: Of the model's answers.
        boost: What each symbol of a phrase adds, as a natural logarithm.
        boundary: The symbol between two words, where the model has one: a phrase stands between
            two of them, or at an end.

    Raises:
        ConfigError: A phrase says nothing, or the boost is not finite.
    """

    def __init__(
        self,
        phrases: Sequence[Sequence[int]],
        columns: int,
        boost: float,
        *,
        boundary: int | None = None,
    ) -> None:
        if not np.isfinite(boost):
            raise ConfigError(f"hot words: got a boost of {boost}, expected a finite number")
        if not all(phrases):
            raise ConfigError("hot words: got a phrase that says nothing, expected words")
        self._columns, self._boost, self._boundary = columns, boost, boundary
        self._edge = () if boundary is None else (boundary,)
        self._whole = {(*self._edge, *phrase, *self._edge) for phrase in phrases}
        self._begun = {phrase[:n] for phrase in self._whole for n in range(len(phrase))}
        self._used = sorted({symbol for phrase in self._whole for symbol in phrase})

    def start(self) -> tuple[int, ...]:
        """The state before the first symbol, which is where a word may begin."""
        return self._longest(self._edge)

    def scores(self, state: tuple[int, ...]) -> np.ndarray:
        """What each symbol adds, float ``[columns]``."""
        found = np.full(self._columns, -self._worth(state))
        for symbol in self._used:
            found[symbol] += self._said(state, symbol) + self._worth(self.advance(state, symbol))
        return found

    def advance(self, state: tuple[int, ...], symbol: int) -> tuple[int, ...]:
        """The state behind a symbol."""
        return self._longest((*state, symbol))

    def final(self, state: tuple[int, ...]) -> float:
        """Takes back what a phrase that is not complete had added."""
        return sum(self._said(state, symbol) for symbol in self._edge) - self._worth(state)

    def _said(self, state: tuple[int, ...], symbol: int) -> float:
        """What the phrases are worth that end with this symbol."""
        said = (*state, symbol)
        ends = (said[start:] for start in range(len(said)))
        return sum(self._worth(end) for end in ends if end in self._whole)

    def _worth(self, symbols: tuple[int, ...]) -> float:
        return self._boost * sum(symbol != self._boundary for symbol in symbols)

    def _longest(self, symbols: tuple[int, ...]) -> tuple[int, ...]:
        ends = (symbols[start:] for start in range(len(symbols)))
        return next((end for end in ends if end in self._begun), ())
