"""The front end against librosa and a float64 oracle, what it must never depend on, and settings.

The first section tests the oracle itself.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import librosa
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from reference import mfcc as oracle

from speechrnn.config import from_mapping, to_mapping
from speechrnn.errors import ConfigError
from speechrnn.features import MFCC, STD_FLOOR, FeatureConfig, length_mask, mel_filterbank

# The requirement: in standard deviations of all the features of a clip. Noise and recordings keep
# to 3e-6; pure tones and constants come near it, because between their lines float32 leaves noise
# of 1e-7 of the peak, which log_floor covers only in part (docs/front_end.md, "Exactness").
TOLERANCE = 1e-4
# Between two float32 runs of the same clip: matmuls sum in another order in a larger batch.
SAME = 1e-5

CONFIGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "htk mel from 0 Hz to Nyquist": {"mel_scale": "htk", "low_hz": 0.0, "high_hz": 8000.0},
    "hamming": {"window_shape": "hamming", "num_coefficients": 20},
    "rectangular": {"window_shape": "rectangular"},
    "magnitude": {"spectrum": "magnitude", "log_floor": 1e-3},
    "liftering": {"num_coefficients": 13, "lifter": 22},
    "pre-emphasis": {"pre_emphasis": 0.97},
    "log mel bands": {"num_coefficients": 0},
    "log mel with a delta": {"num_coefficients": 0, "deltas": 1},
    "13 with two deltas": {"num_coefficients": 13, "deltas": 2},
    "8 kHz": {"sample_rate_hz": 8000, "fft_length": 256, "num_mels": 24, "high_hz": 3800.0}
    | {"num_coefficients": 13},
    # 220 and 1024 have only 4 as a common divisor, and 1024 - 551 is odd.
    "22.05 kHz": {"sample_rate_hz": 22050, "fft_length": 1024, "high_hz": 11025.0},
    "44.1 kHz": {"sample_rate_hz": 44100, "fft_length": 2048, "high_hz": 16000.0},
    "hop above window": {"window_ms": 10.0, "hop_ms": 25.0},
    "hop above FFT": {"hop_ms": 50.0},
    "hop of 7 samples": {"hop_ms": 7 / 16, "deltas": 1},
    "window of whole hops": {"window_ms": 20.0},
    "window as long as FFT": {"window_ms": 32.0},
}
every_config = pytest.mark.parametrize("name", CONFIGS)
# One of each kind of dependence between frames or on the length.
LENGTH_CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "training": {"normalisation": "training"},
    "utterance": {"normalisation": "utterance"},
    "deltas": {"deltas": 2, "num_coefficients": 13},
    "utterance after all": {
        "deltas": 2,
        "normalisation": "utterance",
        "pre_emphasis": 0.97,
        "lifter": 22,
    },
    # A single frame normalised over the utterance is 0 whatever it was, so the others again:
    "training after all": {"deltas": 2, "normalisation": "training", "pre_emphasis": 0.97},
    "log mel": {"deltas": 1, "normalisation": "none", "num_coefficients": 0, "pre_emphasis": 0.5},
}
every_length_config = pytest.mark.parametrize("name", LENGTH_CONFIGS)


def make_config(name: str) -> FeatureConfig:
    return FeatureConfig(**{"normalisation": "none", **(CONFIGS | LENGTH_CONFIGS)[name]})


@functools.cache
def make_layer(config: FeatureConfig) -> MFCC:
    layer = MFCC(config)
    if config.normalisation == "training":
        layer.set_statistics(*statistics(config))
    return layer


def statistics(config: FeatureConfig) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    size = config.num_features
    return rng.normal(0, 3, size).astype("f"), rng.uniform(0.5, 3, size).astype("f")


def features(config: FeatureConfig, waveform: np.ndarray, lengths: Any = None) -> np.ndarray:
    """``[batch, frames, features]`` of ``[batch, samples]``, or the same without ``batch``."""
    batch = waveform if waveform.ndim == 2 else waveform[None]
    found = ops.convert_to_numpy(make_layer(config)(batch, lengths))
    return found if waveform.ndim == 2 else found[0]


def expected(config: FeatureConfig, waveform: np.ndarray) -> np.ndarray:
    mean, std = statistics(config) if config.normalisation == "training" else (None, None)
    return oracle.mfcc(waveform, **to_mapping(config), mean=mean, std=std)


def noise(num_samples: int, seed: int = 0, level: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(num_samples)).astype(np.float32)


def tone(frequency_hz: float, num_samples: int, rate_hz: int) -> np.ndarray:
    phase = 2 * np.pi * frequency_hz * np.arange(num_samples) / rate_hz
    return (0.5 * np.sin(phase)).astype(np.float32)


def voice(num_samples: int, rate_hz: int) -> np.ndarray:
    """What stands in for a recording: harmonics of a rising pitch that swell, over faint noise."""
    time_s = np.arange(num_samples) / rate_hz
    phase = 2 * np.pi * (110 * time_s + 40 * time_s**2)
    harmonics = sum(np.sin(k * phase) / k for k in range(1, 20))
    swell = 0.2 * np.sin(2 * np.pi * 1.5 * time_s) ** 2
    return (swell * harmonics).astype(np.float32) + noise(num_samples, level=1e-3)


SIGNALS: dict[str, Callable[[int, int], np.ndarray]] = {
    "noise": lambda size, _: noise(size),
    "tone of 1 kHz": lambda size, rate_hz: tone(1000.0, size, rate_hz),
    "tone between bins": lambda size, rate_hz: tone(437.3, size, rate_hz),
    "silence": lambda size, _: np.zeros(size, np.float32),
    "impulse": lambda size, _: np.eye(1, size, size // 2, dtype=np.float32)[0],
    "constant": lambda size, _: np.full(size, 0.25, np.float32),
    "voice": voice,
}


def signal(kind: str, config: FeatureConfig, duration_s: float = 0.25) -> np.ndarray:
    """A little more than ``duration_s``, so that some samples fill no whole frame."""
    rate_hz = config.sample_rate_hz
    return SIGNALS[kind](round(duration_s * rate_hz) + 61, rate_hz)


@functools.cache
def recordings() -> tuple[np.ndarray, ...]:
    """Half a second each of four recorded voices and of a background noise."""
    place = Path(__file__).parents[2] / "shared" / "data"
    data = Path(os.environ.get("SPEECHRNN_DATA", place))
    folders = ("speech_commands_12/val", "arabic_speech_commands/val", "free_spoken_digits")
    files = [sorted((data / folder).rglob("*.flac"))[7:8] for folder in (*folders, "yesno")]
    files.append(sorted((data / "background_noise").rglob("*.flac"))[:1])
    found = [
        soundfile.read(file, dtype="float32")[0][2000:10000] for some in files for file in some
    ]
    if not found:
        pytest.skip(f"no recordings in {data}; set SPEECHRNN_DATA to where they are")
    return tuple(found)


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference in standard deviations of the wanted features; as it is, of constants."""
    assert found.shape == wanted.shape
    std = float(wanted.std())
    return float(np.abs(found - wanted).max()) / (std if std > 1e-6 else 1.0)


