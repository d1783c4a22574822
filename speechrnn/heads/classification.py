"""One label for the whole recording."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from speechrnn.errors import ConfigError
from speechrnn.heads import HEADS
from speechrnn.labels import Labels


@HEADS.register("classification")
@dataclass(frozen=True)
class Classification:
    """Average and attention pooling over the true frames, then a softmax over the labels.

    The label with id ``k + 1`` is column ``k`` of the logits: this head has no blank.

    Attributes:
        average_pooling: Whether the mean over time is pooled.
        attention_pooling: Whether a learned weighting over time is pooled (as the self-attentive
            pooling of Cai et al. 2018, arXiv:1804.05160).
        attention_units: Width of the layer that scores frames.
        dropout: Fraction of pooled values dropped while training.
        label_smoothing: Probability taken from the true label and spread over all.
    """

    average_pooling: bool = True
    attention_pooling: bool = True
    attention_units: int = 64
    dropout: float = 0.0
    label_smoothing: float = 0.0

    output_name = "probabilities"

    def __post_init__(self) -> None:
        if not (self.average_pooling or self.attention_pooling):
            raise ConfigError(
                "head.average_pooling, head.attention_pooling: both are off, expected at least one"
            )
        if self.attention_units < 1:
            raise ConfigError(
                f"head.attention_units: got {self.attention_units}, expected at least 1"
            )
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"head.{name}: got {getattr(self, name)}, expected 0 <= x < 1")

    def labels(self, texts: Iterable[str], *, commands: bool) -> Labels:
        """One label for each different text."""
        del commands  # a text is a label, of however many words
        return Labels.from_texts(texts)

    def targets(self, text: str, labels: Labels) -> list[int]:
        """The one id of the label that ``text`` is."""
        return [labels.id_of(text)]

    def joined_targets(self, texts: Sequence[str], labels: Labels) -> list[int]:
        """None: a recipe that puts commands together is refused."""
        raise ConfigError("head.type: classification answers with one label, expected ctc")

    def placed(self, text: str, labels: Labels) -> int | None:
        """The label."""
        return labels.id_of(text)

    def num_columns(self, labels: Labels) -> int:
        """One for each label."""
        return len(labels)

    def build_layer(self, labels: Labels) -> keras.Layer:
        """The head as a Keras layer: ``[batch, time, width]`` -> logits ``[batch, labels]``."""
        return PooledClassifier(self, len(labels), name="head")

    def loss(
        self,
        logits: Any,
        num_encoded: Any,
        targets: Any,
        num_targets: Any,
        steps: Any = None,
        done: Any = 1.0,
    ) -> Any:
        """Cross entropy with label smoothing, float32 ``[batch]``."""
        del num_encoded, num_targets, steps, done  # one label for a recording of any length
        wanted = ops.one_hot(targets[:, 0] - 1, ops.shape(logits)[-1], dtype="float32")
        smoothing = self.label_smoothing
        wanted = (1 - smoothing) * wanted + smoothing / logits.shape[-1]
        return ops.categorical_crossentropy(wanted, logits, from_logits=True)

    def output(self, logits: Any) -> Any:
        """Probabilities, float32 ``[batch, labels]``."""
        return ops.softmax(logits)

    def exported(self, answer: Any) -> dict[str, Any]:
        """The probabilities."""
        return {self.output_name: answer}

    def correct(self, logits: Any, num_encoded: Any, targets: Any, num_targets: Any) -> Any:
        """Whether the most probable label is the true one, bool ``[batch]``."""
        del num_encoded, num_targets
        return ops.cast(ops.argmax(logits, axis=-1), "int32") + 1 == targets[:, 0]


class PooledClassifier(layers.Layer):
    """The Keras layer of :class:`Classification`."""

    def __init__(self, config: Classification, num_labels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True  # Keras' implicit masks are not used: lengths are explicit
        self.config = config
        if config.attention_pooling:
            self.score_hidden = layers.Dense(
                config.attention_units, activation="tanh", name="score_hidden"
            )
            self.score = layers.Dense(1, name="score")
        self.dropout = layers.Dropout(config.dropout, name="dropout")
        self.logits = layers.Dense(num_labels, name="logits")

    def call(self, encoded: Any, frame_mask: Any = None, training: bool = False) -> Any:
        """Encoded frames -> logits."""
        pooled = []
        if self.config.average_pooling:
            pooled.append(_masked_mean(encoded, frame_mask))
        if self.config.attention_pooling:
            scores = self.score(self.score_hidden(encoded))
            if frame_mask is not None:
                scores = ops.where(frame_mask[..., None], scores, -1e9)
            pooled.append(ops.sum(_softmax_over_time(scores) * encoded, axis=1))
        vector = ops.concatenate(pooled, axis=-1) if len(pooled) > 1 else pooled[0]
        return self.logits(self.dropout(vector, training=training))


def _softmax_over_time(scores: Any) -> Any:
    """As ``ops.softmax(scores, axis=1)``, which warns of a mistake where there is one frame."""
    powers = ops.exp(scores - ops.max(scores, axis=1, keepdims=True))
    return powers / ops.sum(powers, axis=1, keepdims=True)


def _masked_mean(encoded: Any, mask: Any) -> Any:
    if mask is None:
        return ops.mean(encoded, axis=1)
    weight = ops.cast(mask, "float32")[..., None]
    return ops.sum(encoded * weight, axis=1) / ops.sum(weight, axis=1)
