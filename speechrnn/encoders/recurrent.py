"""Recurrent encoders: an optional strided convolution, then stacked (bidirectional) layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from speechrnn.encoders import ENCODERS
from speechrnn.errors import ConfigError


@ENCODERS.register("gru")
@dataclass(frozen=True)
class GRU:
    """Gated recurrent units (Cho et al. 2014, arXiv:1406.1078; the ``reset_after`` variant).

    Attributes:
        units: Width of each direction of each layer.
        num_layers: Recurrent layers, one above the other.
        bidirectional: Whether each layer also reads from the end; doubles its output.
        conv_filters: Channels of a convolution before the first layer; 0 is none.
        conv_kernel: Frames that the convolution sees at once (odd).
        conv_stride: Frames per step of the convolution: the subsampling of the encoder.
        dropout: Fraction of values dropped before each layer and after the last while training.
    """

    units: int = 64
    num_layers: int = 2
    bidirectional: bool = True
    conv_filters: int = 0
    conv_kernel: int = 5
    conv_stride: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("units", "num_layers", "conv_kernel", "conv_stride"):
            if getattr(self, name) < 1:
                raise ConfigError(f"encoder.{name}: got {getattr(self, name)}, expected at least 1")
        if self.conv_filters < 0:
            raise ConfigError(f"encoder.conv_filters: got {self.conv_filters}, expected 0 or more")
        if self.conv_filters and self.conv_kernel % 2 == 0:
            raise ConfigError(
                f"encoder.conv_kernel: got {self.conv_kernel}, expected an odd number"
            )
        if self.conv_stride > 1 and not self.conv_filters:
            raise ConfigError(
                f"encoder.conv_stride: got {self.conv_stride} without a convolution; "
                "expected 1, or set encoder.conv_filters"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"encoder.dropout: got {self.dropout}, expected 0 <= dropout < 1")

    def output_frames(self, num_frames: Any) -> Any:
        """Step j of the encoder is centred on frame ``j * conv_stride``."""
        return (num_frames + self.conv_stride - 1) // self.conv_stride

    def build_layer(self) -> keras.Layer:
        """The encoder as a Keras layer."""
        return RecurrentEncoder(self, name="encoder")


class RecurrentEncoder(layers.Layer):
    """The Keras layer of a recurrent encoder; see :class:`speechrnn.encoders.Encoder`."""

    def __init__(self, config: GRU, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True  # Keras' implicit masks are not used: lengths are explicit
        self.config = config
        self.convolution: Any = None
        if config.conv_filters:
            self.convolution = layers.Conv1D(
                config.conv_filters, config.conv_kernel, strides=config.conv_stride, name="conv"
            )
            self.norm = layers.LayerNormalization(name="conv_norm")
        self.recurrent = [self._recurrent_layer(i) for i in range(config.num_layers)]
        self.dropout = layers.Dropout(config.dropout, name="dropout")

    def _recurrent_layer(self, index: int) -> keras.Layer:
        layer = layers.GRU(self.config.units, return_sequences=True, name=f"gru_{index}")
        if not self.config.bidirectional:
            return layer
        return layers.Bidirectional(layer, merge_mode="concat", name=f"bidirectional_{index}")

    def call(self, frames: Any, frame_mask: Any = None, training: bool = False) -> tuple[Any, Any]:
        """Frames -> encoded frames and their mask."""
        encoded, mask = frames, frame_mask
        if self.convolution is not None:
            encoded, mask = self._convolve(encoded, mask)
        for layer in self.recurrent:
            encoded = self.dropout(encoded, training=training)
            encoded = layer(encoded, mask=mask, training=training)
        return self.dropout(encoded, training=training), mask

    def _convolve(self, frames: Any, mask: Any) -> tuple[Any, Any]:
        """Strided convolution whose padding does not depend on the length.

        Keras' "same" padding shifts with the length when strides are above 1, so that a clip
        alone and the same clip padded would see different frames; ours is fixed on the left.
        """
        config = self.config
        if mask is not None:  # frames behind the end count as the zeros that an end would have
            frames = ops.where(mask[..., None], frames, 0.0)
            mask = mask[:, :: config.conv_stride]
        left = config.conv_kernel // 2
        steps = config.output_frames(ops.shape(frames)[1])
        used = (steps - 1) * config.conv_stride + config.conv_kernel
        frames = ops.pad(frames, ((0, 0), (left, config.conv_kernel), (0, 0)))[:, :used]
        return ops.relu(self.norm(self.convolution(frames))), mask
