"""Where symbols that are known stand among the steps: forced alignment, numpy alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speechrnn.labels import BLANK_ID


@dataclass(frozen=True)
class Alignment:
    """The best path that spells given symbols.

    Attributes:
        path: A column for each step.
        spans: For each symbol the first step of it and the step behind its last.
        log_probability: Of the path.
    """

    path: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    log_probability: float


def least_steps(ids: Sequence[int]) -> int:
    """Steps that hold the symbols: one each, and a blank between two that are the same."""
    return len(ids) + sum(one == other for one, other in itertools.pairwise(ids))


def align(log_probs: np.ndarray, ids: Sequence[int]) -> Alignment | None:
    """The most probable path that spells the symbols; None where the steps cannot hold them.

    Source: the Viterbi algorithm over the symbols with a blank before, between and after them, as
    Graves et al. 2006 lay them out for the forward variables.

    Args:
        log_probs: float ``[steps, columns]``; column 0 is the blank.
        ids: The symbols, from 1.
    """
    steps, size = len(log_probs), 2 * len(ids) + 1
    if not steps:
        return None if ids else Alignment((), (), 0.0)
    columns = np.full(size, BLANK_ID)
    columns[1::2] = ids
    # A symbol may follow the one before it without a blank, unless they are the same.
    may_skip = np.zeros(size, bool)
    may_skip[3::2] = columns[3::2] != columns[1:-2:2]
    emitted = np.asarray(log_probs, np.float64)[:, columns]
    score = np.full(size, -np.inf)
    came_by = np.zeros((steps, size), np.int8)  # how many places back
    for step in range(steps):
        ways = np.full((3, size), -np.inf)
        if step == 0:  # a path begins with the first blank or with the first symbol
            ways[0, :2] = 0.0
        else:
            ways[0] = score
            ways[1, 1:] = score[:-1]
            ways[2, 2:] = np.where(may_skip[2:], score[:-2], -np.inf)
        came_by[step] = ways.argmax(axis=0)
        score = ways.max(axis=0) + emitted[step]
    place = max(range(max(0, size - 2), size), key=lambda end: score[end])
    best = float(score[place])
    if best == -np.inf:
        return None
    places = np.zeros(steps, int)
    for step in range(steps - 1, -1, -1):
        places[step] = place
        place -= int(came_by[step, place])
    spans = []
    for symbol in range(len(ids)):
        held = np.flatnonzero(places == 2 * symbol + 1)
        spans.append((int(held[0]), int(held[-1]) + 1))
    return Alignment(tuple(columns[places].tolist()), tuple(spans), best)
