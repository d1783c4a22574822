"""CTC log-probabilities -> symbols: best path, and a prefix beam search that a scorer may guide.

Column 0 is the blank. A *path* names one column for each step; it spells the symbols that are left
when repeats and then blanks are taken out (Graves et al. 2006, "Connectionist temporal
classification"). All scores are natural logarithms. numpy alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from speechrnn.errors import ModelError
from speechrnn.labels import BLANK_ID

BEAM_WIDTH = 16


@dataclass(frozen=True)
class Hypothesis:
    """A sequence of symbols and what speaks for it.

    Attributes:
        ids: The symbols, from 1.
        log_probability: Of the symbols under the model: of the best path for :func:`greedy`, of
            all paths that were followed for :func:`beam_search`.
        log_score: With what a scorer added.
        state: Where the scorer ended; None without one.
    """

    ids: tuple[int, ...]
    log_probability: float
    log_score: float
    state: Any = None


class Scorer(Protocol):
    """What may be said, and how gladly: a language model, a grammar, hot words."""

    def start(self) -> Hashable:
        """The state before the first symbol."""

    def scores(self, state: Any) -> np.ndarray:
        """What each symbol adds to a score, float ``[columns]``; -inf where it is not allowed."""

    def advance(self, state: Any, symbol: int) -> Hashable:
        """The state behind an allowed symbol."""

    def final(self, state: Any) -> float:
        """What ending here adds; -inf where it is not allowed."""


def collapse(path: Iterable[int]) -> tuple[int, ...]:
    """The symbols that a path spells.

    >>> collapse([0, 3, 3, 0, 3, 1])
    (3, 3, 1)
    """
    symbols, before = [], BLANK_ID
    for column in path:
        if column not in (before, BLANK_ID):
            symbols.append(int(column))
        before = column
    return tuple(symbols)


def greedy(log_probs: np.ndarray, cost: float = 0.0) -> Hypothesis:
    """What the best path spells: the most probable one, less a cost for each symbol that begins.

    Args:
        log_probs: float ``[steps, columns]``.
        cost: 0 or more, a natural logarithm. A model that is in doubt between two words for as long
            as one lasts says now this and now that; with a cost the one that is likelier over all.

    Raises:
        ModelError: The shape is another, or a value is not a number.
    """
    _check(log_probs)
    best = _costly_path(log_probs, cost) if cost else log_probs.argmax(axis=1)
    ids = collapse(best.tolist())
    probability = float(log_probs[np.arange(len(best)), best].sum())
    return Hypothesis(ids, probability, probability - cost * len(ids))


def _costly_path(log_probs: np.ndarray, cost: float) -> np.ndarray:
    """The best path by the Viterbi algorithm, int ``[steps]``; a symbol costs where it begins."""
    steps, columns = log_probs.shape
    if not steps:
        return np.zeros(0, int)
    entry = np.full(columns, cost)
    entry[BLANK_ID] = 0.0
    itself = np.arange(columns)
    came_from = np.zeros((steps, columns), int)
    score = log_probs[0] - entry
    for step in range(1, steps):
        before = int(score.argmax())
        changed = score[before] - entry
        came_from[step] = np.where(score >= changed, itself, before)
        score = np.maximum(score, changed) + log_probs[step]
    path = np.zeros(steps, int)
    path[-1] = score.argmax()
    for step in range(steps - 1, 0, -1):
        path[step - 1] = came_from[step, path[step]]
    return path


def beam_search(
    log_probs: np.ndarray,
    *,
    width: int = BEAM_WIDTH,
    scorer: Scorer | None = None,
) -> list[Hypothesis]:
    """The best sequences of symbols, each with the probability of all its paths together.

    After each step the ``width`` best prefixes are followed, and besides, without a scorer, the
    one that the best path spells so far: the first hypothesis is never less probable than that of
    :func:`greedy`. Wide enough, nothing is pruned and the probabilities are exact. Source: Hannun
    et al. 2014, arXiv:1408.2873, with scores added as each symbol is.

    Args:
        log_probs: float ``[steps, columns]``.
        width: Prefixes followed.
        scorer: Adds to the scores, and decides which symbols may follow.

    Returns:
        At most ``width`` hypotheses, best score first; empty where the scorer allows none.

    Raises:
        ModelError: The shape of ``log_probs`` is another, or a value is not a number.
    """
    _check(log_probs)
    log_probs = np.asarray(log_probs, np.float64)
    tree = _PrefixTree(scorer or SymbolCost(0.0, log_probs.shape[1]))
    nodes = [tree.ROOT]
    with_blank, without_blank = np.zeros(1), np.full(1, -np.inf)
    kept, kept_column = None if scorer else tree.ROOT, BLANK_ID
    for row in log_probs:
        if kept is not None:
            best = int(row.argmax())
            if best not in (kept_column, BLANK_ID):
                kept = tree.child(kept, best)
            kept_column = best
        nodes, with_blank, without_blank = _step(
            tree, nodes, with_blank, without_blank, row, width, kept
        )
    found = []
    for node, probability in zip(nodes, np.logaddexp(with_blank, without_blank), strict=True):
        score = float(probability) + tree.score[node] + tree.final(node)
        if score > -np.inf:
            found.append(Hypothesis(tree.ids(node), float(probability), score, tree.state[node]))
    found.sort(key=lambda hypothesis: (-hypothesis.log_score, hypothesis.ids))
    return found[:width]


class SymbolCost:
    """A scorer that allows everything: each symbol costs the same; 0 guides nothing."""

    def __init__(self, cost: float, columns: int) -> None:
        self._scores = np.full(columns, -cost)

    def start(self) -> None:
        """There is one state."""
        return None

    def scores(self, state: None) -> np.ndarray:
        """The cost of each symbol, below 0, float ``[columns]``."""
        return self._scores

    def advance(self, state: None, symbol: int) -> None:
        """The same state."""
        return None

    def final(self, state: None) -> float:
        """The end costs nothing."""
        return 0.0


class _PrefixTree:
    """Every prefix met so far, with its scorer's state and the score that it brought."""

    ROOT = 0

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.parent, self.symbol = [-1], [BLANK_ID]
        self.score = [0.0]
        self.state: list[Any] = [scorer.start()]
        self._children: dict[tuple[int, int], int] = {}
        self._scores: dict[Any, np.ndarray] = {}

    def child(self, node: int, symbol: int) -> int:
        key = (node, symbol)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = len(self.parent)
            self.parent.append(node)
            self.symbol.append(symbol)
            self.score.append(self.score[node] + float(self.extensions(node)[symbol]))
            self.state.append(self._scorer.advance(self.state[node], symbol))
        return found

    def extensions(self, node: int) -> np.ndarray:
        """What each next symbol would add, float ``[columns]``."""
        state = self.state[node]
        found = self._scores.get(state)
        if found is None:
            found = self._scores[state] = self._scorer.scores(state)
        return found

    def final(self, node: int) -> float:
        return self._scorer.final(self.state[node])

    def ids(self, node: int) -> tuple[int, ...]:
        symbols = []
        while node != self.ROOT:
            symbols.append(self.symbol[node])
            node = self.parent[node]
        return tuple(reversed(symbols))


