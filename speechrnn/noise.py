"""Recordings of noise, and recordings with noise added at a stated ratio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from speechrnn.audio import load_waveform
from speechrnn.datasets.manifest import find_recordings
from speechrnn.datasets.waveforms import mean_power
from speechrnn.errors import DataError
from speechrnn.progress import progress


def load_noise(path: str | Path, sample_rate_hz: int) -> list[np.ndarray]:
    """Noise of any length, float32 ``[samples]`` each, at the rate; silent files are left out.

    Raises:
        DataError: Nothing there, or nothing but zeros.
        AudioError: A file cannot be read.
    """
    files = find_recordings(path)
    waveforms = [load_waveform(f, sample_rate_hz) for f in progress(files, "noise", unit="file")]
    audible = [waveform for waveform in waveforms if waveform.any()]
    if not audible:
        raise DataError(
            f"{path}: holds nothing but zeros, expected noise that can be heard; give other "
            "recordings"
        )
    return audible


def noise_segment(
    noises: Sequence[np.ndarray], num_samples: int, rng: np.random.Generator
) -> np.ndarray:
    """A drawn part of a drawn recording, float32 ``[num_samples]``; a shorter one is repeated.

    It begins at a sample that is not 0, so that it has a power.
    """
    noise = noises[int(rng.integers(len(noises)))]
    audible = np.flatnonzero(noise)
    start = int(audible[int(rng.integers(len(audible)))])
    return noise[(start + np.arange(num_samples)) % len(noise)]


def add_noise(waveform: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Their sum, with the noise scaled so that the ratio of the mean powers is ``snr_db``.

    Both float32 ``[samples]``; a recording of zeros, whose ratio is undefined, stays as it is.
    """
    scale = np.sqrt(mean_power(waveform) / mean_power(noise) / 10 ** (snr_db / 10))
    return waveform + np.float32(scale) * noise
