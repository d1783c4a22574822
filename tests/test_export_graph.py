"""The exported graph's own front end and recurrent loops, against those that were trained."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from model_fixtures import noise, sweep

from speechrnn.errors import ExportError
from speechrnn.export.front_end import can_factor, log_mel
from speechrnn.export.graph import STEPS, run_in_loop
from speechrnn.features import MFCC, FeatureConfig

FEATURES: dict[str, dict[str, Any]] = {
    "default": {},
    "commands": {"log_floor": 1e-8},
    "magnitude": {"spectrum": "magnitude"},
    "pre-emphasis": {"pre_emphasis": 0.97},
    "htk-13": {"mel_scale": "htk", "num_mels": 23, "num_coefficients": 13},
    "rectangular": {"window_shape": "rectangular", "window_ms": 32.0},
    "long": {"fft_length": 1024, "hop_ms": 20.0},
    "8-kHz": {"sample_rate_hz": 8000, "fft_length": 256, "high_hz": 3800.0, "num_mels": 20,
              "num_coefficients": 12},
}  # fmt: skip
# Nothing, less than a frame, a frame, a sample before and behind a second one, and longer.
LENGTHS = (1, 320, 400, 559, 560, 8001, 24001)


@pytest.mark.parametrize("settings_", FEATURES.values(), ids=list(FEATURES))
@pytest.mark.parametrize("make", [sweep, noise])
def test_the_factored_transform_gives_the_log_mel_energies_that_were_trained_with(settings_, make):
    config = FeatureConfig(**settings_)
    trained = MFCC(config)
    assert can_factor(config)
    for length in LENGTHS:
        waveform = make(length)[None]
        expected = np.asarray(trained.log_mel(waveform))
        actual = log_mel(config, tf.constant(waveform)).numpy()
        assert actual.shape == expected.shape
        # Sums in float32, of which each is as far from the truth as from the other.
        np.testing.assert_allclose(actual, expected, atol=5e-4)
        assert np.abs(actual - expected).mean() < 5e-6


def test_silence_is_at_the_floor():
    config = FeatureConfig()
    found = log_mel(config, tf.zeros([1, 16000])).numpy()
    np.testing.assert_array_equal(found, np.full((1, 98, 40), np.log(np.float32(1e-6))))


@given(samples=st.integers(1, 3000))
@settings(max_examples=30, deadline=None)
def test_as_many_frames_as_the_front_end_says(samples: int):
    config = FeatureConfig()
    found = log_mel(config, tf.constant(noise(samples)[None]))
    assert found.shape == (1, config.num_frames(samples), config.num_mels)


@pytest.mark.parametrize(
    "settings_",
    [{"hop_ms": 7.5, "window_ms": 30.0}, {"sample_rate_hz": 44100, "fft_length": 2048}],
)
def test_hops_without_a_common_run_are_left_to_the_interpreter_s_transform(settings_):
    assert not can_factor(FeatureConfig(**settings_))


# ------------------------------------------------------------------ recurrent loops


def recurrent_layer(kind: type, two_ways: bool, units: int = 6, **settings_: Any) -> keras.Layer:
    """Built, with random weights everywhere."""
    layer = kind(units, return_sequences=True, **settings_)
    if two_ways:
        layer = keras.layers.Bidirectional(layer)
    layer(np.zeros((1, 3, 5), np.float32))
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(0, 0.5, w.shape).astype(np.float32) for w in layer.get_weights()])
    return layer


@pytest.mark.parametrize("kind", [keras.layers.GRU, keras.layers.LSTM, keras.layers.SimpleRNN])
@pytest.mark.parametrize("two_ways", [False, True], ids=["one-way", "two-way"])
@pytest.mark.parametrize("length", [1, STEPS - 1, STEPS, STEPS + 1, 29])
def test_the_loop_computes_what_keras_computes(kind, two_ways, length):
    layer = recurrent_layer(kind, two_ways)
    frames = np.random.default_rng(1).standard_normal((1, length, 5)).astype(np.float32)
    expected = np.asarray(layer(frames))
    actual = run_in_loop(layer, tf.constant(frames), None, False).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: keras.layers.Dense(3), "is a Dense, expected one of GRU, LSTM, SimpleRNN"),
        (lambda: recurrent_layer(keras.layers.GRU, False, reset_after=False), "reset gate"),
        (lambda: recurrent_layer(keras.layers.GRU, False, activation="relu"), "tanh and sigmoid"),
        (lambda: recurrent_layer(keras.layers.LSTM, False, use_bias=False), "with biases"),
        (
            lambda: keras.layers.Bidirectional(
                keras.layers.GRU(3, return_sequences=True), merge_mode="sum"
            ),
            "merge_mode is 'sum', expected 'concat'",
        ),
    ],
)
def test_a_layer_that_it_does_not_know_is_refused(make, words):
    layer = make()
    frames = np.zeros((1, 4, 5), np.float32)
    layer(frames)
    with pytest.raises(ExportError, match=words):
        run_in_loop(layer, tf.constant(frames), None, False)


def test_a_mask_is_refused():
    layer = recurrent_layer(keras.layers.GRU, False)
    with pytest.raises(ExportError, match="without a mask"):
        run_in_loop(layer, tf.zeros([1, 4, 5]), tf.ones([1, 4], bool), False)