def _step(
    tree: _PrefixTree,
    nodes: list[int],
    with_blank: np.ndarray,
    without_blank: np.ndarray,
    row: np.ndarray,
    width: int,
    kept: int | None,
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Follow every prefix by one step: it stays as it is, or gains a symbol."""
    last = np.array([tree.symbol[node] for node in nodes])
    places = np.arange(len(nodes))
    either = np.logaddexp(with_blank, without_blank)
    stay_blank = either + row[BLANK_ID]
    stay_symbol = without_blank + row[last]  # the root's is -inf already
    grown = either[:, None] + row
    grown[places, last] = with_blank + row[last]  # a repeat needs a blank between
    grown[:, BLANK_ID] = -np.inf
    added = np.stack([tree.extensions(node) for node in nodes])
    place_of = {node: place for place, node in enumerate(nodes)}
    for place, node in enumerate(nodes):  # grown into a prefix that is followed already
        from_place = place_of.get(tree.parent[node])
        if from_place is not None:
            symbol = tree.symbol[node]
            stay_symbol[place] = np.logaddexp(stay_symbol[place], grown[from_place, symbol])
            grown[from_place, symbol] = -np.inf
    so_far = np.array([tree.score[node] for node in nodes])
    staying = np.logaddexp(stay_blank, stay_symbol)
    growing = grown + added + so_far[:, None]
    ranked = np.concatenate([staying + so_far, growing.ravel()])
    chosen = _largest(ranked, width)
    found: list[int] = []
    blank, symbol_scores = [], []
    for place in chosen:
        if place < len(nodes):
            found.append(nodes[place])
            blank.append(stay_blank[place])
            symbol_scores.append(stay_symbol[place])
        else:
            parent, symbol = divmod(place - len(nodes), grown.shape[1])
            found.append(tree.child(nodes[parent], symbol))
            blank.append(-np.inf)
            symbol_scores.append(grown[parent, symbol])
    if kept is not None and kept not in found:  # followed so far, or a child of what was
        place = place_of.get(kept, -1)
        parent = place_of.get(tree.parent[kept], -1)
        found.append(kept)
        blank.append(stay_blank[place] if place >= 0 else -np.inf)
        symbol_scores.append(stay_symbol[place] if place >= 0 else grown[parent, tree.symbol[kept]])
    return found, np.array(blank), np.array(symbol_scores)


def _largest(values: np.ndarray, count: int) -> list[int]:
    """Places of the largest values above -inf, at most so many; ties by place."""
    if len(values) > count:
        least = np.partition(values, -count)[-count]
        places = np.flatnonzero(values > least)
        ties = np.flatnonzero((values == least) & (values > -np.inf))
        return [*places.tolist(), *ties[: count - len(places)].tolist()]
    return np.flatnonzero(values > -np.inf).tolist()


def _check(log_probs: np.ndarray) -> None:
    if log_probs.ndim != 2 or log_probs.shape[1] < 2:
        raise ModelError(
            f"the model answered {list(log_probs.shape)} values, expected [steps, columns], the "
            "blank and the symbols"
        )
    if np.isnan(log_probs).any():
        raise ModelError("the model answered NaN; its file is damaged")
