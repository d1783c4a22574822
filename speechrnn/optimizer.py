"""The optimiser, and the running mean of the weights that is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import keras
import numpy as np
from keras import ops

from speechrnn.model import SpeechModel
from speechrnn.recipe import TrainConfig


def make_optimizer(config: TrainConfig, total_steps: int) -> keras.optimizers.Optimizer:
    """AdamW with warm-up, cosine decay, and gradients clipped to a longest norm."""
    warmup_steps = round(config.warmup_fraction * total_steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else config.learning_rate,
        decay_steps=max(1, total_steps - warmup_steps),
        warmup_target=config.learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    return keras.optimizers.AdamW(
        schedule,
        weight_decay=config.weight_decay,
        global_clipnorm=config.gradient_clip_norm or None,
    )


class WeightAverage:
    """A running mean of the learnt weights, which recognises new voices better than the last.

    The decay grows with the number of updates up to ``decay``, so that the first, random weights
    are soon forgotten. Running statistics of batch normalisation are averaged alike: those of the
    last weights are not those of the mean. Source: Polyak and Juditsky 1992; the warm-up is that of
    TensorFlow's ``tf.train.ExponentialMovingAverage``.
    """

    def __init__(self, model: SpeechModel, decay: float) -> None:
        self._model, self._decay, self.updates = model, decay, 0
        self.weights = learnt_weights(model)

    def update(self) -> None:
        """Take the weights as they are now into the mean."""
        self.updates += 1
        decay = min(self._decay, self.updates / (9 + self.updates))
        for mean, variable in zip(self.weights, self._model.learnt_variables, strict=True):
            mean += np.float32(1 - decay) * (ops.convert_to_numpy(variable) - mean)

    def applied(self) -> AbstractContextManager[None]:
        """A context in which the model has the mean as its weights."""
        return swapped_weights(self._model, self.weights)


@contextmanager
def swapped_weights(model: SpeechModel, weights: Sequence[np.ndarray]) -> Iterator[None]:
    """A context in which the model has other weights."""
    kept = learnt_weights(model)
    assign_weights(model, weights)
    try:
        yield
    finally:
        assign_weights(model, kept)


def learnt_weights(model: SpeechModel) -> list[np.ndarray]:
    """Copies of the weights that training changes."""
    return [np.array(ops.convert_to_numpy(v)) for v in model.learnt_variables]


def assign_weights(model: SpeechModel, weights: Sequence[np.ndarray]) -> None:
    """Put values back as :func:`learnt_weights` gave them."""
    for variable, value in zip(model.learnt_variables, weights, strict=True):
        variable.assign(value)