def librosa_mel(config: FeatureConfig, waveform: np.ndarray) -> dict[str, Any]:
    """The settings of librosa, with the waveform, that equal ``config``."""
    waveform = waveform.astype(np.float64)
    waveform = np.pad(waveform, (0, max(0, config.window_length - len(waveform))))
    if config.pre_emphasis:  # zi: without it, librosa invents a sample before the first
        waveform = librosa.effects.preemphasis(waveform, coef=config.pre_emphasis, zi=[0.0])
    # librosa centres the window in the FFT: half of the difference comes before the first sample.
    padding = config.fft_length - config.window_length
    shapes = {"hann": "hann", "hamming": "hamming", "rectangular": "boxcar"}
    return {
        "y": np.pad(waveform, (padding // 2, padding - padding // 2)),
        "sr": config.sample_rate_hz,
        "n_fft": config.fft_length,
        "win_length": config.window_length,
        "hop_length": config.hop_length,
        "window": shapes[config.window_shape],
        "center": False,
        "power": {"power": 2.0, "magnitude": 1.0}[config.spectrum],
        "n_mels": config.num_mels,
        "fmin": config.low_hz,
        "fmax": config.high_hz,
        "htk": config.mel_scale == "htk",
        "dtype": np.float64,
    }


def librosa_mfcc(config: FeatureConfig, waveform: np.ndarray) -> np.ndarray:
    mel = librosa.feature.melspectrogram(**librosa_mel(config, waveform))
    rows = np.log(np.maximum(mel, config.log_floor))
    if config.num_coefficients:
        rows = librosa.feature.mfcc(
            S=rows,
            n_mfcc=config.num_coefficients,
            dct_type=2,
            norm="ortho",
            lifter=config.lifter,
        )
    levels = [rows]
    for _ in range(config.deltas):  # a first-order fit to five frames, the end ones repeated
        levels.append(librosa.feature.delta(levels[-1], width=5, order=1, mode="nearest"))
    return np.concatenate(levels).T


# --- the oracle -------------------------------------------------------------------------------


def test_oracle_dft_of_a_tone_on_a_bin_is_one_line() -> None:
    cosine = np.cos(2 * np.pi * 5 * np.arange(64) / 64)
    power = oracle.dft_power(cosine[None], 64)[0]
    np.testing.assert_allclose(power, np.eye(33)[5] * 32**2, atol=1e-9)


def test_oracle_dft_of_an_impulse_is_flat() -> None:
    np.testing.assert_allclose(oracle.dft_power(np.eye(1, 40, 17), 64), np.ones((1, 33)))


def test_oracle_dft_keeps_the_energy() -> None:
    """Parseval: each bin but the first and the last stands for two of the full DFT."""
    frames = np.random.default_rng(0).standard_normal((3, 50))
    twice = np.array([1, *[2] * 31, 1])
    power = oracle.dft_power(frames, 64) @ twice / 64
    np.testing.assert_allclose(power, np.square(frames).sum(axis=1))


@pytest.mark.parametrize(
    ("hz", "scale", "mel"),
    [
        (0.0, "htk", 0.0),
        (700.0, "htk", 2595 * math.log10(2)),
        (1000.0, "htk", 999.99),  # HTK book: the scale is made so that 1000 Hz is 1000 mel
        (0.0, "slaney", 0.0),
        (200.0, "slaney", 3.0),
        (1000.0, "slaney", 15.0),
        (6400.0, "slaney", 42.0),  # 27 steps above 1 kHz multiply the frequency by 6.4
    ],
)
def test_oracle_mel_scales_pass_through_known_points(hz: float, scale: str, mel: float) -> None:
    assert oracle.mel(hz, scale) == pytest.approx(mel, abs=0.01)
    assert oracle.hz_of(oracle.mel(hz, scale), scale) == pytest.approx(hz, abs=1e-6)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_oracle_triangles_have_unit_area_and_cross_at_half_height(scale: str) -> None:
    bands = oracle.triangles(16000, 2**14, 20, scale, 100.0, 7000.0)
    np.testing.assert_allclose(bands.sum(axis=1) * 16000 / 2**14, 1, rtol=1e-3)
    scaled = bands / bands.max(axis=1, keepdims=True)
    inside = slice(scaled[0].argmax(), scaled[-1].argmax())
    np.testing.assert_allclose(scaled.sum(axis=0)[inside], 1, atol=0.02)


def test_oracle_windows_at_known_points() -> None:
    for shape, values in {
        "hann": [0, 0.5, 1, 0.5],
        "hamming": [0.08, 0.54, 1, 0.54],
        "rectangular": [1] * 4,
    }.items():
        np.testing.assert_allclose(oracle.window(shape, 4), values, atol=1e-15)


def test_oracle_dct_is_orthonormal_and_c0_is_the_scaled_mean() -> None:
    matrix = oracle.dct(np.eye(24), 24)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(24), atol=1e-14)
    np.testing.assert_allclose(oracle.dct(np.full((1, 24), 3.0), 24)[0, 0], 3 * math.sqrt(24))


def test_oracle_slope_of_a_line_is_its_slope() -> None:
    line = np.arange(10.0)[:, None] * [[2.0, -1.0]]
    np.testing.assert_allclose(oracle.slopes(line)[2:-2], np.tile([2.0, -1.0], (6, 1)))
    np.testing.assert_allclose(oracle.slopes(line)[0], [2.0 * 0.5, -0.5])  # (1*1 + 2*2) / 10


def test_oracle_lifter_is_one_plus_half_of_it_in_the_middle() -> None:
    np.testing.assert_allclose(oracle.lift(np.ones((1, 12)), 22)[0, 10], 12)  # sin(pi * 11 / 22)


def test_oracle_cuts_whole_frames_only() -> None:
    assert oracle.cut(np.arange(9), 4, 3).tolist() == [[0, 1, 2, 3], [3, 4, 5, 6]]


# --- equal to the oracle and to librosa -------------------------------------------------------


@pytest.mark.parametrize("kind", SIGNALS)
@every_config
def test_equals_the_oracle(name: str, kind: str) -> None:
    config = make_config(name)
    waveform = signal(kind, config)
    assert distance(features(config, waveform), expected(config, waveform)) <= TOLERANCE


@pytest.mark.parametrize("kind", SIGNALS)
@every_config
def test_equals_librosa(name: str, kind: str) -> None:
    config = make_config(name)
    waveform = signal(kind, config)
    assert distance(features(config, waveform), librosa_mfcc(config, waveform)) <= TOLERANCE


@every_config
def test_equals_the_oracle_and_librosa_on_recordings(name: str) -> None:
    config = make_config(name)
    for waveform in recordings():
        found = features(config, waveform)
        assert distance(found, expected(config, waveform)) <= TOLERANCE
        assert distance(found, librosa_mfcc(config, waveform)) <= TOLERANCE


@pytest.mark.parametrize("name", ["noise", "voice", "recordings"])
def test_equals_librosa_called_with_the_waveform_but_for_decibels(name: str) -> None:
    """``librosa.feature.mfcc(y=...)`` is in decibels of power: 10 / ln 10 times ours.

    It also clips everything 80 dB below the clip's loudest band, which depends on the clip's other
    frames and so is not offered here; within 80 dB, and above its floor of 1e-10, it is the same.
    """
    config = FeatureConfig(normalisation="none", log_floor=1e-10, num_coefficients=20, lifter=22)
    clips = recordings() if name == "recordings" else [signal(name, config)]
    compared = 0
    for waveform in clips:
        options = librosa_mel(config, waveform)
        mel = librosa.feature.melspectrogram(**options)
        if mel.min() < max(1e-10, mel.max() * 1e-8):
            continue
        decibels = librosa.feature.mfcc(**options, n_mfcc=20, lifter=22).T
        assert distance(features(config, waveform), decibels * math.log(10) / 10) <= TOLERANCE
        compared += 1
    assert compared


@every_length_config
@pytest.mark.parametrize("kind", ["noise", "voice", "silence"])
def test_normalisation_and_deltas_equal_the_oracle(name: str, kind: str) -> None:
    config = make_config(name)
    waveform = signal(kind, config)
    assert distance(features(config, waveform), expected(config, waveform)) <= TOLERANCE


def test_training_statistics_have_a_least_deviation() -> None:
    config = FeatureConfig(num_coefficients=2)
    layer = MFCC(config)
    layer.set_statistics(np.zeros(2, "f"), np.array([0, 2], "f"))
    np.testing.assert_allclose(ops.convert_to_numpy(layer.std), [STD_FLOOR, 2])


def test_digital_silence_normalised_over_the_utterance_is_zero_but_for_rounding() -> None:
    """Some processors round the rows of a product differently, seen: by 4 of the last digit."""
    silence = np.zeros(16000, np.float32)
    largest = np.abs(features(FeatureConfig(normalisation="none"), silence)).max()
    found = features(FeatureConfig(normalisation="utterance"), silence)
    assert np.abs(found).max() <= 8 * np.spacing(largest) / STD_FLOOR


# --- frames -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["defaults", "22.05 kHz", "hop above FFT", "8 kHz"])
def test_num_frames_is_exact_around_every_frame_border(name: str) -> None:
    config = make_config(name)
    window, hop = config.window_length, config.hop_length
    borders = [1, window, window + hop, window + 7 * hop, config.sample_rate_hz]
    for num_samples in sorted({b + d for b in borders for d in (-1, 0, 1) if b + d >= 0}):
        whole = len(oracle.cut(np.zeros(max(num_samples, window)), window, hop))
        frames = features(config, np.zeros((1, num_samples), np.float32)).shape[1]
        assert config.num_frames(num_samples) == whole == frames, num_samples


@given(st.integers(0, 10**7), st.integers(1, 5000), st.integers(1, 5000))
def test_num_frames_counts_the_whole_windows(num_samples: int, window: int, hop: int) -> None:
    config = FeatureConfig(
        sample_rate_hz=1000,
        window_ms=window,
        hop_ms=hop,
        fft_length=8192,
        num_mels=1,
        num_coefficients=0,
        high_hz=500.0,
    )
    assert (config.window_length, config.hop_length) == (window, hop)
    frames = config.num_frames(num_samples)
    last_end = (frames - 1) * hop + window
    assert last_end <= max(num_samples, window) < last_end + hop


def test_num_frames_is_the_same_for_int_numpy_and_tensor() -> None:
    config = FeatureConfig()
    sizes = [0, 1, 399, 400, 401, 559, 560, 16000]
    frames = [config.num_frames(size) for size in sizes]
    assert frames == [1, 1, 1, 1, 1, 1, 2, 98]
    assert all(type(config.num_frames(size)) is int for size in (3, np.int64(3), np.int32(900)))
    for dtype in ("int32", "int64"):
        found = config.num_frames(ops.convert_to_tensor(sizes, dtype=dtype))
        assert ops.convert_to_numpy(found).tolist() == frames


@pytest.mark.parametrize("name", ["defaults", "pre-emphasis", "22.05 kHz", "hop above FFT"])
def test_a_shift_by_one_hop_shifts_the_frames_by_one(name: str) -> None:
    config = make_config(name)
    waveform = signal("noise", config)
    whole, later = features(config, waveform), features(config, waveform[config.hop_length :])
    # With pre-emphasis the first frame of the later one has another sample before it.
    start = 1 if config.pre_emphasis else 0
    assert distance(later[start:], whole[1 + start :]) <= SAME


@given(st.floats(0.01, 30))
@settings(deadline=None, max_examples=20)
def test_a_gain_adds_twice_its_log_to_every_log_mel_energy(gain: float) -> None:
    config = FeatureConfig(normalisation="none", num_coefficients=0, log_floor=1e-30)
    waveform = noise(4000)
    louder = features(config, waveform * np.float32(gain))
    np.testing.assert_allclose(louder, features(config, waveform) + 2 * math.log(gain), atol=1e-4)


def test_a_gain_changes_c0_alone() -> None:
    config = FeatureConfig(normalisation="none")
    waveform = noise(4000)
    change = features(config, 3 * waveform) - features(config, waveform)
    np.testing.assert_allclose(change[:, 0], 2 * math.log(3) * math.sqrt(40), rtol=1e-5)
    np.testing.assert_allclose(change[:, 1:], 0, atol=1e-4)


@pytest.mark.parametrize("name", ["defaults", "htk mel from 0 Hz to Nyquist", "8 kHz", "44.1 kHz"])
def test_a_tone_peaks_in_the_band_around_it(name: str) -> None:
    config = dataclasses.replace(make_config(name), num_coefficients=0)
    bank = mel_filterbank(config)
    for band in range(config.num_mels):
        loudest_bin = int(bank[:, band].argmax())
        frequency_hz = loudest_bin * config.sample_rate_hz / config.fft_length
        clip = tone(frequency_hz, 3 * config.window_length, config.sample_rate_hz)
        frames = features(config, clip)
        assert (frames.argmax(axis=1) == bank[loudest_bin].argmax()).all()


def test_silence_is_the_floor_and_its_dct() -> None:
    config = FeatureConfig(normalisation="none")
    frames = features(config, np.zeros(2000, np.float32))
    np.testing.assert_allclose(frames[:, 0], math.log(1e-6) * math.sqrt(40), rtol=1e-6)
    np.testing.assert_allclose(frames[:, 1:], 0, atol=1e-4)


# --- what it must not depend on ---------------------------------------------------------------


@every_length_config
@given(data=st.data())
@settings(deadline=None, max_examples=10)
def test_padding_and_batch_mates_change_nothing(name: str, data: st.DataObject) -> None:
    config = make_config(name)
    lengths = data.draw(st.lists(st.integers(1, 2500), min_size=1, max_size=3))
    padding = data.draw(st.integers(0, 1300))
    junk = data.draw(st.sampled_from([0.0, 1.0, 1e30, math.inf, math.nan]))
    batch = np.full((len(lengths), max(lengths) + padding), junk, np.float32)
    if junk == 1.0:
        batch = noise(batch.size, level=1.0).reshape(batch.shape)
    clips = [noise(size, seed=row) for row, size in enumerate(lengths)]
    for row, clip in enumerate(clips):
        batch[row, : len(clip)] = clip
    found = features(config, batch, np.array(lengths, np.int32))
    assert np.isfinite(found).all()
    for row, clip in enumerate(clips):
        alone = features(config, clip)
        np.testing.assert_allclose(found[row, : len(alone)], alone, atol=atol(config), rtol=SAME)


def atol(config: FeatureConfig) -> float:
    """c0 is about 50, so that float32 knows it to 4e-6; over an utterance, what hardly varies
    (the same two frames) is divided by little more than STD_FLOOR."""
    return 1e-2 if config.normalisation == "utterance" else 1e-4


@every_length_config
def test_a_clip_of_a_second_is_the_same_alone_and_in_a_padded_batch(name: str) -> None:
    """As the test before, to the full tolerance: with enough frames that each value varies."""
    config = make_config(name)
    clips = [noise(16000), voice(12000, 16000), noise(400 + 10 * 160, seed=3)]
    batch = np.full((3, 17000), np.nan, np.float32)
    for row, clip in enumerate(clips):
        batch[row, : len(clip)] = clip
    found = features(config, batch, np.array([len(clip) for clip in clips]))
    for row, clip in enumerate(clips):
        alone = features(config, clip)
        assert distance(found[row, : len(alone)], alone) <= 2 * SAME


@every_length_config
@pytest.mark.parametrize("num_samples", [0, 1, 200, 399])
def test_less_than_a_window_is_the_same_as_padded_with_zeros(name: str, num_samples: int) -> None:
    config = make_config(name)
    clip = noise(num_samples)
    padded = np.pad(clip, (0, config.window_length - num_samples))
    np.testing.assert_array_equal(features(config, clip), features(config, padded))
    assert distance(features(config, clip), expected(config, padded)) <= TOLERANCE


@every_config
def test_length_known_or_not_gives_the_same(name: str) -> None:
    """The exported graph has ``[1, None]``; some of the shapes in it are tensors then."""
    config = make_config(name)
    layer = make_layer(config)
    dynamic = tf.function(
        lambda waveform: layer(waveform), input_signature=[tf.TensorSpec([1, None], tf.float32)]
    )
    assert dynamic.get_concrete_function().output_shapes.as_list() == [
        1,
        None,
        config.num_features,
    ]
    for num_samples in (1, config.window_length, 3000):
        clip = noise(num_samples)
        assert distance(np.asarray(dynamic(clip[None]))[0], features(config, clip)) <= SAME


def test_batch_and_lengths_unknown_give_the_same() -> None:
    """What a training step sees: every size a tensor, all rows of a batch of one and of three."""
    config = make_config("utterance after all")
    layer = make_layer(config)
    unknown = [tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.int32)]
    dynamic = tf.function(lambda batch, lengths: layer(batch, lengths), input_signature=unknown)
    for size in (1, 3):
        batch = noise(size * 5000).reshape(size, 5000)
        lengths = np.array([5000, 2000, 700][:size], np.int32)
        wanted = features(config, batch, lengths)
        np.testing.assert_allclose(np.asarray(dynamic(batch, lengths)), wanted, atol=1e-3)


