"""Noise behind the voice, at a drawn ratio of powers: made here, or recorded."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechrnn.audio import find_audio, load_waveform
from speechrnn.datasets.waveforms import (
    AUGMENTATIONS,
    Waveforms,
    between,
    check_probability,
    check_range,
    decibels,
    draw,
    mean_power,
)
from speechrnn.errors import AudioError, ConfigError, DataError

# The lowest frequency of made noise: the lower edge of hearing, and of the default front end.
LOWEST_NOISE_HZ = 20.0
# Made noise: as many exponents, and as much of each; clips take pieces at drawn places.
NUM_EXPONENTS = 9
MADE_NOISE_S = 8.0
# Power under which a piece of noise is digital silence, which no factor makes noise: -100 dB.
LEAST_POWER = 1e-10
LOW_SNR_DB, HIGH_SNR_DB = -60.0, 120.0


class NoiseBank:
    """Recordings of noise in memory, and how to take a piece of one in no time."""

    def __init__(self, recordings: Sequence[np.ndarray]) -> None:
        self.recordings = list(recordings)
        # The power of any piece is a difference of two of these sums.
        self.energies = [
            np.concatenate([[0.0], np.cumsum(np.square(recording, dtype=np.float64))])
            for recording in self.recordings
        ]

    def piece(self, which: float, where: float, num_samples: int) -> tuple[np.ndarray, float]:
        """float32 ``[num_samples]`` and its mean power; ``which`` and ``where`` are in 0..1.

        A recording shorter than the piece is repeated.
        """
        index = min(int(which * len(self.recordings)), len(self.recordings) - 1)
        recording, energy = self.recordings[index], self.energies[index]
        room = len(recording) - num_samples
        if room < 0:
            turned = np.roll(recording, -int(where * len(recording)))
            noise = np.resize(turned, num_samples)
            return noise, mean_power(noise)
        start = int(where * (room + 1))
        end = start + num_samples
        return recording[start:end], float(energy[end] - energy[start]) / num_samples

    def add_to(
        self,
        batch: Waveforms,
        rng: np.random.Generator,
        probability: float,
        snr_db: tuple[float, float],
    ) -> Waveforms:
        """The batch with pieces of noise at an SNR of low to high in drawn rows."""
        rows, (place, *pieces) = draw(batch, rng, probability, 3)
        ratios = decibels(-between(snr_db[0], snr_db[1], place))
        for row, ratio, which, where in zip(rows, ratios, *pieces, strict=True):
            waveform = batch.row(row)
            noise, power = self.piece(which, where, len(waveform))
            if power > LEAST_POWER:
                waveform += noise * (ratio * np.float32((mean_power(waveform) / power) ** 0.5))
        return batch


@AUGMENTATIONS.register("coloured_noise")
@dataclass(frozen=True)
class ColouredNoise:
    """Adds noise whose power falls with frequency as ``1 / f ** exponent``, at a drawn SNR.

    The SNR is against the whole recording's mean power. Exponent 0 is white, 1 pink, 2 brown; nine
    of them, from 0 to ``max_exponent``, are made once.
    """

    probability: float = 0.7
    low_snr_db: float = 5.0
    high_snr_db: float = 35.0
    max_exponent: float = 2.0

    def __post_init__(self) -> None:
        check_probability(self.probability)
        check_range("coloured_noise", LOW_SNR_DB, self.low_snr_db, self.high_snr_db, HIGH_SNR_DB)
        if not 0 <= self.max_exponent <= 4:
            raise ConfigError(
                f"augment.coloured_noise.max_exponent: got {self.max_exponent}, expected 0 to 4"
            )

    def prepare(self, sample_rate_hz: int) -> None:
        """Make the noise."""
        made_noise(sample_rate_hz, self.max_exponent)

    def apply(self, batch: Waveforms, rng: np.random.Generator) -> Waveforms:
        """The rows with noise."""
        bank = made_noise(batch.sample_rate_hz, self.max_exponent)
        return bank.add_to(batch, rng, self.probability, (self.low_snr_db, self.high_snr_db))


@AUGMENTATIONS.register("background_noise")
@dataclass(frozen=True)
class BackgroundNoise:
    """Adds a piece of a recording from ``folder``, at a drawn SNR; without a folder, made noise.

    The SNR is that of the whole clip's mean power and the piece's. Source: Warden 2018,
    arXiv:1804.03209, whose data set holds such a folder.
    """

    probability: float = 0.5
    low_snr_db: float = 5.0
    high_snr_db: float = 35.0
    folder: str = ""

    def __post_init__(self) -> None:
        check_probability(self.probability)
        check_range("background_noise", LOW_SNR_DB, self.low_snr_db, self.high_snr_db, HIGH_SNR_DB)

    def prepare(self, sample_rate_hz: int) -> None:
        """Read the folder.

        Raises:
            DataError: It is of no use.
        """
        self._bank(sample_rate_hz)

    def apply(self, batch: Waveforms, rng: np.random.Generator) -> Waveforms:
        """The rows with noise."""
        bank = self._bank(batch.sample_rate_hz)
        return bank.add_to(batch, rng, self.probability, (self.low_snr_db, self.high_snr_db))

    def _bank(self, sample_rate_hz: int) -> NoiseBank:
        return noise_bank(self.folder, sample_rate_hz)


def noise_bank(folder: str, sample_rate_hz: int) -> NoiseBank:
    """The noise recorded in a folder; without one, made noise.

    Raises:
        DataError: The folder is of no use.
    """
    if folder:
        return recorded_noise(folder, sample_rate_hz)
    return made_noise(sample_rate_hz, max_exponent=2.0)


@functools.lru_cache(maxsize=4)
def recorded_noise(folder: str, sample_rate_hz: int) -> NoiseBank:
    """Every recording below a folder, at the rate.

    Raises:
        DataError: The folder is missing or holds no recordings, or one of them cannot be read or
            is silent throughout; the message names it.
    """
    where = f"augment.background_noise.folder: {folder}"
    if not Path(folder).is_dir():
        raise DataError(f"{where}: no such folder, expected one with recordings of noise")
    try:
        files = find_audio(Path(folder))
        recordings = [load_waveform(file, sample_rate_hz) for file in files]
    except AudioError as error:
        raise DataError(f"{where}: {error}; repair or remove it") from error
    if not recordings:
        raise DataError(f"{where}: holds no recordings, expected WAV, FLAC or OGG files of noise")
    for file, recording in zip(files, recordings, strict=True):
        if mean_power(recording) <= LEAST_POWER:
            raise DataError(f"{where}: {file.name} is silent, expected noise; remove it")
    return NoiseBank(recordings)


@functools.lru_cache(maxsize=4)
def made_noise(sample_rate_hz: int, max_exponent: float) -> NoiseBank:
    """``NUM_EXPONENTS`` colours of noise, the same for every training."""
    rng = np.random.default_rng(0)
    num_samples = round(MADE_NOISE_S * sample_rate_hz)
    return NoiseBank(
        [
            coloured_noise(num_samples, sample_rate_hz, exponent, rng)
            for exponent in np.linspace(0, max_exponent, NUM_EXPONENTS)
        ]
    )


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
