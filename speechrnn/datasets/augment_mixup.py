"""Mixing recordings with one another: drawn with the batches, done on frames in the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechrnn.datasets.waveforms import AUGMENTATIONS, check_probability
from speechrnn.errors import ConfigError


@AUGMENTATIONS.register("mixup")
@dataclass(frozen=True)
class Mixup:
    """Mixes the frames and the targets of two recordings by a drawn share.

    Source: Zhang et al. 2018, arXiv:1710.09412.

    Attributes:
        probability: Part of the recordings that are mixed.
        alpha: Of the beta distribution of shares; small values leave most nearly pure.
    """

    probability: float = 1.0
    alpha: float = 0.2

    def __post_init__(self) -> None:
        check_probability(self.probability)
        if not self.alpha > 0:
            raise ConfigError(f"augment.mixup.alpha: got {self.alpha}, expected more than 0")

    def shares(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """The part of each row that is its own, at least a half, float32 ``[size]``."""
        drawn = rng.beta(self.alpha, self.alpha, size)
        mixed = rng.random(size) < self.probability
        return np.where(mixed, np.maximum(drawn, 1 - drawn), 1.0).astype(np.float32)
