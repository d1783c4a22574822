"""Where the steps of a model lie in a recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class StepClock:
    """Steps and seconds (docs/adr/0004-frame-alignment.md).

    Attributes:
        first_s: The middle of step 0.
        step_s: From the middle of a step to that of the next.
    """

    first_s: float
    step_s: float

    def begins(self, step: Any) -> Any:
        """Seconds at which a step, or each of an array, begins: half-way from the one before it."""
        return self.first_s + (step - 0.5) * self.step_s


def apart(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where what follows each other begins and ends, where two that overlap meet half-way.

    Args:
        starts: ``[words]``, in their order.
        ends: Of the same shape.
    """
    overlap, middles = starts[1:] < ends[:-1], (starts[1:] + ends[:-1]) / 2
    starts, ends = starts.copy(), ends.copy()
    starts[1:][overlap] = ends[:-1][overlap] = middles[overlap]
    return starts, ends
