"""Rows -> what training draws from: recordings in memory, and on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from speechrnn.audio import as_command
from speechrnn.datasets.manifest import Utterance
from speechrnn.datasets.reading import read_each
from speechrnn.errors import AudioError, DataError, LabelError
from speechrnn.heads import Head
from speechrnn.labels import Labels

# First sample, the one behind the last, and the symbol that stands there for all of it.
Span = tuple[int, int, int]
Guess = Callable[[np.ndarray, int, Sequence[int]], Sequence[Span]]
# The symbol of a span that is spelled with several, nobody knows where.
UNKNOWN_SYMBOL = -1


Prepare = Callable[[np.ndarray], np.ndarray]


class Example(Protocol):
    """A recording with its target ids; ``waveform`` is float32 ``[num_samples]``."""

    @property
    def row(self) -> Utterance:
        """Where it comes from."""

    @property
    def targets(self) -> list[int]:
        """What a model is to answer."""

    @property
    def spans(self) -> Sequence[Span] | None:
        """What is said where; None where that is not known."""

    @property
    def guessed(self) -> bool:
        """Whether the spans are but a guess, to begin with."""

    @property
    def num_samples(self) -> int:
        """Its length, known without reading it."""

    @property
    def waveform(self) -> np.ndarray:
        """Its samples, read or made where they are not in memory."""


@dataclass(frozen=True)
class HeldExample:
    """A recording in memory."""

    row: Utterance
    waveform: np.ndarray
    targets: list[int]
    spans: Sequence[Span] | None = None

    @property
    def guessed(self) -> bool:
        """Of a recording as it is no more is known."""
        return self.spans is not None

    @property
    def num_samples(self) -> int:
        """Its length."""
        return len(self.waveform)


@dataclass(frozen=True)
class DiskExample:
    """A recording that is read anew each time it is used."""

    row: Utterance
    num_samples: int
    targets: list[int]
    sample_rate_hz: int
    prepare: Prepare | None = None
    spans: Sequence[Span] | None = None

    @property
    def guessed(self) -> bool:
        """Of a recording as it is no more is known."""
        return self.spans is not None

    @property
    def waveform(self) -> np.ndarray:
        """Its samples.

        Raises:
            DataError: The file changed since it was first read.
        """
        waveform = as_command(self.row.path, self.sample_rate_hz, min_samples=1)
        if self.prepare:
            waveform = self.prepare(waveform)
        if len(waveform) != self.num_samples:
            raise DataError(
                f"{self.row.path}: has {len(waveform)} samples, had {self.num_samples} when the "
                "training began; leave recordings alone while a training reads them"
            )
        return waveform


def load_examples(
    rows: Sequence[Utterance],
    labels: Labels,
    head: Head,
    sample_rate_hz: int,
    min_samples: int,
    *,
    memory_mb: float,
    prepare: Prepare | None = None,
    guess: Guess | None = None,
    skip_broken: bool = False,
    purpose: str = "reading",
) -> tuple[list[Example], list[AudioError]]:
    """Every recording, read once: kept in memory up to a budget, then only its length.

    What a training learns does not depend on the budget. ``prepare`` changes what is read, and
    ``guess`` says where its targets may be.

    Raises:
        DataError: Recordings are broken, and ``skip_broken`` is off or none is left.
        LabelError: A row's text is no label.
    """
    examples: list[Example] = []
    left = memory_mb * 1e6
    errors: list[AudioError] = []
    for row, waveform in read_each(
        rows, sample_rate_hz, min_samples, errors, skip_broken=skip_broken, purpose=purpose
    ):
        targets = row_targets(row, labels, head)
        if prepare:
            waveform = prepare(waveform)
        spans = guess(waveform, sample_rate_hz, targets) if guess else None
        left -= waveform.nbytes
        if left >= 0:
            examples.append(HeldExample(row, waveform, targets, spans))
        else:
            size = len(waveform)
            examples.append(DiskExample(row, size, targets, sample_rate_hz, prepare, spans))
    return examples, errors


def row_targets(row: Utterance, labels: Labels, head: Head) -> list[int]:
    """The ids that a row is trained towards.

    Raises:
        LabelError: Its text is no label; the message names the recording.
    """
    try:
        return head.targets(row.text, labels)
    except LabelError as error:
        raise LabelError(f"{row.path}: {error}") from error
