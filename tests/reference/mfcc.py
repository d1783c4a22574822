"""MFCC by the textbook, one sum at a time, in float64: the oracle of ``speechrnn.features``.

Written from the sources and not from the package, with other means wherever there is a choice:
frames by a loop, the DFT as sums of cosines and sines, band edges by bisection, triangles and
DCT element by element. Its own tests are in ``tests/test_features.py``.

Sources: HTK book 3.4, eq. 5.4 (pre-emphasis), 5.13 (mel), 5.14 (liftering), 5.16 (deltas);
M. Slaney, Auditory Toolbox 2 (1998), ``mfcc.m`` (the other mel scale, bands of unit area).
"""

from __future__ import annotations

import math

import numpy as np


def mfcc(
    waveform: np.ndarray,
    *,
    sample_rate_hz: int,
    window_ms: float,
    hop_ms: float,
    fft_length: int,
    window_shape: str,
    num_mels: int,
    mel_scale: str,
    low_hz: float,
    high_hz: float,
    num_coefficients: int,
    spectrum: str,
    log_floor: float,
    lifter: int,
    pre_emphasis: float,
    deltas: int,
    normalisation: str,
    mean: np.ndarray | None = None,
    std: np.ndarray | None = None,
) -> np.ndarray:
    """Features of one waveform ``[samples]``, float64 ``[frames, features]``.

    The settings are those of ``FeatureConfig``, by the same names; ``mean`` and ``std`` belong
    to the normalisation "training".
    """
    window_length = round(sample_rate_hz * window_ms / 1000)
    hop_length = round(sample_rate_hz * hop_ms / 1000)
    samples = [float(value) for value in waveform]
    samples += [0.0] * (window_length - len(samples))
    emphasised = [
        value - pre_emphasis * (samples[n - 1] if n else 0.0) for n, value in enumerate(samples)
    ]
    frames = cut(np.array(emphasised), window_length, hop_length)
    power = dft_power(frames * window(window_shape, window_length), fft_length)
    if spectrum == "magnitude":
        power = np.sqrt(power)
    bands = triangles(sample_rate_hz, fft_length, num_mels, mel_scale, low_hz, high_hz)
    features = np.log(np.maximum(power @ bands.T, log_floor))
    if num_coefficients:
        features = lift(dct(features, num_coefficients), lifter)
    levels = [features]
    for _ in range(deltas):
        levels.append(slopes(levels[-1]))
    features = np.hstack(levels)
    if normalisation == "utterance":
        return (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-3)
    if normalisation == "training":
        return (features - mean) / std
    return features


def cut(samples: np.ndarray, window_length: int, hop_length: int) -> np.ndarray:
    """Every whole window of the samples, one each hop, ``[frames, window_length]``."""
    rows, start = [], 0
    while start + window_length <= len(samples):
        rows.append(samples[start : start + window_length])
        start += hop_length
    return np.array(rows)


def window(shape: str, length: int) -> np.ndarray:
    """One period of the window, its last point left out."""
    turn = [2 * math.pi * n / length for n in range(length)]
    return {
        "hann": np.array([math.sin(angle / 2) ** 2 for angle in turn]),
        "hamming": np.array([0.54 - 0.46 * math.cos(angle) for angle in turn]),
        "rectangular": np.ones(length),
    }[shape]


def dft_power(frames: np.ndarray, fft_length: int) -> np.ndarray:
    """Squared magnitude of bins 0 to ``fft_length / 2``, ``[frames, bins]``; one bin at a time."""
    n = np.arange(frames.shape[1])
    columns = []
    for k in range(fft_length // 2 + 1):
        angle = 2 * np.pi * (k * n % fft_length) / fft_length
        columns.append((frames @ np.cos(angle)) ** 2 + (frames @ np.sin(angle)) ** 2)
    return np.stack(columns, axis=1)


def mel(hz: float, scale: str) -> float:
    """Frequency in Hz -> mel."""
    if scale == "htk":
        return 2595 * math.log10(1 + hz / 700)
    linear_hz_per_mel, steps_per_factor = 200 / 3, 27 / math.log(6.4)
    if hz < 1000:
        return hz / linear_hz_per_mel
    return 1000 / linear_hz_per_mel + steps_per_factor * math.log(hz / 1000)


def hz_of(wanted_mel: float, scale: str) -> float:
    """Mel -> frequency in Hz, by bisection."""
    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        if mel(middle, scale) < wanted_mel:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def triangles(
    sample_rate_hz: int,
    fft_length: int,
    num_mels: int,
    scale: str,
    low_hz: float,
    high_hz: float,
) -> np.ndarray:
    """Triangular bands, equally wide in mel, of area 1 over Hz, ``[num_mels, bins]``."""
    low_mel, high_mel = mel(low_hz, scale), mel(high_hz, scale)
    step_mel = (high_mel - low_mel) / (num_mels + 1)
    edges_hz = [hz_of(low_mel + i * step_mel, scale) for i in range(num_mels + 2)]
    bands = np.zeros((num_mels, fft_length // 2 + 1))
    for band in range(num_mels):
        left, peak, right = edges_hz[band : band + 3]
        height = 2 / (right - left)
        for k in range(fft_length // 2 + 1):
            hz = k * sample_rate_hz / fft_length
            if left < hz <= peak:
                bands[band, k] = height * (hz - left) / (peak - left)
            elif peak < hz < right:
                bands[band, k] = height * (right - hz) / (right - peak)
    return bands


def dct(rows: np.ndarray, num_coefficients: int) -> np.ndarray:
    """Orthonormal DCT-II of each row, its first coefficients, one at a time."""
    size = rows.shape[1]
    columns = []
    for k in range(num_coefficients):
        total = sum(
            rows[:, n] * math.cos(math.pi * k * (2 * n + 1) / (2 * size)) for n in range(size)
        )
        columns.append(total * math.sqrt((2 if k else 1) / size))
    return np.stack(columns, axis=1)


def lift(coefficients: np.ndarray, lifter: int) -> np.ndarray:
    """HTK's sinusoidal lifter, c0 counted as the first coefficient, as librosa counts."""
    if lifter == 0:
        return coefficients
    order = range(1, coefficients.shape[1] + 1)
    return coefficients * [1 + lifter / 2 * math.sin(math.pi * n / lifter) for n in order]


def slopes(rows: np.ndarray, half_width: int = 2) -> np.ndarray:
    """Least-squares slope through each row and its neighbours, the end rows repeated."""
    last = len(rows) - 1
    distances = range(-half_width, half_width + 1)
    fitted = []
    for t in range(len(rows)):
        rise = sum(d * rows[min(max(t + d, 0), last)] for d in distances)
        fitted.append(rise / sum(d * d for d in distances))
    return np.array(fitted)
