"""Heads by name: encoded frames -> what the model says.

A head is one frozen dataclass, registered in :data:`HEADS`: its fields are its settings, and it
offers what :class:`Head` lists. CONTRIBUTING.md shows how to add one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from speechrnn.config import Registry
from speechrnn.labels import Labels

HEADS = Registry("head")


class Head(Protocol):
    """What a registered head offers."""

    output_name: str
    """What the answer is, which decides how it is decoded: "probabilities" or "log_probs"."""

    def labels(self, texts: Iterable[str], *, commands: bool) -> Labels:
        """The symbols of a model that learns these texts; ``commands``: each of them is one."""

    def targets(self, text: str, labels: Labels) -> list[int]:
        """The ids that a recording of this text is trained towards."""

    def joined_targets(self, texts: Sequence[str], labels: Labels) -> list[int]:
        """The ids that several commands in a row are trained towards."""

    def placed(self, text: str, labels: Labels) -> int | None:
        """The symbol that stands for all of a command; None where it is spelled with several."""

    def num_columns(self, labels: Labels) -> int:
        """Width of the logits."""

    def build_layer(self, labels: Labels) -> Any:
        """A Keras layer with ``call(encoded, frame_mask=None, training=False) -> logits``.

        The contract of ``encoded`` and ``mask`` is the encoder's.
        """

    def loss(
        self,
        logits: Any,
        num_encoded: Any,
        targets: Any,
        num_targets: Any,
        steps: Any = None,
        done: Any = 1.0,
    ) -> Any:
        """float32 ``[batch]`` from the logits and int32 ``[batch, most targets]`` ids.

        ``steps``, int32 ``[batch, encoded frames]``, says what is said at each of them, 0 nothing,
        below 0 unknown; it is given where utterances were put together. ``done`` is the part of the
        training that is over.
        """

    def output(self, logits: Any) -> Any:
        """The answer from the logits."""

    def exported(self, answer: Any) -> dict[str, Any]:
        """What an exported model returns by name: the answer to one recording, and what it says."""

    def correct(self, logits: Any, num_encoded: Any, targets: Any, num_targets: Any) -> Any:
        """bool ``[batch]``: whether each row says exactly its targets."""


from speechrnn.heads import classification as classification  # noqa: E402  registers its head
from speechrnn.heads import ctc as ctc  # noqa: E402  registers its head
