"""How far a phrase of a command grammar may be from what is heard without the grammar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Margin:
    """The most by which a phrase may be less likely than what is heard freely.

    What is heard freely is one of a great many things: of 40 words ``n`` say ``40 ** n``, while the
    phrases of a grammar are few. The more symbols it has, the less likely it is that somebody said
    just that and not a phrase nearby, so each symbol adds to what is allowed. This is the
    likelihood ratio against a loop of all words, each with its probability (Rose and Paul 1990, "A
    hidden Markov model based keyword recognition system"). What is heard as a phrase always is one.

    Attributes:
        base: A natural logarithm; infinite, the nearest phrase is taken, whatever was said. It may
            be below 0 where ``per_symbol`` is above.
        per_symbol: For each symbol that is heard freely, 0 or more.
    """

    base: float = math.inf
    per_symbol: float = 0.0

    def allows(self, deficit: Any, heard: Any) -> Any:
        """Whether a phrase is near enough; of arrays, which of them are.

        Args:
            deficit: How much less likely it is than what is heard freely, a natural logarithm.
            heard: Symbols of what is heard freely.
        """
        return deficit <= np.maximum(0.0, self.base + self.per_symbol * heard)

    def __str__(self) -> str:
        if not math.isfinite(self.base):
            return "any"
        more = f" and {self.per_symbol:.4g} a symbol" if self.per_symbol else ""
        return f"{self.base:.4g}{more}"
