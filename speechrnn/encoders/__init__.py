"""Encoders by name: normalised frames -> one vector for each (subsampled) frame.

An encoder is one frozen dataclass, registered in :data:`ENCODERS`: its fields are its settings,
and it offers what :class:`Encoder` lists. CONTRIBUTING.md shows how to add one.
"""

from __future__ import annotations

from typing import Any, Protocol

from speechrnn.config import Registry

ENCODERS = Registry("encoder")


class Encoder(Protocol):
    """What a registered encoder offers."""

    def output_frames(self, num_frames: Any) -> Any:
        """Vectors for ``num_frames`` frames (int or integer tensor), at least 1 for 1."""

    def resized(self, size: int) -> Encoder:
        """The same encoder of size 1, 2, 3, ...: each has more parameters than the one before.

        Whatever else was set stays; ``speechrnn compare`` looks for the size that keeps to a
        budget.
        """

    def build_layer(self) -> Any:
        """A Keras layer with ``call(frames, frame_mask=None, training=False) -> (encoded, mask)``.

        ``frames`` is float32 ``[batch, frames, features]``; the mask is bool ``[batch, frames]``,
        True within the true length, or None when every frame is true. ``encoded`` is float32
        ``[batch, output_frames(frames), width]`` and its mask covers it. True vectors must not
        depend on what lies in frames outside the mask, nor on how many of those there are.
        """


from speechrnn.encoders import bc_resnet as bc_resnet  # noqa: E402  registers its encoder
from speechrnn.encoders import ds_cnn as ds_cnn  # noqa: E402
from speechrnn.encoders import hybrid as hybrid  # noqa: E402
from speechrnn.encoders import mhatt_rnn as mhatt_rnn  # noqa: E402
from speechrnn.encoders import recurrent as recurrent  # noqa: E402
from speechrnn.encoders import transformer as transformer  # noqa: E402
