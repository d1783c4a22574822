"""What every encoder may begin with: convolutions that see neighbours and make fewer steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from speechrnn.encoders.convolution import TimeConvolution, strided
from speechrnn.encoders.settings import Settings
from speechrnn.encoders.spectral import FIRST_KERNELS, STRIDE, SpectralConvolutions
from speechrnn.errors import ConfigError


@dataclass(frozen=True)
class Subsampling(Settings):
    """Convolutions before the layers that an encoder is named after.

    Attributes:
        spectral_filters: Filters of the first of two 2-D convolutions over time and mel bands, each
            of which halves the steps. 0 is none.
        spectral_channels: Filters of the second, and of the blocks.
        spectral_blocks: Residual separable convolutions behind those two.
        spectral_width: Width of what all of these give to the layers above.
        conv_filters: Channels of the convolutions before the first layer; 0 is none.
        conv_layers: Convolutions, one above the other, each with the same kernel and stride.
        conv_kernel: Frames that a convolution sees at once (odd).
        conv_stride: Frames per step of a convolution; over all convolutions this is the
            subsampling of the encoder.
        dropout: Fraction of values dropped while training.
    """

    spectral_filters: int = 0
    spectral_channels: int = 64
    spectral_blocks: int = 0
    spectral_width: int = 96
    conv_filters: int = 0
    conv_layers: int = 1
    conv_kernel: int = 5
    conv_stride: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        self.require_at_least_one("spectral_channels", "spectral_width")
        self.require_at_least_one("conv_layers", "conv_kernel", "conv_stride")
        for name in ("conv_filters", "spectral_filters", "spectral_blocks"):
            if getattr(self, name) < 0:
                raise ConfigError(f"encoder.{name}: got {getattr(self, name)}, expected 0 or more")
        if self.conv_filters:
            self.require_odd("conv_kernel")
        if self.spectral_blocks and not self.spectral_filters:
            raise ConfigError(
                f"encoder.spectral_blocks: got {self.spectral_blocks} without the two convolutions "
                "before; expected 0, or set encoder.spectral_filters"
            )
        if self.conv_stride > 1 and not self.conv_filters:
            raise ConfigError(
                f"encoder.conv_stride: got {self.conv_stride} without a convolution; "
                "expected 1, or set encoder.conv_filters"
            )
        self.require_fractions("dropout")

    def output_frames(self, num_frames: Any) -> Any:
        """Step j of the encoder is centred on frame j times all strides."""
        strides = [STRIDE] * len(FIRST_KERNELS) if self.spectral_filters else []
        strides += [self.conv_stride] * self.conv_layers if self.conv_filters else []
        for stride in strides:
            num_frames = strided(num_frames, stride)
        return num_frames

    def build_convolutions(self) -> list[keras.Layer]:
        """The convolutions; what each is called with and returns: :func:`subsampled`.

        ``padding_layers`` of each are the layers within it that have a ``pad``, or itself.
        """
        found: list[keras.Layer] = []
        if self.spectral_filters:
            sizes = (self.spectral_filters, self.spectral_channels, self.spectral_blocks)
            found.append(SpectralConvolutions(*sizes, self.spectral_width, name="spectral"))
        if self.conv_filters:
            shape = (self.conv_filters, self.conv_kernel, self.conv_stride)
            found += [TimeConvolution(*shape, name=f"conv_{i}") for i in range(self.conv_layers)]
        return found


def subsampled(
    convolutions: Sequence[keras.Layer], frames: Any, frame_mask: Any, training: bool
) -> tuple[Any, Any]:
    """What the convolutions make of frames, one after the other; and the mask of the steps."""
    encoded, mask = frames, frame_mask
    for convolution in convolutions:
        encoded, mask = convolution(encoded, frame_mask=mask, training=training)
    return encoded, mask
