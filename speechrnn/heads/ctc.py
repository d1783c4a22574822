"""Connectionist temporal classification: a sequence of symbols, without knowing where each is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from speechrnn.errors import ConfigError, LabelError
from speechrnn.heads import HEADS
from speechrnn.labels import BLANK_ID, GUESSED, SILENCE, Labels
from speechrnn.spelling import Spelling, Symbols, check_symbols


@HEADS.register("ctc")
@dataclass(frozen=True)
class CTC:
    """Symbols or blank at every step (Graves et al. 2006, "Connectionist temporal classification").

    Column 0 of the logits is the blank, column ``k`` the symbol with id ``k``. An utterance that
    says nothing, ``_silence_`` too, has no symbols and is learnt as such.

    Attributes:
        symbols: "words", each command one, or "characters" with ``|`` between two words.
        dropout: Fraction of encoded values dropped while training.
        placement: Weight of a second loss where it is known what is said at a step, as it is in
            utterances that were put together: then the symbol is to be there for as long as the
            word lasts. CTC alone leaves a symbol one step somewhere near its word, and so no times
            to read off.
        placement_end: That weight when the training ends; it moves there evenly. Below 0: the same.
        flat_start: Part of the training in which the symbols of whole utterances, of which nobody
            knows where they are, are taken to lie evenly, with ``placement`` at first and less and
            less (:mod:`speechrnn.datasets.flat_start`).
    """

    symbols: Symbols = "words"
    dropout: float = 0.0
    placement: float = 0.0
    placement_end: float = -1.0
    flat_start: float = 0.0

    output_name = "log_probs"

    def __post_init__(self) -> None:
        try:
            check_symbols(self.symbols)
        except LabelError as error:
            raise ConfigError(f"head.{error}") from error
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"head.dropout: got {self.dropout}, expected 0 <= x < 1")
        if self.placement < 0:
            raise ConfigError(f"head.placement: got {self.placement}, expected 0 or more")
        if not 0 <= self.flat_start <= 1:
            raise ConfigError(f"head.flat_start: got {self.flat_start}, expected 0 to 1")

    def labels(self, texts: Iterable[str], *, commands: bool) -> Labels:
        """The symbols that the texts are spelled with."""
        said = (text for text in texts if text != SILENCE)
        return Spelling.from_texts(said, self.symbols, commands=commands).labels

    def targets(self, text: str, labels: Labels) -> list[int]:
        """The ids of the symbols that spell ``text``; none for silence."""
        return [] if text == SILENCE else Spelling(labels, self.symbols).ids(text)

    def joined_targets(self, texts: Sequence[str], labels: Labels) -> list[int]:
        """The symbols of each command, where words are spelled with the boundary between two."""
        spelling = Spelling(labels, self.symbols)
        if spelling.boundary is not None:
            return spelling.ids(" ".join(texts))
        return [labels.id_of(text) for text in texts]

    def placed(self, text: str, labels: Labels) -> int | None:
        """The symbol that stands for all of a command; None where it is spelled with several."""
        return labels.id_of(text) if self.symbols == "words" else None

    def num_columns(self, labels: Labels) -> int:
        """The blank and the symbols."""
        return 1 + len(labels)

    def build_layer(self, labels: Labels) -> keras.Layer:
        """The head as a Keras layer: ``[batch, time, width]`` -> ``[batch, time, columns]``."""
        return StepClassifier(self.num_columns(labels), self.dropout, name="head")

    def loss(
        self,
        logits: Any,
        num_encoded: Any,
        targets: Any,
        num_targets: Any,
        steps: Any = None,
        done: Any = 1.0,
    ) -> Any:
        """Negative log likelihood of the targets over all paths, float32 ``[batch]``.

        A row whose steps cannot hold its targets counts nothing: training refuses recordings that
        are too short, but a drawn speed may shorten them, and utterances that are put together
        from spelled words may hurry.
        """
        possible = num_encoded >= _least_steps(targets, num_targets)
        num_targets = ops.where(possible, num_targets, 0)
        shown = _of_any_shape(targets, logits, num_targets, num_encoded)
        losses = ops.ctc_loss(*shown, mask_index=BLANK_ID)
        losses = ops.where(possible, losses, 0.0)
        end = self.placement_end if self.placement_end >= 0 else self.placement
        if steps is None or not (self.placement or end):
            return losses
        weight = self.placement + (end - self.placement) * done
        losses = losses + weight * _misplaced(logits, num_encoded, steps)
        if self.flat_start:
            weight = self.placement * ops.maximum(0.0, 1 - done / self.flat_start)
            losses = losses + weight * _misplaced(logits, num_encoded, GUESSED - steps)
        return losses

    def output(self, logits: Any) -> Any:
        """Natural logarithms of probabilities, float32 ``[batch, time, columns]``."""
        return ops.log_softmax(logits)

    def exported(self, answer: Any) -> dict[str, Any]:
        """``log_probs``, and ``tokens``: the best path, int32 ``[tokens]``, for a batch of one."""
        import tensorflow as tf  # which alone exports; keras.ops has no mask that TFLite knows

        path = tf.argmax(answer[0], axis=-1, output_type=tf.int32)
        before = tf.concat([[BLANK_ID], path[:-1]], axis=0)
        kept = tf.logical_and(tf.not_equal(path, before), tf.not_equal(path, BLANK_ID))
        return {self.output_name: answer, "tokens": tf.boolean_mask(path, kept)}

    def correct(self, logits: Any, num_encoded: Any, targets: Any, num_targets: Any) -> Any:
        """Whether the best path spells exactly the targets, bool ``[batch]``."""
        path = ops.cast(ops.argmax(logits, axis=-1), "int32")
        before = ops.pad(path[:, :-1], [(0, 0), (1, 0)])
        true = ops.arange(ops.shape(path)[1])[None] < num_encoded[:, None]
        said = (path != before) & (path != BLANK_ID) & true
        place = ops.cumsum(ops.cast(said, "int32"), axis=1) - 1
        most = ops.shape(targets)[1]
        wanted = ops.take_along_axis(targets, ops.clip(place, 0, most - 1), axis=1)
        right = ops.all((wanted == path) | ~said, axis=1)
        return right & (place[:, -1] + 1 == num_targets)


class StepClassifier(layers.Layer):
    """The Keras layer of :class:`CTC`."""

    def __init__(self, num_columns: int, dropout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True  # Keras' implicit masks are not used: lengths are explicit
        self.dropout = layers.Dropout(dropout, name="dropout")
        self.logits = layers.Dense(num_columns, name="logits")

    def call(self, encoded: Any, frame_mask: Any = None, training: bool = False) -> Any:
        """Encoded frames -> logits."""
        del frame_mask  # each step for itself
        return self.logits(self.dropout(encoded, training=training))


def _of_any_shape(*tensors: Any) -> list[Any]:
    """The same without a static shape, for TensorFlow keeps one loop for all shapes of the loss.

    Another shape then makes its optimiser give up, with an error on standard error (2.20).
    """
    if keras.backend.backend() != "tensorflow":
        return list(tensors)
    import tensorflow as tf

    any_shape = [
        [*[None] * (len(t.shape) - 1), t.shape[-1]] if len(t.shape) == 3 else [None] * len(t.shape)
        for t in tensors
    ]
    return [
        tf.raw_ops.PlaceholderWithDefault(input=t, shape=shape)
        for t, shape in zip(map(tf.convert_to_tensor, tensors), any_shape, strict=True)
    ]


def _least_steps(targets: Any, num_targets: Any) -> Any:
    """Steps that hold the targets: one each, and a blank between two that are the same."""
    place = ops.arange(1, ops.shape(targets)[1])[None]
    again = (targets[:, 1:] == targets[:, :-1]) & (place < num_targets[:, None])
    return num_targets + ops.sum(ops.cast(again, "int32"), axis=1)


def _misplaced(logits: Any, num_encoded: Any, steps: Any) -> Any:
    """Sum over the true steps at which it is known what is said; below 0 it is not."""
    true = ops.arange(ops.shape(logits)[1])[None] < num_encoded[:, None]
    losses = ops.sparse_categorical_crossentropy(ops.maximum(steps, 0), logits, from_logits=True)
    return ops.sum(ops.where(true & (steps >= 0), losses, 0.0), axis=1)