def test_compiled_by_xla_gives_the_same() -> None:
    config = make_config("utterance after all")
    layer, clip = make_layer(config), noise(8000)
    compiled = tf.function(lambda waveform: layer(waveform), jit_compile=True)
    assert distance(np.asarray(compiled(clip[None]))[0], features(config, clip)) <= 2 * SAME


# --- the layer --------------------------------------------------------------------------------


def test_change_log_mel_sees_and_changes_the_log_mel_energies() -> None:
    config = FeatureConfig(normalisation="none", num_coefficients=13, deltas=1)
    bands = dataclasses.replace(config, num_coefficients=0, deltas=0)
    seen = []

    def change(log_mel: Any) -> Any:
        seen.append(ops.convert_to_numpy(log_mel))
        return log_mel + 1.0

    clip = noise(3000)
    changed = make_layer(config)(clip[None], change_log_mel=change)[0]
    np.testing.assert_allclose(seen[0][0], features(bands, clip), atol=1e-5)
    difference = ops.convert_to_numpy(changed) - features(config, clip)
    np.testing.assert_allclose(difference[:, 0], math.sqrt(40), rtol=1e-5)
    np.testing.assert_allclose(difference[:, 1:], 0, atol=1e-4)


def test_half_precision_elsewhere_leaves_the_front_end_in_float32() -> None:
    clip = noise(3000)
    wanted = features(FeatureConfig(normalisation="none"), clip)
    kept = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        found = MFCC(FeatureConfig(normalisation="none"))(clip[None])
    finally:
        keras.config.set_dtype_policy(kept)
    np.testing.assert_array_equal(ops.convert_to_numpy(found)[0], wanted)


