"""Front end + encoder + head: one model that is trained on batches and served on waveforms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from speechrnn.clock import StepClock
from speechrnn.config import from_mapping, to_mapping
from speechrnn.encoders import ENCODERS, Encoder
from speechrnn.errors import ConfigError
from speechrnn.features import MFCC, FeatureConfig, length_mask
from speechrnn.heads import HEADS, Head
from speechrnn.labels import Labels

SECTIONS = ("features", "encoder", "head")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides a model's shape, but for its labels."""

    features: FeatureConfig
    encoder: Encoder
    head: Head

    @classmethod
    def from_mapping(cls, sections: Mapping[str, Any]) -> ModelConfig:
        """From the sections ``features``, ``encoder`` and ``head`` as plain values.

        Raises:
            ConfigError: A missing section, or what a section rejects.
        """
        missing = [name for name in SECTIONS if name not in sections]
        if missing:
            raise ConfigError(f"section [{missing[0]}] is missing; expected {', '.join(SECTIONS)}")
        return cls(
            features=from_mapping(FeatureConfig, sections["features"], "features"),
            encoder=ENCODERS.from_mapping(sections["encoder"]),
            head=HEADS.from_mapping(sections["head"]),
        )

    def to_mapping(self) -> dict[str, Any]:
        """The sections as plain values."""
        return {
            "features": to_mapping(self.features),
            "encoder": ENCODERS.to_mapping(self.encoder),
            "head": HEADS.to_mapping(self.head),
        }

    def num_steps(self, num_samples: Any) -> Any:
        """Encoded frames of so many samples (int or integer tensor)."""
        return self.encoder.output_frames(self.features.num_frames(num_samples))

    @property
    def clock(self) -> StepClock:
        """Where the encoded frames lie."""
        features, stride = self.features, 1
        while self.encoder.output_frames(stride + 1) == 1:
            stride += 1
        rate_hz = features.sample_rate_hz
        return StepClock(
            features.window_length / 2 / rate_hz, stride * features.hop_length / rate_hz
        )


class SpeechModel(keras.Model):
    """Waveforms and their true lengths -> logits.

    Call arguments:
        inputs: ``{"waveform": float32 [batch, samples], "num_samples": int32 [batch]}``, and in
            training also ``"share"`` float32 [batch] where recordings are mixed: the part of a
            row that is its own (mixup); the rest is the row before it.

    Returns:
        The head's logits; ``[batch, labels]`` for classification.
    """

    def __init__(
        self, config: ModelConfig, labels: Labels, *, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(name="speech_model", **kwargs)
        self.config = config
        self.labels = labels
        self.temperature = 1.0  # of the answers; fitted after training (decoding.calibration)
        self.change_log_mel: Any = None  # (log mel, seed) -> log mel; set by training only
        self.imitate: Any = None  # (inputs, logits) -> losses; set by training with teachers only
        self.imitation = 0.0  # their weight
        self.training_steps = 0  # in all; set by training only
        self.augmentation_seed = keras.random.SeedGenerator(seed)
        self.front_end = MFCC(config.features, name="front_end")
        self.encoder = config.encoder.build_layer()
        self.head = config.head.build_layer(labels)
        self.exact = keras.metrics.Mean(name="accuracy")
        if keras.backend.backend() == "tensorflow":  # else "auto": on a GPU, XLA
            self.jit_compile = False  # which compiles anew for every length

    @property
    def learnt_variables(self) -> list[Any]:
        """What training changes: by gradients, and as running statistics of normalised layers."""
        kept = (*self.encoder.non_trainable_variables, *self.head.non_trainable_variables)
        statistics = [variable for variable in kept if "seed_generator" not in variable.path]
        return [*self.trainable_variables, *statistics]

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> Any:
        """The training graph: padded batches with true lengths."""
        waveform, num_samples = inputs["waveform"], inputs["num_samples"]
        change = self._change_log_mel if training and self.change_log_mel else None
        frames = self.front_end(waveform, num_samples, change_log_mel=change)
        mask = self._frame_mask(num_samples, frames)
        if "share" in inputs:
            frames = _mixed(ops.where(mask[..., None], frames, 0.0), inputs["share"])
            mask = self._frame_mask(_num_samples(inputs), frames)
        encoded, mask = self.encoder(frames, frame_mask=mask, training=training)
        return self.head(encoded, frame_mask=mask, training=training)

    def _frame_mask(self, num_samples: Any, frames: Any) -> Any:
        return length_mask(self.config.features.num_frames(num_samples), ops.shape(frames)[1])

    def _change_log_mel(self, log_mel: Any) -> Any:
        return self.change_log_mel(log_mel, self.augmentation_seed)

    def serve(self, waveform: Any) -> Any:
        """The serving graph: whole waveforms without padding -> the head's output.

        Args:
            waveform: float32 ``[batch, samples]``; every row is true to its end.

        Returns:
            What the head serves; probabilities ``[batch, labels]`` for classification.
        """
        encoded, mask = self.encoder(self.front_end(waveform), training=False)
        return self.answer(self.head(encoded, frame_mask=mask, training=False))

    def answer(self, logits: Any) -> Any:
        """What the head serves, from logits and at the model's temperature."""
        return self.config.head.output(logits / self.temperature)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Mean of the head's loss over the batch, plus what layers add; called by Keras."""
        del sample_weight
        num_encoded = self.config.num_steps(_num_samples(x))
        done = self._done() if training else 1.0

        def of(y: Mapping[str, Any]) -> Any:
            return self.config.head.loss(
                y_pred, num_encoded, y["targets"], y["num_targets"], y.get("steps"), done
            )

        losses = of(y)
        if "share" in x:
            of_other = of({name: _row_before(values) for name, values in y.items()})
            losses = x["share"] * losses + (1 - x["share"]) * of_other
        if training and self.imitate:
            imitated = self.imitate(x, y_pred)
            losses = (1 - self.imitation) * losses + self.imitation * imitated
        return ops.mean(losses) + sum(self.losses, 0.0)

    def _done(self) -> Any:
        """The part of the training that is over."""
        if not self.training_steps:
            return 1.0
        return ops.cast(self.optimizer.iterations, "float32") / self.training_steps

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Loss and exact-match accuracy; called by Keras."""
        del sample_weight
        num_encoded = self.config.num_steps(_num_samples(x))
        self.exact.update_state(
            self.config.head.correct(y_pred, num_encoded, y["targets"], y["num_targets"])
        )
        return self.get_metrics_result()


def _row_before(values: Any) -> Any:
    """Each row of a batch replaced by the one before it."""
    return ops.roll(values, 1, axis=0)


def _mixed(frames: Any, share: Any) -> Any:
    """Frames of each row and of the one before it, mixed."""
    share = share[:, None, None]
    return share * frames + (1 - share) * _row_before(frames)


def _num_samples(inputs: Mapping[str, Any]) -> Any:
    """True lengths; mixed rows are as long as the longer of the two."""
    num_samples = inputs["num_samples"]
    if "share" not in inputs:
        return num_samples
    return ops.maximum(num_samples, _row_before(num_samples))


def build_model(config: ModelConfig, labels: Labels, *, seed: int = 0) -> SpeechModel:
    """A model with weights, dropout and mel augmentation from ``seed``; sets Keras' global seed."""
    keras.utils.set_random_seed(seed)
    model = SpeechModel(config, labels, seed=seed)
    size = config.features.window_length  # one frame is enough to make every variable
    model({"waveform": ops.zeros((1, size)), "num_samples": ops.full((1,), size, "int32")})
    return model
