"""What turns a model's answer into a transcript, chosen by what the answer is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from speechrnn.clock import StepClock
from speechrnn.decoding.classify import classify
from speechrnn.decoding.decision import Decision
from speechrnn.decoding.margin import Margin
from speechrnn.decoding.sequence import SequenceDecoder
from speechrnn.decoding.transcript import Transcript
from speechrnn.errors import LabelError, ModelError
from speechrnn.labels import Labels
from speechrnn.spelling import Spelling, check_symbols


class Decoder(Protocol):
    """Decodes answers, one after another, and knows what a model can answer at all."""

    @property
    def words(self) -> tuple[str, ...]:
        """The words it may say; none where it spells them."""

    @property
    def has_grammar(self) -> bool:
        """Whether a command grammar says what may be answered."""

    def with_grammar_margin(self, margin: Margin) -> Decoder:
        """The same with another margin of its grammar."""

    def expected(self, text: str) -> str:
        """The right answer to a recording with this text.

        Raises:
            LabelError: The model cannot say it.
        """

    def units(self, text: str) -> list[str]:
        """The words of an answer that count as one each."""

    def decode(
        self, answer: np.ndarray, duration_s: float, *, threshold: float = 0.0
    ) -> Transcript:
        """What the answer says; rejected with less confidence than the threshold."""


@dataclass(frozen=True)
class LabelDecoder:
    """Turns probabilities into the one label."""

    labels: Labels
    has_grammar = False

    def with_grammar_margin(self, margin: Margin) -> LabelDecoder:
        """The same: it has no grammar."""
        return self

    @property
    def words(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels.symbols

    def expected(self, text: str) -> str:
        """The label, exactly as it is."""
        return self.labels.text_of(self.labels.id_of(text))

    def units(self, text: str) -> list[str]:
        """The label, or nothing where there is none."""
        return [text] if text else []

    def decode(
        self, answer: np.ndarray, duration_s: float, *, threshold: float = 0.0
    ) -> Transcript:
        """The most probable label; see :func:`classify`."""
        return classify(answer, self.labels, duration_s, threshold=threshold)


def make_decoder(
    kind: str, head: Mapping[str, Any], labels: Labels, clock: StepClock, decision: Decision
) -> Decoder:
    """The decoder of a model.

    Args:
        kind: What its head answers with: "probabilities" or "log_probs".
        head: Its head's settings.
        labels: Its symbols.
        clock: Where its steps lie.
        decision: What its confidences are worth.

    Raises:
        ModelError: An answer, or symbols, that this version does not know.
    """
    if kind == "probabilities":
        return LabelDecoder(labels)
    if kind == "log_probs":
        symbols = head.get("symbols", "none")
        try:
            check_symbols(symbols)
        except LabelError as error:
            raise ModelError(f"the model's head: {error}") from error
        return SequenceDecoder(Spelling(labels, symbols), clock, decision)
    raise ModelError(f"the model answers with {kind!r}; this speechrnn does not know what that is")
