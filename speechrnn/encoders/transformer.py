"""Self-attention: every step sees every other at once, however far away it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from speechrnn.encoders import ENCODERS
from speechrnn.encoders.subsampling import Subsampling, subsampled
from speechrnn.errors import ConfigError

# Wave lengths of the rotations: from 2 pi steps to so many times that.
LONGEST_TURN = 10_000.0
# Added where attention must not go: no probability is left of it in float32.
NOWHERE = -1e9


@ENCODERS.register("transformer")
@dataclass(frozen=True)
class Transformer(Subsampling):
    """Pre-norm transformer encoder with rotary positions.

    Source: Vaswani et al. 2017, arXiv:1706.03762; normalisation before each part, Xiong et al.
    2020, arXiv:2002.04745; positions, Su et al. 2021, arXiv:2104.09864. Dropout is on what each
    part adds.

    Attributes:
        width: Of every step; even for each head.
        num_layers: Pairs of self-attention and feed-forward part, one above the other.
        num_heads: Attentions side by side; they share the width.
        feed_forward: How many times as wide the feed-forward part is inside.
    """

    width: int = 96
    num_layers: int = 4
    num_heads: int = 4
    feed_forward: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least_one("width", "num_layers", "num_heads", "feed_forward")
        check_heads(self.width, self.num_heads)

    # It needs the end, as a second direction does: it cannot stream.
    bidirectional = True

    def resized(self, size: int) -> Transformer:
        """With so many pairs of values in each head."""
        return replace(self, width=2 * self.num_heads * size)

    def build_layer(self) -> keras.Layer:
        """The encoder as a Keras layer."""
        return TransformerEncoder(self, name="encoder")


def check_heads(width: int, num_heads: int) -> None:
    """Refuse a width of which the heads cannot have equal parts, of pairs of values."""
    if width % (2 * num_heads):
        raise ConfigError(
            f"encoder.width: got {width} for {num_heads} heads, expected a multiple of "
            f"{2 * num_heads}: each head turns pairs of values"
        )


class SelfAttention(layers.Layer):
    """Scaled dot-product attention of each step to all true ones, in several heads.

    ``call(steps, step_mask)``: float32 ``[batch, steps, width]``, and bool ``[batch, steps]`` or
    None -> float32 of the same shape.
    """

    def __init__(self, width: int, num_heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.num_heads, self.size = num_heads, width // num_heads
        self.project = layers.Dense(3 * width, name="project")
        self.merge = layers.Dense(width, name="merge")

    def call(self, steps: Any, step_mask: Any = None) -> Any:
        """Attend, and merge the heads."""
        query, key, value = (
            self._heads(part) for part in ops.split(self.project(steps), 3, axis=-1)
        )
        query, key = rotated(query), rotated(key)
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) / np.sqrt(self.size)
        mask = None if step_mask is None else step_mask[:, None, None, :]
        weights = attention_weights(scores, mask)
        found = ops.matmul(weights, value)
        width = self.num_heads * self.size
        merged = ops.reshape(ops.transpose(found, (0, 2, 1, 3)), (ops.shape(steps)[0], -1, width))
        return self.merge(merged)

    def _heads(self, part: Any) -> Any:
        """``[batch, steps, width]`` -> ``[batch, heads, steps, size]``."""
        shape = (ops.shape(part)[0], -1, self.num_heads, self.size)
        return ops.transpose(ops.reshape(part, shape), (0, 2, 1, 3))


def attention_weights(scores: Any, mask: Any = None) -> Any:
    """How much each asking step listens to each step; nothing to those outside the mask.

    float32 ``[..., asking, steps]``, and a bool mask that fits it, or None -> the same shape.
    """
    if mask is not None:
        scores = ops.where(mask, scores, NOWHERE)
    # To one step alone there is nothing to choose; Keras warns of that.
    return ops.softmax(scores) if scores.shape[-1] != 1 else ops.ones_like(scores)


def rotated(part: Any) -> Any:
    """Pairs of values turned by their step's place, so that products know distances alone.

    float32 ``[..., steps, size]``; value ``i`` and ``i + size / 2`` are a pair.
    """
    half = part.shape[-1] // 2
    speeds = (LONGEST_TURN ** (-np.arange(half) / half)).astype(np.float32)
    places = ops.cast(ops.arange(ops.shape(part)[-2]), "float32")
    angles = places[:, None] * speeds
    cosine, sine = ops.cos(angles), ops.sin(angles)
    first, second = part[..., :half], part[..., half:]
    return ops.concatenate(
        [first * cosine - second * sine, first * sine + second * cosine], axis=-1
    )


class TransformerEncoder(layers.Layer):
    """The Keras layer of a transformer; see :class:`speechrnn.encoders.Encoder`."""

    def __init__(self, config: Transformer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.config = config
        self.convolutions = config.build_convolutions()
        self.embed = layers.Dense(config.width, name="embed")
        self.blocks = [
            TransformerBlock(config, name=f"block_{i}") for i in range(config.num_layers)
        ]
        self.norm = layers.LayerNormalization(epsilon=1e-5, name="norm")

    def call(self, frames: Any, frame_mask: Any = None, training: bool = False) -> tuple[Any, Any]:
        """Frames -> encoded frames and their mask."""
        encoded, mask = subsampled(self.convolutions, frames, frame_mask, training)
        encoded = self.embed(encoded)
        for block in self.blocks:
            encoded = block(encoded, step_mask=mask, training=training)
        return self.norm(encoded), mask


class TransformerBlock(layers.Layer):
    """What self-attention adds, then what a feed-forward part adds, each to what came in."""

    def __init__(self, config: Transformer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.attention = SelfAttention(config.width, config.num_heads, name="attention")
        inner = config.feed_forward * config.width
        self.widen = layers.Dense(inner, activation="gelu", name="widen")
        self.narrow = layers.Dense(config.width, name="narrow")
        self.norms = [
            layers.LayerNormalization(epsilon=1e-5, name=f"{part}_norm")
            for part in ("attention", "feed_forward")
        ]
        self.dropout = layers.Dropout(config.dropout, name="dropout")

    def call(self, steps: Any, step_mask: Any = None, training: bool = False) -> Any:
        """float32 ``[batch, steps, width]`` -> the same shape."""
        added = self.attention(self.norms[0](steps), step_mask=step_mask)
        steps = steps + self.dropout(added, training=training)
        added = self.narrow(self.widen(self.norms[1](steps)))
        return steps + self.dropout(added, training=training)
