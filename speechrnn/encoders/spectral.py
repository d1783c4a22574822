"""What recurrent layers and transformers begin with: 2-D convolutions over time and mel bands."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from speechrnn.encoders.convolution import Convolution, band_matrix, padded
from speechrnn.encoders.normalisation import BatchNorm

# Of the first two: frames and bands that are seen at once, and the step in both.
FIRST_KERNELS = ((5, 5), (5, 3))
STRIDE = 2
BLOCK_KERNEL = (3, 3)


class SpectralConvolutions(layers.Layer):
    """2-D convolutions over time and mel bands: the same pattern at another pitch or formant.

    Two halve steps and bands each, blocks behind them see patterns of patterns, and a matrix puts
    a step's bands together: where a pattern lies matters after all. Source: after Sainath and
    Parada 2015, "Convolutional neural networks for small-footprint keyword spotting", with the
    separable convolutions of Zhang et al. 2017, arXiv:1711.07128, residual as in He et al. 2016,
    arXiv:1512.03385, instead of its second layer.

    ``call(frames, frame_mask, training)``: float32 ``[batch, frames, coefficients]`` and bool
    ``[batch, frames]`` or None -> float32 ``[batch, steps, width]`` and the mask of the steps.

    Args:
        filters: Of the first convolution.
        channels: Of the second, and of the blocks.
        num_blocks: How many.
        width: Of what is handed on.
    """

    def __init__(
        self, filters: int, channels: int, num_blocks: int, width: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True  # Keras' implicit masks are not used: lengths are explicit
        self.bands: Any = None
        self.convolutions = [
            Convolution(
                layers.Conv2D(size, kernel, strides=STRIDE, use_bias=False, name="convolution"),
                *(kernel, STRIDE),
                name=f"conv_{i}",
            )
            for i, (size, kernel) in enumerate(zip((filters, channels), FIRST_KERNELS, strict=True))
        ]
        self.blocks = [SeparableBlock(channels, name=f"block_{i}") for i in range(num_blocks)]
        self.merge = layers.Dense(width, use_bias=False, name="merge")
        self.merge_norm = BatchNorm(name="merge_norm")

    @property
    def padding_layers(self) -> list[keras.Layer]:
        """Those with a ``pad``, in the order in which they are called."""
        return [*self.convolutions, *self.blocks]

    def build(self, frames_shape: tuple[Any, ...]) -> None:
        """Make the matrix from coefficients to as many bands."""
        self.bands = band_matrix(frames_shape[-1])
        self.built = True

    def call(self, frames: Any, frame_mask: Any = None, training: bool = False) -> tuple[Any, Any]:
        """Steps, and their mask."""
        values, mask = self.bands(frames)[..., None], frame_mask
        for convolution in self.convolutions:
            values, mask = convolution(values, step_mask=mask, training=training)
        for block in self.blocks:
            values = block(values, step_mask=mask, training=training)
        batch, _, bands, channels = ops.shape(values)
        merged = self.merge(ops.reshape(values, (batch, -1, bands * channels)))
        return ops.relu(self.merge_norm(merged, step_mask=mask, training=training)), mask


class SeparableBlock(layers.Layer):
    """Neighbourhoods channel by channel, then the channels of each place; added to what came in.

    ``call(values, step_mask, training)``: float32 ``[batch, steps, bands, channels]`` and bool
    ``[batch, steps]`` or None -> float32 of the same shape.
    """

    def __init__(self, channels: int, name: str) -> None:
        super().__init__(name=name)
        self.supports_masking = True
        self.around = layers.DepthwiseConv2D(BLOCK_KERNEL, use_bias=False, name="around")
        self.around_norm = BatchNorm(name="around_norm")
        self.mix = layers.Conv2D(channels, 1, use_bias=False, name="mix")
        self.mix_norm = BatchNorm(name="mix_norm")
        self.pad = padded  # a stream has what came before in its place

    def call(self, values: Any, step_mask: Any = None, training: bool = False) -> Any:
        """As many steps."""
        kernel, bands = BLOCK_KERNEL
        values, _ = self.pad(values, step_mask, kernel, 1, bands=bands)
        found = self.around_norm(self.around(values), step_mask=step_mask, training=training)
        found = self.mix_norm(self.mix(ops.relu(found)), step_mask=step_mask, training=training)
        # What came in, without the padding: of a stream some steps before what came in last.
        before, below = kernel // 2, bands // 2
        return ops.relu(values[:, before:-before, below:-below] + found)
