"""Convolutions over frames, and over frames and bands, that know where a recording ends.

Keras' "same" padding shifts with the length when strides are above 1, so that a clip alone and the
same clip padded would see different frames; here it is fixed: step j is centred on frame
``j * stride``. Frames behind a clip's end count as the zeros that an end would have.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from speechrnn.encoders.normalisation import BatchNorm


def strided(num_frames: Any, stride: int) -> Any:
    """Steps of a convolution over so many frames (int or integer tensor)."""
    return (num_frames + stride - 1) // stride


class TimeConvolution(layers.Layer):
    """A convolution over time, layer normalisation, and ReLU."""

    def __init__(self, filters: int, kernel: int, stride: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True  # Keras' implicit masks are not used: lengths are explicit
        self.kernel, self.stride = kernel, stride
        self.convolution = layers.Conv1D(filters, kernel, strides=stride, name="convolution")
        self.norm = layers.LayerNormalization(name="norm")
        self.pad = padded  # a stream has what came before in its place

    @property
    def padding_layers(self) -> list[keras.Layer]:
        """Those with a ``pad``: itself."""
        return [self]

    def call(self, frames: Any, frame_mask: Any = None, training: bool = False) -> tuple[Any, Any]:
        """float32 ``[batch, frames, features]`` -> ``[batch, steps, filters]``, and the mask."""
        del training
        frames, mask = self.pad(frames, frame_mask, self.kernel, self.stride)
        return ops.relu(self.norm(self.convolution(frames))), mask


class Convolution(layers.Layer):
    """A convolution over frames and bands, batch normalisation, ReLU.

    ``call(values, step_mask, training)``: float32 ``[batch, frames, bands, channels]`` and bool
    ``[batch, frames]`` or None -> the same of steps. Steps do not move with the length, nor bands.
    """

    def __init__(
        self, convolution: keras.Layer, kernel: tuple[int, int], stride: int, name: str
    ) -> None:
        super().__init__(name=name)
        self.supports_masking = True
        self.convolution, self.kernel, self.stride = convolution, kernel, stride
        self.norm = BatchNorm(name="norm")
        self.pad = padded  # a stream has what came before in its place

    def call(self, values: Any, step_mask: Any = None, training: bool = False) -> tuple[Any, Any]:
        """Steps, and their mask."""
        kernel, bands = self.kernel
        values, mask = self.pad(values, step_mask, kernel, self.stride, bands=bands)
        found = self.norm(self.convolution(values), step_mask=mask, training=training)
        return ops.relu(found), mask


class BandConvolution(layers.Conv2D):
    """A strided convolution of bands as they are: Keras' own, without padding, trained faster.

    ``call(values, training)``: float32 ``[batch, frames, bands, 1]`` -> ``[batch, steps, bands,
    filters]``. TensorFlow's gradient with respect to a single channel takes as long on a CPU as the
    rest of a small network. While training, frames and bands within a stride are therefore made
    channels, of which a convolution of stride 1 takes the same sums: with 64 filters and more in
    half the time or less, with fewer in no less.
    """

    def call(self, values: Any, training: bool = False) -> Any:
        """Convolve; Keras hands ``training`` down to layers within layers."""
        if not training:
            return super().call(values)
        num_frames, num_bands = ops.shape(values)[1:3]
        (over_frames, over_bands), (rows, columns) = self.strides, self.kernel_size
        # What no kernel meets is in the way of whole strides.
        values = values[:, : num_frames - (num_frames - rows) % over_frames]
        values = values[:, :, : num_bands - (num_bands - columns) % over_bands]
        kernel = _strides_to_channels(ops.transpose(self.kernel, (3, 0, 1, 2)), self.strides)
        found = ops.conv(
            _strides_to_channels(values, self.strides), ops.transpose(kernel, (1, 2, 3, 0))
        )
        return found + self.bias if self.use_bias else found


def _strides_to_channels(values: Any, strides: tuple[int, int]) -> Any:
    """``[batch, frames, bands, 1]`` -> as many channels as lie within strides, zeros at the end."""
    over_frames, over_bands = strides
    batch, num_frames, num_bands, _ = ops.shape(values)
    more = (0, -num_frames % over_frames), (0, -num_bands % over_bands)
    values = ops.pad(values, ((0, 0), *more, (0, 0)))
    bands = -(-num_bands // over_bands)
    values = ops.reshape(values, (batch, -1, over_frames, bands, over_bands))
    values = ops.transpose(values, (0, 1, 3, 2, 4))
    return ops.reshape(values, (batch, -1, bands, over_frames * over_bands))


def padded(frames: Any, mask: Any, kernel: int, stride: int, *, bands: int = 1) -> tuple[Any, Any]:
    """Frames with zeros before, behind, and where the mask says so; and the mask of the steps.

    ``kernel`` and ``bands`` are what a convolution sees at once, ``stride`` is that over frames.
    """
    if mask is not None:
        inside = ops.reshape(mask, (*ops.shape(mask), *[1] * (len(frames.shape) - 2)))
        frames = ops.where(inside, frames, 0.0)
        mask = mask[:, ::stride]
    # Behind as many as make ceil(frames / stride) steps of a convolution without padding.
    around = [(size // 2, (size - 1) // 2) for size in (kernel, bands)]
    return ops.pad(frames, [(0, 0), *around, (0, 0)][: len(frames.shape)]), mask


def band_matrix(num_bands: int) -> keras.Layer:
    """A learnt matrix from cepstral coefficients, which know no neighbourhood, to bands.

    At first it is the inverse DCT, with the finest structure, which is mostly noise, turned down.
    """
    return layers.Dense(num_bands, kernel_initializer=_inverse_dct, name="bands")


def _inverse_dct(shape: tuple[int, ...], dtype: Any = None) -> Any:
    """From orthonormal DCT-II coefficients of unit variance to bands."""
    size, num_bands = shape
    coefficient, band = np.arange(size)[:, None], np.arange(num_bands)[None, :]
    matrix = np.cos(np.pi * coefficient * (band + 0.5) / num_bands) * np.sqrt(2 / num_bands)
    matrix[0] /= np.sqrt(2)
    matrix *= 2 / np.sqrt(1 + coefficient / 2)
    return ops.convert_to_tensor(matrix.astype(np.float32), dtype=dtype)
