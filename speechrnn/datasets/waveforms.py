"""A batch of padded waveforms, and what an augmentation of it is.

An augmentation is one frozen dataclass, registered in :data:`AUGMENTATIONS`. It draws the same
random numbers whatever its probability, a set for each row, and works on the rows that it meets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from speechrnn.config import Registry
from speechrnn.errors import ConfigError

AUGMENTATIONS = Registry("augment")
# Batches are padded to a multiple of this, so that few different shapes are compiled.
PADDING_S = 0.1


@dataclass(frozen=True)
class Waveforms:
    """Waveforms of several lengths in one array.

    Attributes:
        waveform: float32 ``[batch, samples]``, zeros behind each row's own length.
        num_samples: int32 ``[batch]``, the own lengths.
        sample_rate_hz: Of all of them.
        places: float32 ``[batch, places]``, in samples: what an augmentation that moves the sound
            moves with it.
    """

    waveform: np.ndarray
    num_samples: np.ndarray
    sample_rate_hz: int
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.num_samples)

    @classmethod
    def stack(
        cls, waveforms: Sequence[np.ndarray], sample_rate_hz: int, *, min_samples: int = 0
    ) -> Waveforms:
        """From float32 ``[samples]`` each, padded to a multiple of ``PADDING_S``.

        At least ``min_samples`` long, so that recordings have room to grow into.
        """
        num_samples = np.array([len(waveform) for waveform in waveforms], np.int32)
        size = padded_length(max(int(num_samples.max()), min_samples), sample_rate_hz)
        stacked = np.zeros((len(waveforms), size), np.float32)
        for row, waveform in zip(stacked, waveforms, strict=True):
            row[: len(waveform)] = waveform
        nothing = np.zeros((len(waveforms), 0), np.float32)
        return cls(stacked, num_samples, sample_rate_hz, nothing)

    def trimmed(self) -> Waveforms:
        """The same with no more padding than :meth:`stack` would give."""
        size = padded_length(int(self.num_samples.max()), self.sample_rate_hz)
        if size == self.waveform.shape[1]:
            return self
        waveform = np.ascontiguousarray(self.waveform[:, :size])
        return replace(self, waveform=waveform)

    def moved(self, num_samples: np.ndarray, speed: np.ndarray, shift: np.ndarray) -> Waveforms:
        """The same of other lengths: what was at sample ``t`` is at ``t / speed + shift`` now.

        All three are ``[batch]``.
        """
        places = self.places / speed[:, None] + shift[:, None]
        return replace(self, num_samples=num_samples, places=places.astype(np.float32))

    def row(self, index: int) -> np.ndarray:
        """A row without its padding, float32 ``[num_samples]``, as a view."""
        return self.waveform[index, : self.num_samples[index]]


def padded_length(num_samples: int, sample_rate_hz: int) -> int:
    """The least multiple of ``PADDING_S`` that holds so many samples."""
    step = max(1, round(PADDING_S * sample_rate_hz))
    return max(1, -(-num_samples // step)) * step


@runtime_checkable
class WaveformAugmentation(Protocol):
    """What a registered augmentation of waveforms offers, beside a ``probability``."""

    def apply(self, batch: Waveforms, rng: np.random.Generator) -> Waveforms:
        """The changed batch. It takes the argument over, and may write into its arrays."""


def check_probability(value: float) -> None:
    """Raise ConfigError for a value outside 0..1."""
    if not 0 <= value <= 1:
        raise ConfigError(f"augment.probability: got {value}, expected 0 to 1")


def check_range(where: str, least: float, low: float, high: float, most: float) -> None:
    """Raise ConfigError unless ``least <= low <= high <= most``."""
    if not least <= low <= high <= most:
        raise ConfigError(
            f"augment.{where}: got {low:g} to {high:g}, "
            f"expected {least:g} <= low <= high <= {most:g}"
        )


def draw(
    batch: Waveforms, rng: np.random.Generator, probability: float, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows to change, int ``[chosen]``, and uniform numbers for them, ``[count, chosen]``."""
    numbers = rng.random((1 + count, len(batch)))
    rows = np.flatnonzero(numbers[0] < probability)
    return rows, numbers[1:, rows]


def between(low: float, high: float, uniform: np.ndarray) -> np.ndarray:
    """Numbers of 0..1 as numbers of low..high."""
    return low + (high - low) * uniform


def decibels(value_db: np.ndarray) -> np.ndarray:
    """Factors of amplitude, float32, for gains in dB."""
    return (10 ** (np.asarray(value_db) / 20)).astype(np.float32)


def mean_power(waveform: np.ndarray) -> float:
    """Mean square of float32 ``[samples]``."""
    return float(waveform @ waveform) / len(waveform)
