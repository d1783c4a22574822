"""What decides a training but for its data: model, training settings, augmentations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from speechrnn.config import from_mapping, to_mapping
from speechrnn.datasets import augment_mel as augment_mel  # registers its augmentations
from speechrnn.datasets.augment import augmentations_from_mapping
from speechrnn.errors import ConfigError
from speechrnn.model import SECTIONS, ModelConfig


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    Attributes:
        epochs: Passes over the training recordings.
        batch_size: Recordings in a step.
        learning_rate: Highest rate; it rises linearly to it and falls as a cosine to 0
            (Loshchilov and Hutter 2017, arXiv:1608.03983).
        warmup_fraction: Part of all steps in which the rate rises.
        weight_decay: Of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101).
        gradient_clip_norm: Longest gradient over all weights; 0 clips nothing (Pascanu et al.
            2013, arXiv:1211.5063).
        weight_average: Decay of the running mean of the weights that is evaluated and kept;
            0 keeps the last weights.
        val_fraction: Part of the speakers that validates where no --val is given.
        seed: Decides the first weights, the order of recordings, and every augmentation.
    """

    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup_fraction: float = 0.05
    weight_decay: float = 1e-2
    gradient_clip_norm: float = 1.0
    weight_average: float = 0.99
    val_fraction: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            self._require(getattr(self, name) >= 1, name, "at least 1")
        self._require(self.learning_rate > 0, "learning_rate", "more than 0")
        for name in ("weight_decay", "gradient_clip_norm", "seed"):
            self._require(getattr(self, name) >= 0, name, "0 or more")
        for name in ("warmup_fraction", "weight_average", "val_fraction"):
            self._require(0 <= getattr(self, name) < 1, name, "0 <= x < 1")

    def _require(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise ConfigError(f"train.{name}: got {getattr(self, name)}, expected {expected}")


@dataclass(frozen=True)
class Recipe:
    """Everything but the data: the model's shape, the training, the augmentations."""

    model: ModelConfig
    train: TrainConfig
    augment: Mapping[str, Any]

    @classmethod
    def from_mapping(cls, sections: Mapping[str, Any]) -> Recipe:
        """From the sections of a preset or TOML file.

        Raises:
            ConfigError: An unknown or missing section, or what a section rejects.
        """
        known = (*SECTIONS, "train", "augment")
        for name in sections:
            if name not in known:
                raise ConfigError(f"[{name}]: unknown section; expected {', '.join(known)}")
        augment = sections.get("augment", {})
        augmentations_from_mapping(augment)
        return cls(
            model=ModelConfig.from_mapping(sections),
            train=from_mapping(TrainConfig, sections.get("train", {}), "train"),
            augment=augment,
        )

    def to_mapping(self) -> dict[str, Any]:
        """The sections as plain values."""
        return {
            **self.model.to_mapping(),
            "train": to_mapping(self.train),
            "augment": dict(self.augment),
        }
