"""A command grammar as an automaton over a model's symbols: it guides a beam and fills slots.

Rules are spelled out once into states with arcs. The beam search follows sets of states, made as
they are met, so that a grammar that allows a billion phrases costs what is near the recording.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from speechrnn.decoding.jsgf import (
    Alternatives,
    Expansion,
    Parts,
    Reference,
    Repeated,
    Rules,
    Tagged,
    Words,
)
from speechrnn.errors import ConfigError, LabelError

# Rules that double one another grow without end; a hundred thousand phrases are far below.
MOST_STATES = 2_000_000
# Sets of states that are remembered, a kilobyte or two each.
MOST_KNOWN = 20_000
# A state and how many symbols were said before it; where a path came from, and what that marked.
Place = tuple[int, int]
Step = tuple[Place, tuple[str, str] | None]
OPEN, CLOSE, TAG, WORD = "open", "close", "tag", "word"


@dataclass(frozen=True)
class Phrase:
    """A phrase of a grammar, as it was said.

    Attributes:
        text: Its words.
        slots: For each rule that was referred to, in the order in which they begin: its name, and
            its tag, or the words it stood for where it has none.
    """

    text: str
    slots: tuple[tuple[str, str], ...]


class Grammar:
    """The rules, spelled in a model's symbols; a :class:`speechrnn.decoding.ctc.Scorer`.

    Args:
        rules: What may be said.
        columns: Columns of the model's answers: the blank and its symbols.
        spell: Words -> each unit of them that the model knows, with the ids of its symbols, as
            :meth:`speechrnn.spelling.Spelling.units`; raises LabelError where it has none.
        boundary: Id of the symbol between two words, where the model has one.
        name: Of the grammar, for errors.

    Raises:
        ConfigError: Words that the model's symbols cannot spell, which are named; rules that can
            never be said, or that allow more than memory holds.
    """

    def __init__(
        self,
        rules: Rules,
        columns: int,
        spell: Callable[[str], Sequence[tuple[str, Sequence[int]]]],
        *,
        boundary: int | None = None,
        name: str = "grammar",
    ) -> None:
        self._columns, self._name = columns, name
        self._rules, self._spell, self._boundary = rules, spell, boundary
        self._arcs: list[list[tuple[int, int]]] = []  # symbol, next state
        self._free: list[list[tuple[int, tuple[str, str] | None]]] = []  # next state, what it marks
        self._unspelled: dict[str, None] = {}  # a set that keeps its order
        self._known: dict[frozenset[int], tuple[np.ndarray, dict[int, frozenset[int]]]] = {}
        begin, self._end = self._state(), self._state()
        for rule in rules.public:
            self._add(rules.expansions[rule], begin, self._end)
        if self._unspelled:
            words = ", ".join(map(repr, list(self._unspelled)[:10]))
            raise ConfigError(
                f"{name}: the model has no symbols for {words}; write a command of several words "
                "in quotes"
            )
        self._begin, first = begin, self._closure((begin,))
        if boundary is not None:  # every word brings one before it, and the first needs none
            behind = [t for state in first for symbol, t in self._arcs[state] if symbol == boundary]
            first = self._closure(behind) | ({self._end} & first)
        self._start = frozenset(first)
        if not any(self._arcs[state] for state in self._start):
            raise ConfigError(f"{name}: allows no words at all, expected a phrase that can be said")

    def start(self) -> frozenset[int]:
        """The states before the first symbol."""
        return self._start

    def scores(self, state: frozenset[int]) -> np.ndarray:
        """0 for each symbol that may follow, -inf for the others."""
        return self._met(state)[0]

    def advance(self, state: frozenset[int], symbol: int) -> frozenset[int]:
        """The states behind a symbol that may follow."""
        return self._met(state)[1][symbol]

    def _met(self, state: frozenset[int]) -> tuple[np.ndarray, dict[int, frozenset[int]]]:
        """Scores and following states, worked out when a set of states is met first."""
        found = self._known.get(state)
        if found is None:
            targets: dict[int, list[int]] = {}
            for place in state:
                for symbol, target in self._arcs[place]:
                    targets.setdefault(symbol, []).append(target)
            scores = np.full(self._columns, -np.inf)
            scores[list(targets)] = 0.0
            behind = {symbol: frozenset(self._closure(t)) for symbol, t in targets.items()}
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[state] = scores, behind
        return found

    def final(self, state: frozenset[int]) -> float:
        """0 where a phrase is complete, else -inf."""
        return 0.0 if self._end in state else -np.inf

    def match(self, ids: Sequence[int]) -> Phrase | None:
        """The phrase that the symbols spell, or None; of several readings the one written first."""
        edge = () if self._boundary is None or not ids else (self._boundary,)
        marks = self._reading((*edge, *ids))
        if marks is None:
            return None
        words: list[str] = []
        slots: list[list[str]] = []
        still_open: list[tuple[int, int, int]] = []  # slot, words so far, tags so far
        tags: list[str] = []
        for kind, value in marks:
            if kind == WORD:
                words.append(value)
            elif kind == TAG:
                tags.append(value)
            elif kind == OPEN:
                still_open.append((len(slots), len(words), len(tags)))
                slots.append([value, ""])
            else:
                slot, first_word, first_tag = still_open.pop()
                slots[slot][1] = " ".join(tags[first_tag:] or words[first_word:])
        return Phrase(" ".join(words), tuple((rule, said) for rule, said in slots))

    def _reading(self, ids: tuple[int, ...]) -> list[tuple[str, str]] | None:
        """What the arcs of one path mark; depth first in the order of the rules, no place twice."""
        came_from: dict[Place, Step | None] = {}
        stack: list[tuple[Place, Step | None]] = [((self._begin, 0), None)]
        goal = (self._end, len(ids))
        while stack:
            place, origin = stack.pop()
            if place in came_from:
                continue
            came_from[place] = origin
            if place == goal:
                break
            state, position = place
            if position < len(ids):
                for symbol, target in reversed(self._arcs[state]):
                    if symbol == ids[position]:
                        stack.append(((target, position + 1), (place, None)))
            for target, mark in reversed(self._free[state]):
                stack.append(((target, position), (place, mark)))
        if goal not in came_from:
            return None
        marks, step = [], came_from[goal]
        while step is not None:
            place, mark = step
            if mark:
                marks.append(mark)
            step = came_from[place]
        return marks[::-1]

    def _closure(self, states: Sequence[int]) -> set[int]:
        """The states, and those that nothing said leads to."""
        found, waiting = set(states), list(states)
        while waiting:
            for target, _ in self._free[waiting.pop()]:
                if target not in found:
                    found.add(target)
                    waiting.append(target)
        return found

    def _state(self) -> int:
        if len(self._arcs) >= MOST_STATES:
            raise ConfigError(
                f"{self._name}: spelled out it has more than {MOST_STATES:,} states; let rules "
                "refer to one another less often"
            )
        self._arcs.append([])
        self._free.append([])
        return len(self._arcs) - 1

    def _skip(self, begin: int, end: int, kind: str = "", value: str = "") -> None:
        self._free[begin].append((end, (kind, value) if kind else None))

    def _add(self, expansion: Expansion, begin: int, end: int) -> None:
        """Let the expansion lead from one state to another."""
        if isinstance(expansion, Words):
            self._add_chain(self._add_unit, self._units(expansion.text), begin, end)
        elif isinstance(expansion, Parts):
            self._add_chain(self._add, _joined(expansion.parts), begin, end)
        elif isinstance(expansion, Alternatives):
            for choice in expansion.choices:
                ahead = self._state()
                self._skip(begin, ahead)
                self._add(choice, ahead, end)
        elif isinstance(expansion, Repeated):
            ahead, behind = self._state(), self._state()
            self._skip(begin, ahead)
            self._add(expansion.part, ahead, behind)
            self._skip(behind, ahead)
            self._skip(behind, end)
            if not expansion.at_least:
                self._skip(begin, end)
        elif isinstance(expansion, Reference):
            self._add_marked(
                self._rules.expansions[expansion.rule], begin, end, OPEN, CLOSE, expansion.rule
            )
        elif isinstance(expansion, Tagged):
            self._add_marked(expansion.part, begin, end, "", TAG, expansion.tag)

    def _add_chain(
        self, add: Callable[[Any, int, int], None], parts: Sequence[Any], begin: int, end: int
    ) -> None:
        for part in parts:
            behind = self._state()
            add(part, begin, behind)
            begin = behind
        self._skip(begin, end)

    def _add_marked(
        self, part: Expansion, begin: int, end: int, before: str, behind: str, value: str
    ) -> None:
        first, last = self._state(), self._state()
        self._skip(begin, first, before, value)
        self._add(part, first, last)
        self._skip(last, end, behind, value)

    def _units(self, text: str) -> Sequence[tuple[str, Sequence[int]]]:
        """The units that the model knows; what it does not is noted, to be named all at once."""
        try:
            return self._spell(text)
        except LabelError:
            words = [word for word in text.split() if not self._can_spell(word)]
            self._unspelled.update(dict.fromkeys(words or [text]))
            return []

    def _can_spell(self, word: str) -> bool:
        try:
            self._spell(word)
        except LabelError:
            return False
        return True

    def _add_unit(self, unit: tuple[str, Sequence[int]], begin: int, end: int) -> None:
        text, symbols = unit
        if self._boundary is not None:
            symbols = [self._boundary, *symbols]
        for symbol in symbols:
            behind = self._state()
            self._arcs[begin].append((symbol, behind))
            begin = behind
        self._skip(begin, end, WORD, text)


def _joined(parts: Sequence[Expansion]) -> list[Expansion]:
    """The parts with words that follow one another as one: they may be one symbol together."""
    found: list[Expansion] = []
    for part in parts:
        if isinstance(part, Words) and found and isinstance(before := found[-1], Words):
            found[-1] = Words(f"{before.text} {part.text}")
        else:
            found.append(part)
    return found
