"""Changes of training waveforms that leave the words as they are, drawn anew for each use.

An augmentation is one frozen dataclass, registered in :data:`AUGMENTATIONS`; a preset lists those
it uses as sections ``[augment.NAME]``, and they act in that order. Only training calls them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from speechrnn.config import Registry
from speechrnn.errors import ConfigError

AUGMENTATIONS = Registry("augment")
# The lowest frequency of made noise: the lower edge of hearing, and of the default front end.
LOWEST_NOISE_HZ = 20.0


@runtime_checkable
class WaveformAugmentation(Protocol):
    """What a registered augmentation of waveforms offers."""

    def apply(
        self, waveform: np.ndarray, sample_rate_hz: int, rng: np.random.Generator
    ) -> np.ndarray:
        """A changed copy, float32 ``[samples]``; the argument is left as it was."""


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


def _check_probability(value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"augment.probability: got {value}, expected 0 to 1")


@AUGMENTATIONS.register("time_shift")
@dataclass(frozen=True)
class TimeShift:
    """Moves the recording by up to ``max_ms`` either way; the gap is filled with zeros."""

    probability: float = 1.0
    max_ms: float = 100.0

    def __post_init__(self) -> None:
        _check_probability(self.probability)

    def apply(
        self, waveform: np.ndarray, sample_rate_hz: int, rng: np.random.Generator
    ) -> np.ndarray:
        """The moved waveform, as long as before."""
        most = round(self.max_ms * sample_rate_hz / 1000)
        shift = int(rng.integers(-most, most + 1))
        if rng.random() >= self.probability or shift == 0 or abs(shift) >= len(waveform):
            return waveform
        moved = np.zeros_like(waveform)
        if shift > 0:
            moved[shift:] = waveform[:-shift]
        else:
            moved[:shift] = waveform[-shift:]
        return moved


@AUGMENTATIONS.register("speed")
@dataclass(frozen=True)
class Speed:
    """Plays the recording faster or slower by a drawn factor: tempo, pitch and formants move.

    Linear interpolation: for factors near 1 its error lies far below room noise, and it is many
    times faster than a band-limited resampler. Source: Ko et al. 2015, "Audio augmentation for
    speech recognition".
    """

    probability: float = 1.0
    low: float = 0.9
    high: float = 1.1

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        if not 0.5 <= self.low <= self.high <= 2:
            raise ConfigError(
                f"augment.speed: got {self.low} to {self.high}, expected 0.5 <= low <= high <= 2"
            )

    def apply(
        self, waveform: np.ndarray, sample_rate_hz: int, rng: np.random.Generator
    ) -> np.ndarray:
        """The waveform at another speed; its length changes with it."""
        factor = rng.uniform(self.low, self.high)
        if rng.random() >= self.probability:
            return waveform
        positions = np.arange(0, len(waveform) - 1, factor)
        return np.interp(positions, np.arange(len(waveform)), waveform).astype(np.float32)


@AUGMENTATIONS.register("gain")
@dataclass(frozen=True)
class Gain:
    """Makes the recording louder or softer by a drawn number of decibels."""

    probability: float = 1.0
    low_db: float = -10.0
    high_db: float = 6.0

    def __post_init__(self) -> None:
        _check_probability(self.probability)

    def apply(
        self, waveform: np.ndarray, sample_rate_hz: int, rng: np.random.Generator
    ) -> np.ndarray:
        """The scaled waveform; it may overshoot 1, as a sum of voices would."""
        gain_db = rng.uniform(self.low_db, self.high_db)
        if rng.random() >= self.probability:
            return waveform
        return waveform * np.float32(10 ** (gain_db / 20))


@AUGMENTATIONS.register("coloured_noise")
@dataclass(frozen=True)
class ColouredNoise:
    """Adds noise whose power falls with frequency as ``1 / f ** exponent``, at a drawn SNR.

    The SNR is against the whole recording's mean power. Exponent 0 is white, 1 pink, 2 brown.
    """

    probability: float = 0.7
    low_snr_db: float = 5.0
    high_snr_db: float = 35.0
    max_exponent: float = 2.0

    def __post_init__(self) -> None:
        _check_probability(self.probability)

    def apply(
        self, waveform: np.ndarray, sample_rate_hz: int, rng: np.random.Generator
    ) -> np.ndarray:
        """The waveform with noise."""
        snr_db = rng.uniform(self.low_snr_db, self.high_snr_db)
        exponent = rng.uniform(0, self.max_exponent)
        seed = rng.integers(2**32)
        if rng.random() >= self.probability:
            return waveform
        noise_rng = np.random.default_rng(seed)
        noise = coloured_noise(len(waveform), sample_rate_hz, exponent, noise_rng)
        power = float(np.mean(np.square(waveform)))
        return waveform + noise * np.float32(np.sqrt(power / 10 ** (snr_db / 10)))


def coloured_noise(
    num_samples: int, sample_rate_hz: int, exponent: float, rng: np.random.Generator
) -> np.ndarray:
    """Noise of unit power with a ``1 / f ** exponent`` spectrum, float32 ``[num_samples]``.

    Nothing lies below 20 Hz: 94 % of a second of brown noise would, unheard by any front end, and
    a stated SNR would be 12 dB kinder than it says.
    """
    size = 1 << max(8, (num_samples - 1).bit_length())  # a power of two: the FFT is fast
    hz = np.fft.rfftfreq(size, 1 / sample_rate_hz)
    with np.errstate(divide="ignore"):
        shape = np.where(hz < LOWEST_NOISE_HZ, 0.0, hz ** (-exponent / 2))
    spectrum = np.fft.rfft(rng.standard_normal(size, np.float32)) * shape
    noise = np.fft.irfft(spectrum, size)[:num_samples].astype(np.float32)
    return noise / np.float32(np.sqrt(np.mean(np.square(noise))) + 1e-12)
