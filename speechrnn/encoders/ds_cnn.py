"""The depthwise-separable CNN that keyword spotters on microcontrollers are judged against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers, ops

from speechrnn.encoders import ENCODERS
from speechrnn.encoders.convolution import BandConvolution, Convolution, band_matrix, strided
from speechrnn.encoders.normalisation import BatchNorm
from speechrnn.encoders.settings import Settings
from speechrnn.errors import ConfigError

# Frames and bands that a convolution sees at once: the first one, and those of the blocks.
FIRST_KERNEL = (10, 4)
BLOCK_KERNEL = (3, 3)


@ENCODERS.register("ds_cnn")
@dataclass(frozen=True)
class DSCNN(Settings):
    """DS-CNN: a convolution, then blocks of one filter a channel and a mixing of the channels.

    Source: Zhang et al. 2017, "Hello Edge", arXiv:1711.07128, and the keyword spotting model of
    MLPerf Tiny (Banbury et al. 2021, arXiv:2106.07597), which is this one with ``num_bands = 0``
    and ``block_stride = 1`` on 10 coefficients of 50 frames a second. For 100 frames the strides
    here make as many steps, and as many bands, of a second. There the last block is averaged over
    bands and time; here over bands, and over time by the head: with its average pooling alone it
    is the published network. What comes before a clip and behind it is zero, at any length.

    Attributes:
        num_bands: Bands that a learnt matrix makes of the coefficients, which know no
            neighbourhood; 0 convolves the features as they are.
        width: Channels.
        num_layers: Blocks after the first convolution.
        frame_stride: Frames per step of the first convolution.
        band_stride: Bands per step of it.
        block_stride: Steps, and bands, per step of the first block.
        dropout: Fraction of values dropped behind the first convolution and the last block.
    """

    num_bands: int = 20
    width: int = 64
    num_layers: int = 4
    frame_stride: int = 2
    band_stride: int = 2
    block_stride: int = 2
    dropout: float = 0.2

    def __post_init__(self) -> None:
        self.require_at_least_one("width", "num_layers")
        self.require_at_least_one("frame_stride", "band_stride", "block_stride")
        self.require_fractions("dropout")
        if self.num_bands < 0:
            raise ConfigError(f"encoder.num_bands: got {self.num_bands}, expected 0 or more")

    def output_frames(self, num_frames: Any) -> Any:
        """Step j is centred on frame j times both strides."""
        return strided(strided(num_frames, self.frame_stride), self.block_stride)

    def resized(self, size: int) -> DSCNN:
        """With so many channels."""
        return replace(self, width=size)

    def build_layer(self) -> keras.Layer:
        """The encoder as a Keras layer."""
        return DSCNNEncoder(self, name="encoder")


class SeparableBlock(layers.Layer):
    """Neighbourhoods channel by channel, then the channels of each place, both as Convolution."""

    def __init__(self, width: int, stride: int, name: str) -> None:
        super().__init__(name=name)
        self.supports_masking = True
        depthwise = layers.DepthwiseConv2D(BLOCK_KERNEL, strides=stride, name="convolution")
        self.around = Convolution(depthwise, BLOCK_KERNEL, stride, name="depthwise")
        self.mix = layers.Conv2D(width, 1, name="mix")
        self.norm = BatchNorm(name="norm")

    def call(self, values: Any, step_mask: Any = None, training: bool = False) -> tuple[Any, Any]:
        """Steps, and their mask."""
        values, mask = self.around(values, step_mask=step_mask, training=training)
        return ops.relu(self.norm(self.mix(values), step_mask=mask, training=training)), mask


class DSCNNEncoder(layers.Layer):
    """The Keras layer of :class:`DSCNN`; see :class:`speechrnn.encoders.Encoder`."""

    def __init__(self, config: DSCNN, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.bands = band_matrix(config.num_bands) if config.num_bands else None
        strides = config.frame_stride, config.band_stride
        first = BandConvolution(config.width, FIRST_KERNEL, strides=strides, name="convolution")
        self.first = Convolution(first, FIRST_KERNEL, config.frame_stride, name="first")
        self.blocks = [
            SeparableBlock(config.width, config.block_stride if i == 0 else 1, name=f"block_{i}")
            for i in range(config.num_layers)
        ]
        self.dropout = layers.Dropout(config.dropout, name="dropout")

    def call(self, frames: Any, frame_mask: Any = None, training: bool = False) -> tuple[Any, Any]:
        """Frames -> encoded frames and their mask."""
        values = ops.expand_dims(self.bands(frames) if self.bands else frames, -1)
        values, mask = self.first(values, step_mask=frame_mask, training=training)
        values = self.dropout(values, training=training)
        for block in self.blocks:
            values, mask = block(values, step_mask=mask, training=training)
        return self.dropout(ops.mean(values, axis=2), training=training), mask
