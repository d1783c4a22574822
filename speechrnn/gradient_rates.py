"""How fast an error changes on its way back through time, and what that means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["vanishes", "explodes", "holds", "ends"]

# Decades. What is left of an error is lost among the rounding errors of float32 beside what it
# was, ...
VANISHED = float(np.log10(np.finfo(np.float32).eps))
# ... and a thousand times as large, clipped to a norm of 1, it leaves next to nothing of others.
EXPLODED = 3.0
# Smaller norms are rounded to few digits or to 0: no rate is fitted to them. So many decades a step
# are the steepest that can be told, and those up to the largest number the other way.
SMALLEST = 1e-36
STEEPEST_FALL, STEEPEST_RISE = -36.0, 38.0
# What is 0 behind a larger norm was not rounded to it: a layer of a few steps sees no further.
ROUNDED = 1e-18
# Fewest steps that a rate is fitted to.
FEWEST_STEPS = 3


@dataclass(frozen=True)
class Flow:
    """What arrives of an error in one layer.

    Attributes:
        layer: Its name.
        norms: float64 ``[steps]``: norm of the gradient so many steps before the last, which is
            the first of them; a mean over the recordings.
        rate: Change of log10 of the norm with each step further back, fitted to each recording;
            the median of them. Negative where the error vanishes, positive where it explodes;
            ``STEEPEST_FALL`` where it ends, as with a convolution: there is no rate.
    """

    layer: str
    norms: np.ndarray
    rate: float


def verdict(rate: float, num_steps: int) -> Verdict:
    """What a rate makes of an error on its way over so many steps."""
    if rate <= STEEPEST_FALL:
        return "ends"
    decades = rate * num_steps
    if decades < VANISHED:
        return "vanishes"
    return "explodes" if decades > EXPLODED else "holds"


def flow_of(layer: str, norms: np.ndarray, num_steps: np.ndarray) -> Flow:
    """From norms ``[batch, steps]``, of which each row's first ``num_steps`` are true."""
    backwards = [row[:length][::-1] for row, length in zip(norms, num_steps, strict=True)]
    sums, counts = np.zeros(num_steps.max()), np.zeros(num_steps.max())
    for row in backwards:
        sums[: len(row)] += row
        counts[: len(row)] += 1
    rates = [fitted_rate(row) for row in backwards if len(row) >= FEWEST_STEPS]
    return Flow(layer, sums / counts, float(np.median(rates)))


def fitted_rate(norms: np.ndarray) -> float:
    """Slope of log10 of norms, by least squares; those of nearly 0 do not count.

    ``STEEPEST_FALL`` where they end.

    >>> round(fitted_rate(np.array([8.0, 4.0, 2.0, 1.0])), 3)
    -0.301
    """
    if not np.isfinite(norms).all():
        return STEEPEST_RISE
    places = np.flatnonzero(norms > SMALLEST)
    if len(places) < 2 or (norms[-1] == 0 and norms[norms > 0].min() > ROUNDED):
        return STEEPEST_FALL
    return float(np.polyfit(places, np.log10(norms[places]), 1)[0])
