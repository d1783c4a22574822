"""What decides a training but for its data: model, training settings, augmentations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from speechrnn.config import from_mapping, to_mapping
from speechrnn.datasets import augment_mel as augment_mel  # registers its augmentations
from speechrnn.datasets import augment_mixup as augment_mixup
from speechrnn.datasets.augment import augmentations_from_mapping
from speechrnn.datasets.sequences import SequenceConfig
from speechrnn.encoders import ENCODERS
from speechrnn.errors import ConfigError
from speechrnn.model import SECTIONS, ModelConfig
from speechrnn.options import MOST_SEED

NOT_NEGATIVE = (
    "epochs",
    "weight_decay",
    "gradient_clip_norm",
    "truncation_s",
    "gradient_flow_steps",
    "patience",
    "class_balance",
    "teacher_weight",
    "memory_mb",
    "checkpoint_s",
    "seed",
)
FRACTIONS = (
    "warmup_fraction",
    "weight_average",
    "val_fraction",
    "also_fraction",
    "silence_fraction",
    "unknown_fraction",
)


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    Attributes:
        epochs: Passes over the training recordings; 0: as many as ``steps`` make.
        steps: Batches to learn from where ``epochs`` is 0, in whole epochs: few recordings are
            seen more often than many, and a training takes as long.
        batch_size: Recordings in a step.
        bucket_batches: Batches that are filled together, sorted by length, so that recordings of
            like length share one and little of it is padding; 1 fills them as they come.
        learning_rate: Highest rate; it rises linearly to it and falls as a cosine to 0
            (Loshchilov and Hutter 2017, arXiv:1608.03983).
        warmup_fraction: Part of all steps in which the rate rises.
        weight_decay: Of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101).
        gradient_clip_norm: Longest gradient over all weights; 0 clips nothing (Pascanu et al.
            2013, arXiv:1211.5063).
        truncation_s: Seconds of sound that an error reaches back at most within a recurrent layer
            (truncated backpropagation through time), in whole steps of the encoder; 0 truncates
            nothing. For long utterances; it spares neither memory nor time.
        gradient_flow_steps: Batches between two measurements of how far back errors reach, each at
            the next validation, into the log; 0 measures never. Needs Keras on TensorFlow.
        weight_average: Decay of the running mean of the weights that is evaluated and kept;
            0 keeps the last weights.
        validations: Times that the model is evaluated on the validation recordings, at the ends of
            epochs, at most once an epoch; once more after the first.
        patience: Validations without a better one after which training stops; 0: never.
        keep: "best": the weights that recognised the validation recordings best; "last": those
            that the training ended with, which no recording chose.
        class_balance: 0 shows each recording equally often, 1 each label; between, in proportion
            to ``n ** (1 - class_balance)`` for a label with ``n`` recordings. It looks at the
            training data alone, not at what is mixed in; so does ``unknown_fraction``.
        also_fraction: Part of an epoch's words that recordings mixed in make up (--also), drawn
            anew each time, be they few or many.
        teacher_weight: Part of the loss that is the teachers' (--teacher); the rest is the labels'.
        teacher_temperature: What both answers are softened by before they are compared.
        silence_fraction: Part of an epoch that is made noise under the label ``_silence_``.
        unknown_fraction: Largest part of the training data of an epoch with the label
            ``_unknown_``.
        recordings: What they say, for a head of sequences: "commands", one each, of which
            utterances are made where the recipe has ``sequences``; "utterances", learnt as they
            are; "auto" tells by how often the same texts are said.
        memory_mb: Recordings held in memory; the rest is read anew for each epoch, with the same
            result.
        checkpoint_s: Seconds between two checkpoints, from which --resume goes on.
        val_fraction: Part of the speakers that validates where no --val is given.
        seed: Decides the first weights, the order of recordings, and every augmentation.
    """

    epochs: int = 0
    steps: int = 4000
    batch_size: int = 64
    bucket_batches: int = 8
    learning_rate: float = 2e-3
    warmup_fraction: float = 0.05
    weight_decay: float = 1e-2
    gradient_clip_norm: float = 1.0
    truncation_s: float = 0.0
    gradient_flow_steps: int = 500
    weight_average: float = 0.99
    validations: int = 40
    patience: int = 0
    keep: Literal["best", "last"] = "best"
    class_balance: float = 0.0
    also_fraction: float = 0.5
    teacher_weight: float = 0.5
    teacher_temperature: float = 2.0
    silence_fraction: float = 0.0
    unknown_fraction: float = 0.0
    recordings: Literal["auto", "commands", "utterances"] = "auto"
    memory_mb: float = 4000.0
    checkpoint_s: float = 30.0
    val_fraction: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "bucket_batches", "validations"):
            self._require(getattr(self, name) >= 1, name, "at least 1")
        self._require(self.learning_rate > 0, "learning_rate", "more than 0")
        for name in NOT_NEGATIVE:
            self._require(getattr(self, name) >= 0, name, "0 or more")
        self._require(self.teacher_weight <= 1, "teacher_weight", "0 to 1")
        self._require(self.teacher_temperature >= 1, "teacher_temperature", "1 or more")
        self._require(self.class_balance <= 1, "class_balance", "0 to 1")
        self._require(self.keep in ("best", "last"), "keep", "'best' or 'last'")
        known = ("auto", "commands", "utterances")
        self._require(self.recordings in known, "recordings", "'auto', 'commands' or 'utterances'")
        for name in FRACTIONS:
            self._require(0 <= getattr(self, name) < 1, name, "0 <= x < 1")
        self._require(self.seed <= MOST_SEED, "seed", f"at most {MOST_SEED}")

    def _require(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise ConfigError(f"train.{name}: got {getattr(self, name)}, expected {expected}")


@dataclass(frozen=True)
class Recipe:
    """Everything but the data: the model's shape, the training, the augmentations.

    ``sequences`` are the ranges from which utterances are made of recordings of single commands;
    None where recordings are learnt as they are.
    """

    model: ModelConfig
    train: TrainConfig
    augment: Mapping[str, Any]
    sequences: SequenceConfig | None = None

    def __post_init__(self) -> None:
        if self.sequences and self.model.head.output_name != "log_probs":
            raise ConfigError(
                "[sequences]: utterances of several words need a head that answers with several; "
                'expected head.type = "ctc", or a recipe without this section'
            )
        if self.train.truncation_s and not hasattr(self.model.encoder.build_layer(), "run_layer"):
            raise ConfigError(
                f"train.truncation_s: got {self.train.truncation_s:g} for an encoder without "
                f"recurrence ({ENCODERS.to_mapping(self.model.encoder)['type']}), in which nothing "
                "is passed from step to step; expected 0"
            )

    @classmethod
    def from_mapping(cls, sections: Mapping[str, Any]) -> Recipe:
        """From the sections of a preset or TOML file.

        Raises:
            ConfigError: An unknown or missing section, or what a section rejects.
        """
        known = (*SECTIONS, "train", "augment", "sequences")
        for name in sections:
            if name not in known:
                raise ConfigError(f"[{name}]: unknown section; expected {', '.join(known)}")
        augment = sections.get("augment", {})
        augmentations_from_mapping(augment)
        return cls(
            model=ModelConfig.from_mapping(sections),
            train=from_mapping(TrainConfig, sections.get("train", {}), "train"),
            augment=augment,
            sequences=from_mapping(SequenceConfig, sections["sequences"], "sequences")
            if "sequences" in sections
            else None,
        )

    def to_mapping(self) -> dict[str, Any]:
        """The sections as plain values."""
        return {
            **self.model.to_mapping(),
            "train": to_mapping(self.train),
            "augment": dict(self.augment),
            **({"sequences": to_mapping(self.sequences)} if self.sequences else {}),
        }
