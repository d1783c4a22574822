"""Heads by name: encoded frames -> what the model says.

A head is one frozen dataclass, registered in :data:`HEADS`: its fields are its settings, and it
offers what :class:`Head` lists. CONTRIBUTING.md shows how to add one.
"""

from __future__ import annotations

from typing import Any, Protocol

from speechrnn.config import Registry
from speechrnn.labels import Labels

HEADS = Registry("head")


class Head(Protocol):
    """What a registered head offers."""

    output_name: str
    """Name of the one tensor that a served or exported model returns."""

    def targets(self, text: str, labels: Labels) -> list[int]:
        """The ids that a recording of this text is trained towards."""

    def build_layer(self, labels: Labels) -> Any:
        """A Keras layer with ``call(encoded, frame_mask=None, training=False) -> logits``.

        The contract of ``encoded`` and ``mask`` is the encoder's.
        """

    def loss(self, logits: Any, num_encoded: Any, targets: Any, num_targets: Any) -> Any:
        """float32 ``[batch]`` from the logits and int32 ``[batch, most targets]`` ids."""

    def output(self, logits: Any) -> Any:
        """The served tensor from the logits."""

    def correct(self, logits: Any, num_encoded: Any, targets: Any, num_targets: Any) -> Any:
        """bool ``[batch]``: whether each row says exactly its targets."""


from speechrnn.heads import classification as classification  # noqa: E402  registers its head
