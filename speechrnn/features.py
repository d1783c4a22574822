"""THE front end: waveform -> MFCC frames, one Keras layer that trains, serves and is exported.

A frame is ``window_length`` samples; the next starts ``hop_length`` later; samples that fill no
whole frame are left out, and a waveform shorter than one frame is padded with zeros to one. Each
frame is windowed, padded to ``fft_length``, and becomes mel band energies, their natural log, and
their orthonormal DCT-II. With librosa 0.11 the same numbers come from (docs/front_end.md)::

    left, right = (d := fft_length - window_length) // 2, d - d // 2
    mel = librosa.feature.melspectrogram(y=np.pad(y, (left, right)), sr=sample_rate_hz,
        n_fft=fft_length, win_length=window_length, hop_length=hop_length, window=window_shape,
        center=False, power=2.0, n_mels=num_mels, fmin=low_hz, fmax=high_hz,
        htk=mel_scale == "htk")  # the padding: librosa centres the window in the FFT
    librosa.feature.mfcc(S=np.log(np.maximum(mel, log_floor)), n_mfcc=num_coefficients,
        dct_type=2, norm="ortho", lifter=lifter)

Nothing in a clip's frames depends on its batch-mates or on the padding behind its true length.
"""

from __future__ import annotations

import hashlib
import json
import math
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from speechrnn.config import from_mapping, to_mapping
from speechrnn.errors import ConfigError

# Raised whenever the same settings give other numbers: bundles of another version do not load.
FRONT_END_VERSION = 1
# Half-width of the regression window of the deltas, as HTK's DELTAWINDOW default.
DELTA_HALF_WIDTH = 2
# Added to a standard deviation before dividing by it: digital silence has none.
STD_FLOOR = 1e-3
# The least normal float32: a lower ``log_floor`` would be 0 in the graph, and its log -inf.
LEAST_LOG_FLOOR = float(np.finfo(np.float32).tiny)
# Frames are put together from runs of at least this many samples (docs/front_end.md, "Speed").
LEAST_RUN = 16


