"""Where the steps of a model lie in a recording."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepClock:
    """Steps and seconds (docs/adr/0004-frame-alignment.md).

    Attributes:
        first_s: The middle of step 0.
        step_s: From the middle of a step to that of the next.
    """

    first_s: float
    step_s: float

    def begins(self, step: float) -> float:
        """Seconds at which a step begins: half-way from the middle of the one before it."""
        return self.first_s + (step - 0.5) * self.step_s
