"""CTC by enumeration: every path of a small matrix, one after another, in float64.

Source: Graves et al. 2006, "Connectionist temporal classification", equations 1 to 3.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import Any

import numpy as np


def all_sequences(log_probs: np.ndarray) -> dict[tuple[int, ...], float]:
    """The log probability of every sequence of symbols that some path spells."""
    steps, columns = log_probs.shape
    totals: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(columns), repeat=steps):
        probability = math.exp(sum(log_probs[t, c] for t, c in enumerate(path)))
        totals[spelled(path)] += probability
    return {ids: math.log(total) for ids, total in totals.items() if total > 0}


def spelled(path: tuple[int, ...]) -> tuple[int, ...]:
    """Repeats out, then blanks out."""
    return tuple(column for column, _ in itertools.groupby(path) if column != 0)


def best_alignment(log_probs: np.ndarray, ids: tuple[int, ...]) -> float:
    """The log probability of the best path that spells the symbols; -inf where there is none."""
    steps, columns = log_probs.shape
    found = [
        sum(log_probs[t, c] for t, c in enumerate(path))
        for path in itertools.product(range(columns), repeat=steps)
        if spelled(path) == ids
    ]
    return max(found, default=-math.inf)


def path_score(scorer: Any, ids: list[int]) -> float:
    """What a scorer adds to symbols one after another, and to their end."""
    state, score = scorer.start(), 0.0
    for symbol in ids:
        score += float(scorer.scores(state)[symbol])
        state = scorer.advance(state, symbol)
    return score + scorer.final(state)
