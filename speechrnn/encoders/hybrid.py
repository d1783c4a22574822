"""Self-attention, convolution and recurrence in one encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers, ops

from speechrnn.encoders import ENCODERS
from speechrnn.encoders.convolution import padded
from speechrnn.encoders.normalisation import BatchNorm
from speechrnn.encoders.recurrent import recurrent_layer, run_layer
from speechrnn.encoders.subsampling import Subsampling, subsampled
from speechrnn.encoders.transformer import SelfAttention, check_heads


@ENCODERS.register("hybrid")
@dataclass(frozen=True)
class Hybrid(Subsampling):
    """ConformerGRU: conformer blocks, which see everything at once, then a GRU, which counts steps.

    Source: Salhab and Harmanani 2023, "AraSpot", arXiv:2303.16621; the block is that of Gulati et
    al. 2020, arXiv:2005.08100, with rotary positions (Su et al. 2021, arXiv:2104.09864). The paper
    pools over time; here the head does. Dropout is on what each part adds, and after the last
    layer.

    Attributes:
        width: Of every step in the blocks; even for each head.
        num_blocks: Conformer blocks, one above the other.
        num_heads: Attentions side by side; they share the width.
        feed_forward: How many times as wide the two feed-forward parts of a block are inside.
        kernel: Steps that the convolution of a block sees at once (odd).
        units: Width of each direction of each recurrent layer.
        num_layers: Recurrent layers above the blocks.
        two_way: Whether each recurrent layer also reads from the end; doubles its output.
    """

    width: int = 96
    num_blocks: int = 2
    num_heads: int = 4
    feed_forward: int = 2
    kernel: int = 5
    units: int = 96
    num_layers: int = 1
    two_way: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least_one("width", "num_blocks", "num_heads", "feed_forward", "kernel")
        self.require_at_least_one("units", "num_layers")
        self.require_odd("kernel")
        check_heads(self.width, self.num_heads)

    # The blocks need the end, whatever the recurrent layers do: it cannot stream.
    bidirectional = True

    def resized(self, size: int) -> Hybrid:
        """With so many pairs of values in each head, and as many units as values, as published."""
        width = 2 * self.num_heads * size
        return replace(self, width=width, units=width)

    def build_layer(self) -> keras.Layer:
        """The encoder as a Keras layer."""
        return HybridEncoder(self, name="encoder")


class HybridEncoder(layers.Layer):
    """The Keras layer of :class:`Hybrid`; see :class:`speechrnn.encoders.Encoder`."""

    def __init__(self, config: Hybrid, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.convolutions = config.build_convolutions()
        self.embed = layers.Dense(config.width, name="embed")
        self.blocks = [ConformerBlock(config, name=f"block_{i}") for i in range(config.num_blocks)]
        shape = (layers.GRU, config.units, "gru", config.two_way)
        self.recurrent = [recurrent_layer(*shape, i) for i in range(config.num_layers)]
        self.dropout = layers.Dropout(config.dropout, name="dropout")
        self.run_layer = run_layer  # the export puts a faster loop of its own in its place

    def call(self, frames: Any, frame_mask: Any = None, training: bool = False) -> tuple[Any, Any]:
        """Frames -> encoded frames and their mask."""
        encoded, mask = subsampled(self.convolutions, frames, frame_mask, training)
        encoded = self.embed(encoded)
        for block in self.blocks:
            encoded = block(encoded, step_mask=mask, training=training)
        for layer in self.recurrent:
            encoded = self.run_layer(layer, encoded, mask, training)
        return self.dropout(encoded, training=training), mask


class ConformerBlock(layers.Layer):
    """Half a feed-forward part, self-attention, convolution, the other half; then normalised.

    ``call(steps, step_mask, training)``: float32 ``[batch, steps, width]`` and bool
    ``[batch, steps]`` or None -> float32 of the same shape.
    """

    def __init__(self, config: Hybrid, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.before = FeedForward(config, name="before")
        self.attention = SelfAttention(config.width, config.num_heads, name="attention")
        self.convolution = GatedConvolution(config, name="convolution")
        self.after = FeedForward(config, name="after")
        self.norms = [
            layers.LayerNormalization(epsilon=1e-5, name=f"{part}_norm")
            for part in ("before", "attention", "convolution", "after", "last")
        ]
        self.dropout = layers.Dropout(config.dropout, name="dropout")

    def call(self, steps: Any, step_mask: Any = None, training: bool = False) -> Any:
        """The block."""

        def kept(added: Any) -> Any:
            return self.dropout(added, training=training)

        before, attention, convolution, after, last = self.norms
        steps = steps + 0.5 * kept(self.before(before(steps), training=training))
        steps = steps + kept(self.attention(attention(steps), step_mask=step_mask))
        convolved = self.convolution(convolution(steps), step_mask=step_mask, training=training)
        steps = steps + kept(convolved)
        steps = steps + 0.5 * kept(self.after(after(steps), training=training))
        return last(steps)


class FeedForward(layers.Layer):
    """Wider, swish, and narrow again: float32 ``[batch, steps, width]`` -> the same shape."""

    def __init__(self, config: Hybrid, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        inner = config.feed_forward * config.width
        self.widen = layers.Dense(inner, activation="silu", name="widen")
        self.narrow = layers.Dense(config.width, name="narrow")
        self.dropout = layers.Dropout(config.dropout, name="dropout")

    def call(self, steps: Any, training: bool = False) -> Any:
        """The part."""
        return self.narrow(self.dropout(self.widen(steps), training=training))


class GatedConvolution(layers.Layer):
    """Mixed and gated channels, each convolved over time, normalised, and mixed again.

    ``call(steps, step_mask, training)``: float32 ``[batch, steps, width]`` and bool
    ``[batch, steps]`` or None -> float32 of the same shape.
    """

    def __init__(self, config: Hybrid, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.kernel = config.kernel
        self.enter = layers.Dense(2 * config.width, activation="glu", name="enter")
        self.over_time = layers.DepthwiseConv1D(config.kernel, name="over_time")
        self.norm = BatchNorm(name="norm")
        self.leave = layers.Dense(config.width, name="leave")

    def call(self, steps: Any, step_mask: Any = None, training: bool = False) -> Any:
        """The part."""
        found, _ = padded(self.enter(steps), step_mask, self.kernel, 1)
        found = self.norm(self.over_time(found), step_mask=step_mask, training=training)
        return self.leave(ops.silu(found))
