"""Changes of training waveforms that leave the words as they are, drawn anew for each use.

A preset lists those it uses as sections ``[augment.NAME]``, and they act in that order, on whole
batches; only training calls them. Here are those of time and level. Tempo or pitch alone would
take a phase vocoder, many times as dear as the rest together: ``speed`` moves both, and
``vocal_tract`` moves the formants alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from speechrnn.datasets import augment_filter as augment_filter  # registers its augmentations
from speechrnn.datasets import augment_noise as augment_noise
from speechrnn.datasets.waveforms import (
    AUGMENTATIONS,
    Waveforms,
    between,
    check_probability,
    check_range,
    decibels,
    draw,
)
from speechrnn.errors import ConfigError

# Positions between samples are counted in whole numbers of 2 ** -32: exact, and faster than floats.
ONE = 1 << 32


def augmentations_from_mapping(sections: Mapping[str, Any]) -> list[Any]:
    """Build ``{name: settings}`` in order: waveform and mel augmentations alike.

    Raises:
        ConfigError: An unknown name or setting.
    """
    if not isinstance(sections, Mapping):
        raise ConfigError(f"augment: got {sections!r}, expected a section of settings")
    for name, settings in sections.items():
        if not isinstance(settings, Mapping):
            raise ConfigError(f"augment.{name}: got {settings!r}, expected a section of settings")
    return [
        AUGMENTATIONS.from_mapping({"type": name, **settings})
        for name, settings in sections.items()
    ]


def prepare_augmentations(augmentations: Iterable[Any], sample_rate_hz: int) -> None:
    """Make or read what the augmentations need, so that an error comes before the training.

    Raises:
        DataError: A folder of noise is of no use; the message names it.
    """
    for augmentation in augmentations:
        if hasattr(augmentation, "prepare"):
            augmentation.prepare(sample_rate_hz)


@AUGMENTATIONS.register("time_shift")
@dataclass(frozen=True)
class TimeShift:
    """Moves the recording by up to ``max_ms`` either way; the gap is filled with its reflection.

    A recording grows into the padding of its batch, and only where there is none left its other
    end is cut: words that fill a whole recording keep their first and last consonants.
    """

    probability: float = 1.0
    max_ms: float = 100.0

    def __post_init__(self) -> None:
        check_probability(self.probability)
        check_range("time_shift.max_ms", 0, 0, self.max_ms, 10_000)

    def apply(self, batch: Waveforms, rng: np.random.Generator) -> Waveforms:
        """The moved rows; one shorter than its shift stays."""
        rows, (place,) = draw(batch, rng, self.probability, 1)
        most = self.max_ms * batch.sample_rate_hz / 1000
        shifts = np.rint(between(-most, most, place)).astype(int)
        num_samples = batch.num_samples.copy()
        moved_by = np.zeros(len(batch))
        size = batch.waveform.shape[1]
        for row, shift in zip(rows, shifts, strict=True):
            before, gap = batch.row(row), abs(int(shift))
            if not 0 < gap < len(before):
                continue
            new = min(size, len(before) + gap)
            if shift > 0:
                moved = np.concatenate([before[gap:0:-1], before])[:new]
            else:
                moved = np.concatenate([before, before[-2 : -2 - gap : -1]])[-new:]
            batch.waveform[row, :new] = moved
            num_samples[row] = new
            moved_by[row] = gap if shift > 0 else new - len(before) - gap
        return batch.moved(num_samples, np.ones(len(batch)), moved_by)


@AUGMENTATIONS.register("speed")
@dataclass(frozen=True)
class Speed:
    """Plays the recording faster or slower by a drawn factor: tempo, pitch and formants move.

    A slower recording grows into the padding of its batch, and loses its ends equally where there
    is none left: else the slowest would lengthen every batch. Linear interpolation: for factors
    near 1 its error lies far below room noise, and it is many times faster than a band-limited
    resampler. Source: Ko et al. 2015, "Audio augmentation for speech recognition".
    """

    probability: float = 1.0
    low: float = 0.9
    high: float = 1.1

    def __post_init__(self) -> None:
        check_probability(self.probability)
        check_range("speed", 0.5, self.low, self.high, 2)

    def apply(self, batch: Waveforms, rng: np.random.Generator) -> Waveforms:
        """The rows at another speed; their lengths change with it."""
        rows, (place,) = draw(batch, rng, self.probability, 1)
        factors = between(self.low, self.high, place)
        num_samples, size = batch.num_samples.copy(), batch.waveform.shape[1]
        speed, moved_by = np.ones(len(batch)), np.zeros(len(batch))
        for row, factor in zip(rows.tolist(), factors.tolist(), strict=True):
            before = batch.row(row)
            changed = resampled(before, factor)
            start = max(0, len(changed) - size) // 2
            changed = changed[start : start + size]
            num_samples[row] = len(changed)
            speed[row], moved_by[row] = factor, -start
            batch.waveform[row, : len(changed)] = changed
            batch.waveform[row, len(changed) :] = 0
        return batch.moved(num_samples, speed, moved_by)


def resampled(waveform: np.ndarray, factor: float) -> np.ndarray:
    """float32, read at 0, factor, 2 factor, ... before the last sample, linearly in between."""
    if len(waveform) < 2:
        return waveform
    step = round(factor * ONE)
    position = np.arange(0, (len(waveform) - 1) * ONE, step)
    within = (position & (ONE - 1)).astype(np.float32)
    within *= np.float32(1 / ONE)
    position >>= ONE.bit_length() - 1
    left, right = waveform.take(position), waveform[1:].take(position)
    right -= left
    right *= within
    right += left
    return right


@AUGMENTATIONS.register("gain")
@dataclass(frozen=True)
class Gain:
    """Makes the recording louder or softer by a drawn number of decibels.

    It may overshoot 1, as a sum of voices would.
    """

    probability: float = 1.0
    low_db: float = -10.0
    high_db: float = 6.0

    def __post_init__(self) -> None:
        check_probability(self.probability)
        check_range("gain", -120, self.low_db, self.high_db, 60)

    def apply(self, batch: Waveforms, rng: np.random.Generator) -> Waveforms:
        """The scaled rows."""
        rows, (place,) = draw(batch, rng, self.probability, 1)
        factors = np.ones((len(batch), 1), np.float32)
        factors[rows, 0] = decibels(between(self.low_db, self.high_db, place))
        np.multiply(batch.waveform, factors, out=batch.waveform)
        return batch


@AUGMENTATIONS.register("clipping")
@dataclass(frozen=True)
class Clipping:
    """Cuts the peaks off, as an amplifier driven ``low_db`` to ``high_db`` too far would."""

    probability: float = 0.1
    low_db: float = 3.0
    high_db: float = 15.0

    def __post_init__(self) -> None:
        check_probability(self.probability)
        check_range("clipping", 0, self.low_db, self.high_db, 60)

    def apply(self, batch: Waveforms, rng: np.random.Generator) -> Waveforms:
        """The rows with nothing beyond their peak less the drawn decibels."""
        rows, (place,) = draw(batch, rng, self.probability, 1)
        for row, factor in zip(
            rows, decibels(-between(self.low_db, self.high_db, place)), strict=True
        ):
            waveform = batch.row(row)
            limit = factor * max(waveform.max(), -waveform.min())
            np.clip(waveform, -limit, limit, out=waveform)
        return batch
