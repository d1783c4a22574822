"""Residual blocks most of which see time alone, for all bands at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers, ops

from speechrnn.encoders import ENCODERS
from speechrnn.encoders.convolution import BandConvolution, band_matrix, padded, strided
from speechrnn.encoders.normalisation import BatchNorm
from speechrnn.encoders.settings import Settings
from speechrnn.errors import ConfigError

# Of each stage: channels in units of the base, bands per step of its first block.
STAGES = ((1.0, 1), (1.5, 2), (2.0, 2), (2.5, 1))
# The first convolution sees so many frames and bands, and takes every second band ...
FIRST_KERNEL = 5
FIRST_STRIDE = 2
# ... so that of the bands so many become one.
BAND_STRIDE = math.prod(stride for _, stride in STAGES) * FIRST_STRIDE
# Frames that the last convolution sees, and bands or steps that one in a block sees.
LAST_KERNEL = 5
BLOCK_KERNEL = 3
# Channels of a network with tau 1.
UNIT = 8


@ENCODERS.register("bc_resnet")
@dataclass(frozen=True)
class BCResNet(Settings):
    """BC-ResNet: what time says, for all bands at once, is added to what each band says.

    Source: Kim et al. 2021, arXiv:2106.04140, and its authors' code. The paper averages over time
    before the labels; here the head does, with its average pooling alone as published, where the
    steps of a clip are as many as its frames.

    Attributes:
        tau: Width; the paper has 1, 1.5, 2, 3, 6 and 8. A multiple of 0.25.
        blocks: How many of them in each of the four stages; from one to the next the steps that a
            block sees lie twice as far apart.
        num_bands: Bands that a learnt matrix makes of the coefficients; a multiple of 8 times
            ``sub_bands``.
        sub_bands: Groups of bands that are normalised for themselves.
        stride: Frames per step of the first convolution; the paper's is 1.
        dropout: Fraction of the channels dropped behind what a block sees of time.
    """

    tau: float = 3.0
    blocks: tuple[int, int, int, int] = (2, 2, 4, 4)
    num_bands: int = 40
    sub_bands: int = 5
    stride: int = 1
    dropout: float = 0.1

    def __post_init__(self) -> None:
        self.require_at_least_one("num_bands", "sub_bands", "stride")
        self.require_fractions("dropout")
        if min(self.blocks) < 1:
            raise ConfigError(
                f"encoder.blocks: got {list(self.blocks)}, expected at least 1 in each stage"
            )
        if self.tau <= 0 or self.tau % 0.25:
            raise ConfigError(
                f"encoder.tau: got {self.tau:g}, expected a multiple of 0.25 above 0: every stage "
                "has whole channels then"
            )
        whole = BAND_STRIDE * self.sub_bands
        if self.num_bands % whole:
            raise ConfigError(
                f"encoder.num_bands: got {self.num_bands} for {self.sub_bands} sub_bands, expected "
                f"a multiple of {whole}: {BAND_STRIDE} bands become one"
            )

    @property
    def base(self) -> int:
        """Channels of the first stage."""
        return round(UNIT * self.tau)

    def output_frames(self, num_frames: Any) -> Any:
        """Step j is centred on frame j times the stride."""
        return strided(num_frames, self.stride)

    def resized(self, size: int) -> BCResNet:
        """With so many quarters of ``tau``."""
        return replace(self, tau=size / 4)

    def build_layer(self) -> keras.Layer:
        """The encoder as a Keras layer."""
        return BCResNetEncoder(self, name="encoder")


class BroadcastBlock(layers.Layer):
    """Bands by convolution and SubSpectralNorm; their mean over time; both, and what came in.

    ``call(values, step_mask, training)``: float32 ``[batch, steps, bands, channels]`` and bool
    ``[batch, steps]`` or None -> float32 of as many steps. Where the channels change, they are
    mixed first, and what came in is not added.

    Args:
        entering: Channels of what comes in.
        channels: Channels of what leaves.
        band_stride: Bands per band of what leaves.
        dilation: Steps between those that are seen at once.
        config: The network's settings.
        name: The layer's.
    """

    def __init__(
        self,
        entering: int,
        channels: int,
        band_stride: int,
        dilation: int,
        config: BCResNet,
        *,
        name: str,
    ) -> None:
        super().__init__(name=name)
        self.supports_masking = True
        self.band_stride = band_stride
        self.mix = None
        if entering != channels:
            self.mix = layers.Conv2D(channels, 1, use_bias=False, name="mix")
            self.mix_norm = BatchNorm(name="mix_norm")
        self.over_bands = layers.DepthwiseConv2D(
            (1, BLOCK_KERNEL), use_bias=False, name="over_bands"
        )
        self.bands_norm = BatchNorm(config.sub_bands, name="bands_norm")
        self.over_time = DilatedConvolution(dilation, name="over_time")
        self.time_norm = BatchNorm(name="time_norm")
        self.time_mix = layers.Dense(channels, use_bias=False, name="time_mix")
        self.dropout = layers.SpatialDropout1D(config.dropout, name="dropout")

    def call(self, values: Any, step_mask: Any = None, training: bool = False) -> Any:
        """The block."""
        found = values
        if self.mix is not None:
            found = self.mix_norm(self.mix(found), step_mask=step_mask, training=training)
            found = ops.relu(found)
        around = BLOCK_KERNEL // 2
        found = ops.pad(found, ((0, 0), (0, 0), (around, around), (0, 0)))
        found = self.over_bands(found)
        if self.band_stride > 1:  # TensorFlow's has no stride in one direction alone
            found = _every(self.band_stride, found)
        found = self.bands_norm(found, step_mask=step_mask, training=training)
        time = self.over_time(ops.mean(found, axis=2), step_mask=step_mask)
        time = self.time_norm(time, step_mask=step_mask, training=training)
        time = self.dropout(self.time_mix(ops.silu(time)), training=training)
        found = found + ops.expand_dims(time, 2)
        return ops.relu(found + values if self.mix is None else found)


def _every(stride: int, values: Any) -> Any:
    """``values[:, :, ::stride]`` of a multiple of bands; TensorFlow is slow at such slices."""
    batch, steps, bands, channels = ops.shape(values)
    beside = ops.reshape(values, (batch, steps, bands // stride, stride * channels))
    return beside[..., :channels]


class DilatedConvolution(layers.Layer):
    """Each channel's own sum of steps that lie apart: float32 ``[batch, steps, channels]``.

    With zeros between the weights it is one operator of TFLite's, where a dilation would be three.
    """

    def __init__(self, dilation: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.dilation = dilation

    def build(self, steps_shape: tuple[int | None, ...]) -> None:
        """Make the weights, ``[BLOCK_KERNEL, channels, 1]``."""
        self.kernel = self.add_weight(shape=(BLOCK_KERNEL, steps_shape[-1], 1), name="kernel")

    def call(self, steps: Any, step_mask: Any = None) -> Any:
        """As many steps."""
        extent = 1 + (BLOCK_KERNEL - 1) * self.dilation
        apart = ops.pad(self.kernel[:, None], ((0, 0), (0, self.dilation - 1), (0, 0), (0, 0)))
        spread = ops.reshape(apart, (BLOCK_KERNEL * self.dilation, *self.kernel.shape[1:]))
        steps, _ = padded(steps, step_mask, extent, 1)
        return ops.depthwise_conv(steps, spread[:extent])


class BCResNetEncoder(layers.Layer):
    """The Keras layer of :class:`BCResNet`; see :class:`speechrnn.encoders.Encoder`."""

    def __init__(self, config: BCResNet, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.config = config
        self.bands = band_matrix(config.num_bands)
        channels = 2 * config.base
        self.first = BandConvolution(
            channels,
            FIRST_KERNEL,
            strides=(config.stride, FIRST_STRIDE),
            use_bias=False,
            name="first",
        )
        self.first_norm = BatchNorm(name="first_norm")
        self.blocks = []
        for stage, (width, band_stride) in enumerate(STAGES):
            leaving = round(width * config.base)
            for i in range(config.blocks[stage]):
                self.blocks.append(
                    BroadcastBlock(
                        *(channels, leaving, 1 if i else band_stride, 2**stage, config),
                        name=f"block_{stage}_{i}",
                    )
                )
                channels = leaving
        last = LAST_KERNEL, config.num_bands // BAND_STRIDE  # of all bands, one
        self.last = layers.DepthwiseConv2D(last, use_bias=False, name="last")
        self.merge = layers.Dense(4 * config.base, use_bias=False, name="merge")
        self.merge_norm = BatchNorm(name="merge_norm")

    def call(self, frames: Any, frame_mask: Any = None, training: bool = False) -> tuple[Any, Any]:
        """Frames -> encoded frames and their mask."""
        values = ops.expand_dims(self.bands(frames), -1)
        values, mask = padded(
            values, frame_mask, FIRST_KERNEL, self.config.stride, bands=FIRST_KERNEL
        )
        values = ops.relu(self.first_norm(self.first(values), step_mask=mask, training=training))
        for block in self.blocks:
            values = block(values, step_mask=mask, training=training)
        values, _ = padded(values, mask, LAST_KERNEL, 1)
        merged = self.merge(ops.squeeze(self.last(values), 2))
        return ops.relu(self.merge_norm(merged, step_mask=mask, training=training)), mask
