"""Batch normalisation that knows which steps are true, over all bands or by groups of them.

It is what the convolutional networks were published with, and once trained it costs nothing: a
convolution takes it in. While training, a batch's own mean and variance are used, of true steps
alone, so that padding changes nothing; running means of both are kept for afterwards. These are
weights that no gradient changes: a bundle and a checkpoint hold them, and where the weights are
averaged over the training, so are they (``SpeechModel.learnt_variables``).
"""

from __future__ import annotations

from typing import Any

from keras import layers, ops

from speechrnn.errors import ConfigError

# Part of a running mean that stays at each step, and what is added to variances: PyTorch's, which
# BC-ResNet and AraSpot were published with. Keras' 0.99 has forgotten nothing after 60 steps.
MOMENTUM = 0.9
EPSILON = 1e-5


class BatchNorm(layers.Layer):
    """Each channel with mean 0 and variance 1 over batch, true steps and bands, scaled and moved.

    With ``sub_bands`` above 1, neighbouring bands have statistics and scales of their own:
    SubSpectralNorm (Chang et al. 2021, arXiv:2103.13620). Source: Ioffe and Szegedy 2015,
    arXiv:1502.03167.

    ``call(values, step_mask, training)``: float32 ``[batch, steps, channels]`` or ``[batch, steps,
    bands, channels]``, and bool ``[batch, steps]`` or None -> float32 of the same shape.

    Raises:
        ConfigError: The bands do not make so many groups.
    """

    def __init__(self, sub_bands: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True  # Keras' implicit masks are not used: lengths are explicit
        self.sub_bands, self.momentum = sub_bands, MOMENTUM

    def build(self, values_shape: tuple[Any, ...]) -> None:
        """Make gain, offset and the running statistics, each ``[sub_bands, channels]``."""
        self.num_bands = values_shape[-2] if len(values_shape) == 4 else 1
        if self.num_bands % self.sub_bands:
            raise ConfigError(
                f"encoder.sub_bands: got {self.sub_bands} where {self.num_bands} bands are left, "
                "expected a number that divides them"
            )
        shape = (self.sub_bands, values_shape[-1])
        self.gain = self.add_weight(shape=shape, initializer="ones", name="gain")
        self.offset = self.add_weight(shape=shape, initializer="zeros", name="offset")
        self.mean = self.add_weight(
            shape=shape, initializer="zeros", trainable=False, name="running_mean"
        )
        self.variance = self.add_weight(
            shape=shape, initializer="ones", trainable=False, name="running_variance"
        )

    def call(self, values: Any, step_mask: Any = None, training: bool = False) -> Any:
        """Normalise, by the batch's statistics while training."""
        mean, variance = self.mean, self.variance
        if training:
            mean, variance = self._moments(values, step_mask)
            for running, now in ((self.mean, mean), (self.variance, variance)):
                running.assign(
                    self.momentum * running + (1 - self.momentum) * ops.stop_gradient(now)
                )
        scale = self.gain * ops.rsqrt(variance + EPSILON)
        return values * self._by_band(scale) + self._by_band(self.offset - mean * scale)

    def _by_band(self, found: Any) -> Any:
        """``[sub_bands, channels]`` -> ``[bands, channels]``, or as it is for all bands alike."""
        if self.sub_bands == 1:
            return found[0]
        return ops.repeat(found, self.num_bands // self.sub_bands, axis=0)

    def _moments(self, values: Any, step_mask: Any) -> tuple[Any, Any]:
        """Mean and variance of what is true, ``[sub_bands, channels]`` each.

        Sums as products with a row of ones, zeros where the padding is: half the time of
        ``ops.moments``, and the mask is for nothing.
        """
        rows = ops.reshape(values, (-1, self.num_bands * values.shape[-1]))
        true = ops.ones_like(rows[:, 0])
        if step_mask is not None:
            true = ops.cast(ops.reshape(step_mask, (-1,)), "float32")
        weights = (true / ops.maximum(ops.sum(true), 1.0))[None]
        groups = (self.sub_bands, self.num_bands // self.sub_bands, values.shape[-1])
        mean, square = (
            ops.mean(ops.reshape(ops.matmul(weights, powers), groups), axis=1)
            for powers in (rows, ops.square(rows))
        )
        return mean, ops.maximum(square - ops.square(mean), 0.0)
