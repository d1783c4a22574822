"""Recurrent layers, and attention in which what a step says chooses the steps to listen to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import keras
from keras import layers, ops

from speechrnn.encoders import ENCODERS
from speechrnn.encoders.convolution import padded, strided
from speechrnn.encoders.normalisation import BatchNorm
from speechrnn.encoders.recurrent import recurrent_layer, run_layer
from speechrnn.encoders.settings import Settings
from speechrnn.encoders.transformer import attention_weights

# Channels of the convolutions over time, one above the other: the last gives one value a feature.
FILTERS = (10, 1)


@ENCODERS.register("mhatt_rnn")
@dataclass(frozen=True)
class MHAttRNN(Settings):
    """MHAtt-RNN: convolutions over time, bidirectional GRU layers, multi-head attention.

    Source: Rybakov et al. 2020, arXiv:2005.06720 (kws_streaming, ``att_mh_rnn``), after de Andrade
    et al. 2018, arXiv:1808.08929. There one step asks, the middle one, so that a clip becomes one
    vector. Here every step asks and gets its own, as labels at every step need it, and the head
    pools; with ``query = "middle"`` all steps get what the middle one got, and the classification
    head makes of it what was published.

    Attributes:
        stride: Frames per step of each of the two convolutions; the paper's is 1.
        kernel: Frames that each of them sees at once (odd).
        units: Width of each direction of each recurrent layer.
        num_layers: Recurrent layers, one above the other.
        num_heads: Attentions side by side, each over all that the recurrent layers say.
        width: Of what leaves the encoder.
        query: Which step asks: "each" one for itself, or the "middle" one for all; a head that
            answers step by step learns nothing from that.
        dropout: Fraction of attended values dropped while training.
    """

    stride: int = 1
    kernel: int = 5
    units: int = 128
    num_layers: int = 2
    num_heads: int = 4
    width: int = 64
    query: Literal["each", "middle"] = "each"
    dropout: float = 0.2

    def __post_init__(self) -> None:
        self.require_at_least_one("stride", "kernel", "units", "num_layers", "num_heads", "width")
        self.require_odd("kernel")
        self.require_fractions("dropout")

    # It needs the end twice over: it cannot stream.
    bidirectional = True

    def output_frames(self, num_frames: Any) -> Any:
        """Step j is centred on frame j times both strides."""
        for _ in FILTERS:
            num_frames = strided(num_frames, self.stride)
        return num_frames

    def resized(self, size: int) -> MHAttRNN:
        """With so many units."""
        return replace(self, units=size)

    def build_layer(self) -> keras.Layer:
        """The encoder as a Keras layer."""
        return MHAttRNNEncoder(self, name="encoder")


class Attention(layers.Layer):
    """Means of all true steps, weighted by their product with a projection of the asking one.

    ``call(asking, steps, step_mask)``: float32 ``[batch, asking, width]`` and ``[batch, steps,
    width]``, bool ``[batch, steps]`` or None -> float32 ``[batch, asking, num_heads * width]``.
    Products are not scaled and steps are not projected, as published.
    """

    def __init__(self, num_heads: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.num_heads, self.width = num_heads, width
        self.project = layers.Dense(num_heads * width, name="project")

    def call(self, asking: Any, steps: Any, step_mask: Any = None) -> Any:
        """Ask."""
        batch, wide = ops.shape(steps)[0], self.num_heads * self.width
        # The heads of a step one behind the other, as if they were steps.
        queries = ops.reshape(self.project(asking), (batch, -1, self.width))
        scores = ops.matmul(queries, ops.transpose(steps, (0, 2, 1)))
        weights = attention_weights(scores, None if step_mask is None else step_mask[:, None])
        return ops.reshape(ops.matmul(weights, steps), (batch, -1, wide))


class MHAttRNNEncoder(layers.Layer):
    """The Keras layer of :class:`MHAttRNN`; see :class:`speechrnn.encoders.Encoder`."""

    def __init__(self, config: MHAttRNN, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.config = config
        shape, strides = (config.kernel, 1), (config.stride, 1)
        self.time_convolutions = [
            layers.Conv2D(filters, shape, strides=strides, activation="relu", name=f"conv_{i}")
            for i, filters in enumerate(FILTERS)
        ]
        self.norms = [BatchNorm(name=f"norm_{i}") for i in range(len(FILTERS))]
        self.recurrent = [
            recurrent_layer(layers.GRU, config.units, "gru", True, i)
            for i in range(config.num_layers)
        ]
        self.attention = Attention(config.num_heads, 2 * config.units, name="attention")
        self.dropout = layers.Dropout(config.dropout, name="dropout")
        self.merge = layers.Dense(config.width, activation="relu", name="merge")
        self.run_layer = run_layer  # the export puts a faster loop of its own in its place

    def call(self, frames: Any, frame_mask: Any = None, training: bool = False) -> tuple[Any, Any]:
        """Frames -> encoded frames and their mask."""
        values, mask = frames[..., None], frame_mask
        for convolution, norm in zip(self.time_convolutions, self.norms, strict=True):
            values, mask = padded(values, mask, self.config.kernel, self.config.stride)
            values = norm(convolution(values), step_mask=mask, training=training)
        steps = values[..., 0]
        for layer in self.recurrent:
            steps = self.run_layer(layer, steps, mask, training)
        asking = steps if self.config.query == "each" else _middle(steps, mask)
        found = self.dropout(self.attention(asking, steps, step_mask=mask), training=training)
        encoded = self.merge(found)
        if self.config.query == "middle":
            encoded = encoded + ops.zeros_like(steps[..., :1])
        return encoded, mask


def _middle(steps: Any, mask: Any) -> Any:
    """The step in the middle of the true ones, ``[batch, 1, width]``."""
    if mask is None:
        middle = ops.shape(steps)[1] // 2
        return steps[:, middle : middle + 1]
    middle = ops.sum(ops.cast(mask, "int32"), axis=1) // 2
    return ops.take_along_axis(steps, middle[:, None, None], axis=1)