@dataclass(frozen=True)
class FeatureConfig:
    """Every setting of the front end.

    Attributes:
        sample_rate_hz: Rate of the waveform.
        window_ms: Length of a frame.
        hop_ms: Distance between the starts of two frames.
        fft_length: Samples of the FFT, a power of two (the TFLite FFT takes no other).
        window_shape: "hann" or "hamming", both periodic, or "rectangular".
        num_mels: Number of triangular mel bands, each of unit area (Slaney's normalisation).
        mel_scale: "slaney" (Auditory Toolbox, linear below 1 kHz) or "htk" (HTK book, eq. 5.13).
        low_hz: Lower edge of the lowest band.
        high_hz: Upper edge of the highest band.
        num_coefficients: Coefficients kept of the DCT, from c0 on; 0 keeps the log mel bands.
        spectrum: "power" (squared magnitude) or "magnitude".
        log_floor: Least band energy; smaller ones are raised to it before the log.
        lifter: Sinusoidal liftering constant L of the HTK book, eq. 5.14, with c0 counted as the
            first coefficient, as librosa counts; 0 is none.
        pre_emphasis: a in ``y[n] - a * y[n - 1]``, over the whole waveform, with ``y[-1] = 0``
            (HTK eq. 5.4 begins anew in each frame instead).
        deltas: 0, 1 (append first differences over time) or 2 (and second ones), HTK eq. 5.16.
        normalisation: "none"; "utterance": zero mean and unit variance of each coefficient over
            the clip's own frames; "training": by means and deviations stored with the model.

    Raises:
        ConfigError: A value of another type or outside its range; says which.

    >>> config = FeatureConfig(hop_ms=20.0)
    >>> config.hop_length, config.num_frames(16000)
    (320, 49)
    """

    sample_rate_hz: int = 16000
    window_ms: float = 25.0
    hop_ms: float = 10.0
    fft_length: int = 512
    window_shape: Literal["hann", "hamming", "rectangular"] = "hann"
    num_mels: int = 40
    mel_scale: Literal["htk", "slaney"] = "slaney"
    low_hz: float = 20.0
    high_hz: float = 7600.0
    num_coefficients: int = 40
    spectrum: Literal["power", "magnitude"] = "power"
    log_floor: float = 1e-6
    lifter: int = 0
    pre_emphasis: float = 0.0
    deltas: Literal[0, 1, 2] = 0
    normalisation: Literal["none", "utterance", "training"] = "training"

    def __post_init__(self) -> None:
        for name, hint in typing.get_type_hints(FeatureConfig).items():
            object.__setattr__(self, name, _checked(name, hint, getattr(self, name)))
        _require(self.sample_rate_hz > 0, "sample_rate_hz", self.sample_rate_hz, "more than 0")
        _require(self.window_length > 0, "window_ms", self.window_ms, "at least one sample")
        _require(self.hop_length > 0, "hop_ms", self.hop_ms, "at least one sample")
        power_of_two = self.fft_length > 0 and self.fft_length & (self.fft_length - 1) == 0
        _require(power_of_two, "fft_length", self.fft_length, "a power of two")
        _require(
            self.fft_length >= self.window_length,
            "fft_length",
            self.fft_length,
            f"at least the window's {self.window_length} samples",
        )
        _require(self.num_mels > 0, "num_mels", self.num_mels, "more than 0")
        nyquist_hz = self.sample_rate_hz / 2
        _require(
            0 <= self.low_hz < self.high_hz <= nyquist_hz,
            "low_hz, high_hz",
            (self.low_hz, self.high_hz),
            f"0 <= low < high <= {nyquist_hz:g}, half of the sample rate",
        )
        _require(
            0 <= self.num_coefficients <= self.num_mels,
            "num_coefficients",
            self.num_coefficients,
            f"0 to num_mels ({self.num_mels})",
        )
        _require(
            self.log_floor >= LEAST_LOG_FLOOR,
            "log_floor",
            self.log_floor,
            f"at least {LEAST_LOG_FLOOR:.2g}, the least float32",
        )
        _require(self.lifter >= 0, "lifter", self.lifter, "0 or more")
        _require(0 <= self.pre_emphasis < 1, "pre_emphasis", self.pre_emphasis, "0 <= a < 1")
        empty = np.flatnonzero(mel_filterbank(self).max(axis=0) == 0)
        _require(
            not empty.size,
            "num_mels",
            self.num_mels,
            f"fewer, or a longer fft_length: band {empty[0] if empty.size else 0} holds no FFT bin",
        )

    @property
    def window_length(self) -> int:
        """Samples in a frame."""
        return round(self.sample_rate_hz * self.window_ms / 1000)

    @property
    def hop_length(self) -> int:
        """Samples from the start of one frame to the start of the next."""
        return round(self.sample_rate_hz * self.hop_ms / 1000)

    @property
    def num_features(self) -> int:
        """Values in a frame of the result."""
        return (self.num_coefficients or self.num_mels) * (1 + self.deltas)

    def num_frames(self, num_samples: Any) -> Any:
        """Frames of a waveform: 1 for anything up to one window, then one for each whole hop.

        Works on an int and on an integer tensor of any backend.
        """
        if isinstance(num_samples, int | np.integer):
            return 1 + max(0, int(num_samples) - self.window_length) // self.hop_length
        beyond_first = num_samples - self.window_length
        return 1 + ops.maximum(beyond_first, 0) // self.hop_length

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any setting and with the code's version."""
        text = json.dumps([FRONT_END_VERSION, to_mapping(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _checked(name: str, hint: Any, value: Any) -> Any:
    """The value, if its type is the field's; whole numbers become float where one is asked for."""
    choices = typing.get_args(hint)
    if choices:  # 1 == True == 1.0, so types are compared as well
        known = any(type(value) is type(choice) and value == choice for choice in choices)
        _require(known, name, value, f"one of {', '.join(map(repr, choices))}")
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        _require(number and isinstance(value, int), name, value, "a whole number, as an int")
        return value
    _require(number and math.isfinite(value), name, value, "a finite number")
    return float(value) + 0.0  # -0.0 becomes 0.0, which is equal and must not print differently


def _require(holds: bool, name: str, got: Any, expected: str) -> None:
    if not holds:
        raise ConfigError(f"features.{name}: got {got!r}, expected {expected}")


def hz_to_mel(hz: np.ndarray, scale: str) -> np.ndarray:
    """Frequency in Hz -> mel. Source: HTK book eq. 5.13; Slaney, Auditory Toolbox (1998)."""
    hz = np.asarray(hz, np.float64)
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    above = 15.0 + 27.0 * np.log(np.maximum(hz, 1000.0) / 1000.0) / np.log(6.4)
    return np.where(hz < 1000.0, 3.0 * hz / 200.0, above)


def mel_to_hz(mel: np.ndarray, scale: str) -> np.ndarray:
    """Mel -> frequency in Hz, the inverse of :func:`hz_to_mel`."""
    mel = np.asarray(mel, np.float64)
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    above = 1000.0 * np.exp((np.maximum(mel, 15.0) - 15.0) * np.log(6.4) / 27.0)
    return np.where(mel < 15.0, 200.0 * mel / 3.0, above)


def mel_filterbank(config: FeatureConfig) -> np.ndarray:
    """Triangular bands of unit area, float64 ``[fft_length // 2 + 1, num_mels]``.

    Source: the same as ``librosa.filters.mel`` 0.11 (transposed), ``norm="slaney"``.
    """
    ends_mel = hz_to_mel(np.array([config.low_hz, config.high_hz]), config.mel_scale)
    edges_mel = np.linspace(ends_mel[0], ends_mel[1], config.num_mels + 2)
    edges_hz = mel_to_hz(edges_mel, config.mel_scale)
    bins_hz = np.arange(config.fft_length // 2 + 1) * config.sample_rate_hz / config.fft_length
    low, centre, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising = (bins_hz[:, None] - low) / (centre - low)
    falling = (high - bins_hz[:, None]) / (high - centre)
    return np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (high - low)


def dct_matrix(config: FeatureConfig) -> np.ndarray:
    """Orthonormal DCT-II with liftering folded in, float64 ``[num_mels, num_coefficients]``."""
    band = np.arange(config.num_mels)[:, None]
    coefficient = np.arange(config.num_coefficients)[None, :]
    matrix = np.cos(np.pi * coefficient * (band + 0.5) / config.num_mels)
    matrix *= np.where(coefficient == 0, np.sqrt(1 / config.num_mels), np.sqrt(2 / config.num_mels))
    if config.lifter:
        matrix *= 1 + config.lifter / 2 * np.sin(np.pi * (coefficient + 1) / config.lifter)
    return matrix


def window(config: FeatureConfig) -> np.ndarray:
    """The periodic window, float64 ``[window_length]``."""
    if config.window_shape == "rectangular":
        return np.ones(config.window_length)
    offset = {"hann": 0.5, "hamming": 0.54}[config.window_shape]
    phase = 2 * np.pi * np.arange(config.window_length) / config.window_length
    return offset - (1 - offset) * np.cos(phase)


def length_mask(lengths: Any, size: Any) -> Any:
    """bool ``[batch, size]``: whether a position lies within its row's true length."""
    return ops.arange(size)[None, :] < ops.cast(lengths, "int32")[:, None]


@keras.saving.register_keras_serializable(package="speechrnn")
class MFCC(keras.layers.Layer):
    """Waveforms -> frames, as :class:`FeatureConfig` says; see the module for the definition.

    It computes in float32 whatever Keras' dtype policy is: half precision has no room for the
    range of a power spectrum.

    Call arguments:
        waveform: float32 ``[batch, samples]``, within -1..1.
        num_samples: int ``[batch]``, true lengths; what lies behind them is ignored.
            None: every row is as long as the tensor.

    Returns:
        float32 ``[batch, config.num_frames(samples), config.num_features]``; frames behind a
        row's ``config.num_frames(num_samples)`` have no meaning.

    Raises:
        ValueError: The waveform has not two axes.

    >>> MFCC(FeatureConfig(num_coefficients=13))(np.zeros((2, 16000), np.float32)).shape
    TensorShape([2, 98, 13])
    """

    def __init__(self, config: FeatureConfig, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "trainable": False, "dtype": "float32"})
        self.config = config
        padding = config.fft_length - config.window_length
        self._window = np.pad(window(config), (0, padding)).astype(np.float32)
        self._mel = mel_filterbank(config).astype(np.float32)
        self.log_mel = self._log_mel  # the export puts a faster graph of the same in its place
        self._dct = dct_matrix(config).astype(np.float32) if config.num_coefficients else None
        if config.normalisation == "training":
            shape = (config.num_features,)
            self.mean = self.add_weight(name="mean", shape=shape, initializer="zeros")
            self.std = self.add_weight(name="std", shape=shape, initializer="ones")

    def call(
        self,
        waveform: Any,
        num_samples: Any = None,
        change_log_mel: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Frames, normalised as the configuration says.

        ``change_log_mel`` maps log mel energies ``[batch, frames, num_mels]`` to changed ones:
        where training augments.
        """
        frames = self.unnormalised(waveform, num_samples, change_log_mel)
        if self.config.normalisation == "training":
            return (frames - self.mean) / self.std
        if self.config.normalisation == "utterance":
            return _normalise_rows(frames, self._num_frames(num_samples))
        return frames

    def unnormalised(
        self,
        waveform: Any,
        num_samples: Any = None,
        change_log_mel: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Frames before normalisation, deltas included."""
        config = self.config
        waveform = ops.cast(waveform, "float32")
        if len(waveform.shape) != 2:
            raise ValueError(
                f"waveform: got shape {tuple(waveform.shape)}, expected [batch, samples]; "
                "for a single one, waveform[None]"
            )
        if num_samples is not None:  # what lies behind the end is not even finite, perhaps
            inside = length_mask(num_samples, ops.shape(waveform)[1])
            waveform = ops.where(inside, waveform, 0.0)
        frames = self.log_mel(waveform)
        if change_log_mel is not None:
            frames = change_log_mel(frames)
        if self._dct is not None:
            frames = ops.matmul(frames, self._dct)
        levels = [frames]
        for _ in range(config.deltas):
            levels.append(_delta(levels[-1], self._num_frames(num_samples)))
        return ops.concatenate(levels, axis=-1) if config.deltas else frames

    def get_config(self) -> dict[str, Any]:
        """What Keras stores to build the layer again."""
        return {"name": self.name, "config": to_mapping(self.config)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MFCC:
        """The layer of :meth:`get_config`."""
        settings = from_mapping(FeatureConfig, config["config"], "features")
        return cls(settings, name=config["name"])

    def set_statistics(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Store the training set's mean and standard deviation of each value of a frame."""
        self.mean.assign(mean)
        self.std.assign(np.maximum(std, STD_FLOOR))

    def _num_frames(self, num_samples: Any) -> Any:
        return None if num_samples is None else self.config.num_frames(num_samples)

    def _log_mel(self, waveform: Any) -> Any:
        """``[batch, samples]`` -> ``[batch, frames, num_mels]``."""
        batch, num_samples = ops.shape(waveform)
        num_frames = self.config.num_frames(num_samples)
        # One row per frame of the whole batch: a plain matmul is faster than a batched one.
        frames = self._frame(waveform, num_frames) * self._window
        real, imaginary = ops.rfft(frames, fft_length=self.config.fft_length)
        spectrum = ops.square(real) + ops.square(imaginary)
        if self.config.spectrum == "magnitude":
            spectrum = ops.sqrt(spectrum)
        energies = ops.maximum(ops.matmul(spectrum, self._mel), self.config.log_floor)
        return ops.reshape(ops.log(energies), (batch, num_frames, self.config.num_mels))

    def _frame(self, waveform: Any, num_frames: Any) -> Any:
        """``[batch, samples]`` -> ``[batch * num_frames, fft_length]``, one frame each hop.

        Cut into runs of samples first, so that whole runs are gathered: many times faster than
        gathering single samples, and at once as long as the FFT. What a frame holds behind its
        ``window_length`` samples, the window makes zero.
        """
        hop, length = self.config.hop_length, self.config.fft_length
        run = math.gcd(hop, length)
        if run < LEAST_RUN:
            run = hop
        runs_in_frame = -(-length // run)
        batch, num_samples = ops.shape(waveform)
        # Room for the last frame, and for all samples, as cutting some off would cost a copy.
        last_frame = max(length, self.config.window_length + hop)
        num_runs = (num_frames - 1) * (hop // run) + -(-last_frame // run)
        waveform = ops.pad(waveform, ((0, 0), (0, num_runs * run - num_samples)))
        if self.config.pre_emphasis:
            before = ops.pad(waveform[:, :-1], ((0, 0), (1, 0)))
            waveform = waveform - self.config.pre_emphasis * before
        runs = ops.reshape(waveform, (batch, num_runs, run))
        first = ops.arange(num_frames)[:, None] * (hop // run)
        frames = ops.take(runs, first + ops.arange(runs_in_frame)[None, :], axis=1)
        frames = ops.reshape(frames, (-1, runs_in_frame * run))
        return frames if runs_in_frame * run == length else frames[:, :length]


def _mean_over_time(values: Any) -> Any:
    return ops.mean(values, axis=1, keepdims=True)


def _normalise_rows(frames: Any, num_frames: Any) -> Any:
    """Zero mean and unit variance of each coefficient over each row's true frames.

    Measured from the first frame, so that the sums are small: those of digital silence are 0 where
    a matrix product rounds all rows alike, and else of its last digits, which
    the division magnifies to 3e-2; a sum of its frames would round as well.
    """
    frames = frames - frames[:, :1]
    mean = _mean_over_time
    if num_frames is not None:
        count = ops.cast(num_frames, "float32")[:, None, None]
        weight = ops.cast(length_mask(num_frames, ops.shape(frames)[1]), "float32")[..., None]

        def mean(values: Any) -> Any:
            return ops.sum(values * weight, axis=1, keepdims=True) / count

    centred = frames - mean(frames)
    variance = mean(centred * centred)
    return centred / (ops.sqrt(variance) + STD_FLOOR)


def _delta(frames: Any, num_frames: Any) -> Any:
    """Regression slope over time, the first and last true frame repeated outwards (HTK 5.16)."""
    last = (ops.shape(frames)[1] if num_frames is None else num_frames[:, None]) - 1
    time = ops.arange(ops.shape(frames)[1])[None, :]
    total = 0.0
    for distance in range(1, DELTA_HALF_WIDTH + 1):
        ahead = ops.minimum(time + distance, last)
        behind = ops.maximum(ops.minimum(time, last) - distance, 0)
        total = total + distance * (_frames_at(frames, ahead) - _frames_at(frames, behind))
    return total / (2 * sum(distance**2 for distance in range(1, DELTA_HALF_WIDTH + 1)))


def _frames_at(frames: Any, index: Any) -> Any:
    """Frames of each row at ``index``, int ``[batch or 1, time]``."""
    if index.shape[0] == 1:
        return ops.take(frames, index[0], axis=1)
    return ops.take_along_axis(frames, index[..., None], axis=1)
