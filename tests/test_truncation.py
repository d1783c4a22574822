"""Truncated backpropagation through time: the same values, and gradients that stop where said."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from model_fixtures import encoder_cases, randomise
from test_train import fit
from test_train import recipe as recipe_of_tones

from speechrnn import train
from speechrnn.config import read_preset
from speechrnn.encoders import ENCODERS
from speechrnn.encoders.truncation import truncate
from speechrnn.errors import ConfigError
from speechrnn.recipe import Recipe

tf = pytest.importorskip("tensorflow")

WIDTH, STEPS = 4, 8
LENGTHS = np.array([8, 5, 2])
RECURRENT = [case for case in encoder_cases() if hasattr(case.values[0].build_layer(), "run_layer")]
every_recurrent = pytest.mark.parametrize("config", RECURRENT)


def build(config: Any, num_steps: int | None = None) -> Any:
    layer = config.build_layer()
    layer(np.zeros((1, STEPS, WIDTH), np.float32))
    randomise(layer)
    if num_steps:
        truncate(layer, num_steps)
    return layer


def frames_and_mask(padding: int = 0) -> tuple[np.ndarray, np.ndarray]:
    frames = np.random.default_rng(0).standard_normal((3, STEPS, WIDTH)).astype(np.float32)
    mask = np.arange(STEPS) < LENGTHS[:, None]
    frames[~mask] = 0
    return np.pad(frames, ((0, 0), (0, padding), (0, 0))), np.pad(mask, ((0, 0), (0, padding)))


def outcome(layer: Any, frames: np.ndarray, mask: np.ndarray | None) -> list[np.ndarray]:
    """True vectors, and the gradients of all of them with respect to frames and variables.

    Step by step: that is faster than compiling for a few steps. Without dropout.
    """
    for inner in layer._flatten_layers():
        if isinstance(inner, keras.layers.Dropout):
            inner.rate = 0.0
    inputs = tf.constant(frames)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        encoded, kept = layer(inputs, frame_mask=mask, training=True)
        true = encoded if kept is None else ops.where(kept[..., None], encoded, 0.0)
        loss = ops.sum(ops.square(true))
    gradients = tape.gradient(loss, [inputs, *(v.value for v in layer.trainable_variables)])
    return [ops.convert_to_numpy(part) for part in (true, *gradients)]


@functools.cache
def exact(config: Any) -> list[np.ndarray]:
    return outcome(build(config), *frames_and_mask())


@every_recurrent
def test_truncation_longer_than_the_utterance_is_exact(config):
    for whole, cut in zip(
        exact(config), outcome(build(config, STEPS), *frames_and_mask()), strict=True
    ):
        # The same sums; a dense kernel may add a part of them in another order.
        np.testing.assert_allclose(cut, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "config", [case for case in RECURRENT if case.values[0].output_frames(STEPS) > 2]
)
def test_truncation_changes_gradients_and_no_value(config):
    whole, cut = exact(config), outcome(build(config, 2), *frames_and_mask())
    np.testing.assert_array_equal(cut[0], whole[0])
    assert max(np.abs(a - b).max() for a, b in zip(cut[1:], whole[1:], strict=True)) > 1e-3


@pytest.mark.parametrize("name", ["simple_rnn", "lstm", "gru"])
def test_a_truncated_gradient_does_not_depend_on_padding(name):
    config = ENCODERS.from_mapping({"type": name, "units": 3, "num_layers": 1})
    short = outcome(build(config, 3), *frames_and_mask())
    long = outcome(build(config, 3), *frames_and_mask(padding=5))
    np.testing.assert_allclose(long[1][:, :STEPS], short[1], rtol=1e-5, atol=1e-5)
    for one, other in zip(long[2:], short[2:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def reached(name: str, num_steps: int, *, bidirectional: bool) -> np.ndarray:
    """Whether an error at a step (row) reaches the frame at a step (column)."""
    settings = {"type": name, "units": 3, "num_layers": 1, "bidirectional": bidirectional}
    layer = build(ENCODERS.from_mapping(settings), num_steps)

    frames = np.random.default_rng(1).standard_normal((1, STEPS, WIDTH)).astype(np.float32)
    inputs = tf.constant(np.repeat(frames, STEPS, axis=0))  # a row for the error at each step
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        encoded, _ = layer(inputs, training=True)
        errors = tf.linalg.diag_part(tf.reduce_sum(encoded, axis=2))
    return np.abs(tape.gradient(errors, inputs).numpy()).max(axis=-1) > 0


@pytest.mark.parametrize("num_steps", [1, 3, 5])
@pytest.mark.parametrize("name", ["simple_rnn", "lstm", "gru"])
def test_an_error_reaches_back_to_the_last_border_and_no_further(name, num_steps):
    error, frame = np.mgrid[:STEPS, :STEPS]
    forwards = (frame <= error) & (frame // num_steps == error // num_steps)
    np.testing.assert_array_equal(reached(name, num_steps, bidirectional=False), forwards)
    from_end = STEPS - 1 - frame, STEPS - 1 - error
    backwards = (frame >= error) & (from_end[0] // num_steps == from_end[1] // num_steps)
    both = reached(name, num_steps, bidirectional=True)
    np.testing.assert_array_equal(both, forwards | backwards)


def test_the_truncated_gradient_of_a_simple_rnn_is_that_of_a_loop_in_numpy():
    """dL/dU of ``h[t] = tanh(x[t] W + h[t-1] U + b)`` with ``L = sum of all h``, by hand."""
    settings = {"type": "simple_rnn", "units": 3, "num_layers": 1, "bidirectional": False}
    layer = build(ENCODERS.from_mapping(settings), 4)
    frames, _ = frames_and_mask()
    kernel, recurrent, bias = (
        np.asarray(v, float) for v in layer.recurrent[0].cell.trainable_variables
    )
    states = [np.zeros((3, 3))]
    for step in range(STEPS):
        states.append(np.tanh(frames[:, step] @ kernel + states[-1] @ recurrent + bias))
    expected, error = np.zeros_like(recurrent), np.zeros((3, 3))
    for step in reversed(range(STEPS)):
        inner = (error + 2 * states[step + 1]) * (1 - states[step + 1] ** 2)
        expected += states[step].T @ inner
        error = inner @ recurrent.T if step % 4 else np.zeros((3, 3))
    found = outcome(layer, frames, None)
    np.testing.assert_allclose(found[3], expected, rtol=1e-4, atol=1e-5)  # float32 sums


def test_truncation_leaves_answering_alone():
    config = ENCODERS.from_mapping({"type": "gru", "units": 5, "num_layers": 1})
    frames, mask = frames_and_mask()
    plain, cut = build(config), build(config, 2)
    np.testing.assert_array_equal(plain(frames, mask)[0], cut(frames, mask)[0])


def recipe(**changed: Any) -> Recipe:
    sections = read_preset("commands")
    for name, section in changed.items():
        sections[name] = {**sections[name], **section}
    return Recipe.from_mapping(sections)


@pytest.mark.parametrize("name", ENCODERS.names())
def test_truncation_is_for_encoders_with_recurrence(name: str):
    sections = {**read_preset("commands"), "encoder": {"type": name}}
    sections["train"]["truncation_s"] = 0.5
    if hasattr(ENCODERS.from_mapping({"type": name}).build_layer(), "run_layer"):
        assert Recipe.from_mapping(sections).train.truncation_s == 0.5
    else:
        with pytest.raises(ConfigError, match=rf"^train.truncation_s: got 0.5 .*\({name}\)"):
            Recipe.from_mapping(sections)


def test_a_negative_truncation_is_refused():
    with pytest.raises(ConfigError, match=r"^train.truncation_s: got -1.0, expected 0 or more"):
        recipe(train={"truncation_s": -1.0})


def test_a_training_truncates_after_as_many_steps_as_the_setting_lasts(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = []
    monkeypatch.setattr(train, "truncate", lambda encoder, num_steps: found.append(num_steps))
    tiny = recipe_of_tones(epochs=1, truncation_s=0.1)
    fit(tiny_data, tmp_path / "b", tiny)
    assert found == [10]  # of 10 ms
    longest = tiny.model.num_steps(int(0.4 * tiny.model.features.sample_rate_hz))
    assert math.ceil(0.4 / tiny.model.clock.step_s) >= longest  # so the length itself is exact