def test_keras_saves_and_loads_the_layer(tmp_path: Path) -> None:
    layer = MFCC(FeatureConfig(num_coefficients=13, deltas=1))
    layer.set_statistics(np.full(26, 2.0, "f"), np.full(26, 3.0, "f"))
    model = keras.Sequential([keras.Input((None,)), layer])
    assert model.output_shape == (None, None, 26)
    model.save(tmp_path / "model.keras")
    clip = noise(3000)[None]
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(clip), model(clip))


def test_nothing_in_the_layer_is_trained() -> None:
    assert MFCC(FeatureConfig()).trainable_variables == []


def test_a_waveform_without_a_batch_axis_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got shape \(400,\), expected \[batch, samples\]"):
        MFCC(FeatureConfig())(np.zeros(400, np.float32))


def test_length_mask_marks_what_lies_within() -> None:
    mask = ops.convert_to_numpy(length_mask(np.array([0, 2, 9]), 3))
    assert mask.tolist() == [[False] * 3, [True, True, False], [True] * 3]


# --- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "expected_text"),
    [
        ("sample_rate_hz", 0, "more than 0"),
        ("sample_rate_hz", 16000.0, "a whole number"),
        ("sample_rate_hz", True, "a whole number"),
        ("window_ms", 0.0, "at least one sample"),
        ("window_ms", math.inf, "a finite number"),
        ("window_ms", "25", "a finite number"),
        ("hop_ms", 0.01, "at least one sample"),
        ("hop_ms", math.nan, "a finite number"),
        ("fft_length", 400, "a power of two"),
        ("fft_length", 0, "a power of two"),
        ("fft_length", 256, "at least the window's 400 samples"),
        ("window_shape", "hanning", "one of 'hann', 'hamming', 'rectangular'"),
        ("num_mels", 0, "more than 0"),
        ("num_mels", 200, "fewer, or a longer fft_length: band 3 holds no FFT bin"),
        ("mel_scale", "bark", "one of 'htk', 'slaney'"),
        ("low_hz", 7600.0, "half of the sample rate"),
        ("low_hz", -1.0, "half of the sample rate"),
        ("high_hz", 8001.0, "0 <= low < high <= 8000"),
        ("num_coefficients", 41, "0 to num_mels (40)"),
        ("num_coefficients", -1, "0 to num_mels (40)"),
        ("spectrum", "energy", "one of 'power', 'magnitude'"),
        ("log_floor", 0.0, "at least 1.2e-38"),
        ("log_floor", 1e-40, "at least 1.2e-38"),
        ("lifter", -1, "0 or more"),
        ("pre_emphasis", 1.0, "0 <= a < 1"),
        ("deltas", 3, "one of 0, 1, 2"),
        ("deltas", True, "one of 0, 1, 2"),
        ("normalisation", "batch", "one of 'none', 'utterance', 'training'"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_what_is_expected(
    key: str, value: Any, expected_text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        FeatureConfig(**{key: value})
    message = str(caught.value)
    assert message.startswith("features.")
    assert key in message.partition(": got ")[0]
    assert repr(value) in message
    assert expected_text in message


def test_an_unknown_setting_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"features\.n_mels: unknown setting; .*num_mels"):
        from_mapping(FeatureConfig, {"n_mels": 40}, "features")


def test_a_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FeatureConfig().num_mels = 20  # type: ignore[misc]


def test_a_config_survives_plain_values() -> None:
    config = make_config("44.1 kHz")
    assert from_mapping(FeatureConfig, to_mapping(config), "features") == config


# --- the fingerprint --------------------------------------------------------------------------

CHANGES: dict[str, Any] = {
    "sample_rate_hz": 16001,
    "window_ms": 24.0,
    "hop_ms": 11.0,
    "fft_length": 1024,
    "window_shape": "hamming",
    "num_mels": 41,
    "mel_scale": "htk",
    "low_hz": 0.0,
    "high_hz": 7601.0,
    "num_coefficients": 39,
    "spectrum": "magnitude",
    "log_floor": 1e-7,
    "lifter": 22,
    "pre_emphasis": 0.97,
    "deltas": 1,
    "normalisation": "none",
}


def test_the_fingerprint_of_the_defaults_is_the_one_in_every_bundle() -> None:
    """If this fails, bundles trained so far no longer load: raise FRONT_END_VERSION, mean it, and
    flag "retrain needed" in the CHANGELOG."""
    assert FeatureConfig().fingerprint() == "61ff0c3ad33f01a3"


def test_every_setting_changes_the_fingerprint() -> None:
    assert list(CHANGES) == [field.name for field in dataclasses.fields(FeatureConfig)]
    found = [FeatureConfig(**{key: value}).fingerprint() for key, value in CHANGES.items()]
    assert len({FeatureConfig().fingerprint(), *found}) == len(CHANGES) + 1


def test_equal_configs_have_equal_fingerprints() -> None:
    whole = FeatureConfig(window_ms=25, low_hz=-0.0)
    fractional = FeatureConfig(window_ms=25.0, low_hz=0.0)
    assert whole == fractional
    assert whole.fingerprint() == fractional.fingerprint()
