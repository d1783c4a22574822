"""Recurrent encoders: optional strided convolutions, then stacked (bidirectional) layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import keras
from keras import layers

from speechrnn.encoders import ENCODERS
from speechrnn.encoders.subsampling import Subsampling, subsampled


@dataclass(frozen=True)
class Recurrent(Subsampling):
    """What recurrent encoders have in common; which one it is, is the kind of its layers.

    Dropout is before each layer and after the last.

    Attributes:
        units: Width of each direction of each layer.
        num_layers: Recurrent layers, one above the other.
        bidirectional: Whether each layer also reads from the end; doubles its output.
        residual: Whether what comes into a layer is added to what leaves it, where both are as wide
            (He et al. 2016, arXiv:1512.03385): for depth.
        layer_norm: Whether what comes into each layer is normalised over its values (Ba et al.
            2016, arXiv:1607.06450).
    """

    units: int = 64
    num_layers: int = 2
    bidirectional: bool = True
    residual: bool = False
    layer_norm: bool = False

    kind: ClassVar[type[layers.Layer]]
    prefix: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least_one("units", "num_layers")

    def resized(self, size: int) -> Recurrent:
        """With so many units."""
        return replace(self, units=size)

    def build_layer(self) -> keras.Layer:
        """The encoder as a Keras layer."""
        return RecurrentEncoder(self, name="encoder")


@ENCODERS.register("gru")
@dataclass(frozen=True)
class GRU(Recurrent):
    """Gated recurrent units (Cho et al. 2014, arXiv:1406.1078; the ``reset_after`` variant)."""

    kind = layers.GRU
    prefix = "gru"


@ENCODERS.register("lstm")
@dataclass(frozen=True)
class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000), forget bias 1."""

    kind = layers.LSTM
    prefix = "lstm"


@ENCODERS.register("simple_rnn")
@dataclass(frozen=True)
class SimpleRNN(Recurrent):
    """The plain recurrence ``tanh(x W + h U + b)`` (Elman 1990), orthogonal ``U`` at first."""

    kind = layers.SimpleRNN
    prefix = "simple_rnn"


def run_layer(layer: keras.Layer, frames: Any, mask: Any, training: bool) -> Any:
    """What a recurrent layer makes of frames of which those in the mask are true."""
    return layer(frames, mask=mask, training=training)


def recurrent_layer(
    kind: type[keras.Layer], units: int, prefix: str, two_way: bool, index: int
) -> keras.Layer:
    """A layer of so many units in each direction, which answers at every step."""
    layer = kind(units, return_sequences=True, name=f"{prefix}_{index}")
    if not two_way:
        return layer
    return layers.Bidirectional(layer, merge_mode="concat", name=f"bidirectional_{index}")


class RecurrentEncoder(layers.Layer):
    """The Keras layer of a recurrent encoder; see :class:`speechrnn.encoders.Encoder`."""

    def __init__(self, config: Recurrent, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True  # Keras' implicit masks are not used: lengths are explicit
        self.config = config
        self.convolutions = config.build_convolutions()
        shape = (config.kind, config.units, config.prefix, config.bidirectional)
        self.recurrent = [recurrent_layer(*shape, i) for i in range(config.num_layers)]
        self.norms = [
            layers.LayerNormalization(epsilon=1e-5, name=f"norm_{i}")
            for i in range(config.num_layers if config.layer_norm else 0)
        ]
        self.dropout = layers.Dropout(config.dropout, name="dropout")
        # The export puts a faster loop of its own in their place, or what a stream carries.
        self.subsampled, self.run_layer = subsampled, run_layer

    def call(self, frames: Any, frame_mask: Any = None, training: bool = False) -> tuple[Any, Any]:
        """Frames -> encoded frames and their mask."""
        encoded, mask = self.subsampled(self.convolutions, frames, frame_mask, training)
        for index, layer in enumerate(self.recurrent):
            entering = self.norms[index](encoded) if self.norms else encoded
            entering = self.dropout(entering, training=training)
            leaving = self.run_layer(layer, entering, mask, training)
            as_wide = encoded.shape[-1] == leaving.shape[-1]
            encoded = encoded + leaving if self.config.residual and as_wide else leaving
        return self.dropout(encoded, training=training), mask
