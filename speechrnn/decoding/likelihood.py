"""How likely symbols are under CTC log-probabilities, over all paths that spell them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from speechrnn.labels import BLANK_ID


def log_likelihood(log_probs: np.ndarray, ids: Sequence[int]) -> float:
    """The natural logarithm for one utterance, float ``[steps, columns]``; -inf if impossible."""
    return float(log_likelihoods(log_probs[None], np.array([len(log_probs)]), [ids])[0])


def log_likelihoods(
    log_probs: np.ndarray, num_steps: np.ndarray, ids: Sequence[Sequence[int]]
) -> np.ndarray:
    """The natural logarithms for several utterances, float64 ``[batch]``.

    Source: the forward variables of Graves et al. 2006, equations 5 to 8.

    Args:
        log_probs: float ``[batch, steps, columns]``; column 0 is the blank.
        num_steps: int ``[batch]``, the true steps of each.
        ids: The symbols of each, from 1.
    """
    counts = np.array([len(row) for row in ids])
    rows, size = np.arange(len(ids)), 2 * int(counts.max(initial=0)) + 1
    columns = np.full((len(ids), size), BLANK_ID)
    for row, symbols in zip(columns, ids, strict=True):
        row[1 : 2 * len(symbols) : 2] = symbols
    may_skip = np.zeros((len(ids), size), bool)
    may_skip[:, 3::2] = columns[:, 3::2] != columns[:, 1:-2:2]
    forward = np.full((len(ids), size), -np.inf)
    forward[:, 0] = 0.0  # before the first step, as behind a blank that takes none
    for step in range(log_probs.shape[1]):
        one = np.full_like(forward, -np.inf)
        one[:, 1:] = forward[:, :-1]
        two = np.full_like(forward, -np.inf)
        two[:, 2:] = np.where(may_skip[:, 2:], forward[:, :-2], -np.inf)
        emitted = np.take_along_axis(log_probs[:, step].astype(np.float64), columns, axis=1)
        new = np.logaddexp(np.logaddexp(forward, one), two) + emitted
        forward = np.where((step < num_steps)[:, None], new, forward)
    last = forward[rows, 2 * counts]
    before = np.where(counts > 0, forward[rows, np.maximum(2 * counts - 1, 0)], -np.inf)
    return np.logaddexp(last, before)
