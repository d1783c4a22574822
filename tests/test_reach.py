"""How far back an encoder remembers: closed forms, and the command."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_fixtures import LABELS, encoder_cases, shared_bundle

from speechrnn.diagnose import NUM_ROWS
from speechrnn.diagnose_commands import _two_sounds
from speechrnn.encoders import ENCODERS
from speechrnn.features import FeatureConfig
from speechrnn.heads import HEADS
from speechrnn.model import ModelConfig, build_model
from speechrnn.reach import LONGEST_S, STILL, Reach, measure_reach, reach_of

WIDTH, FRAMES, LONGEST = 64, 300, 150
# Few frames to a second, because there are ten.
FEATURES = {"sample_rate_hz": 8000, "window_ms": 50.0, "hop_ms": 40.0, "fft_length": 512,
            "num_mels": 16, "high_hz": 3800.0, "num_coefficients": 16}  # fmt: skip
HEAD = {"type": "classification"}


def reach(last: Callable[[np.ndarray], Any], longest: int = LONGEST) -> Reach:
    rng = np.random.default_rng(0)
    own, other = 0.01 * rng.standard_normal((2, 8, FRAMES, WIDTH)).astype(np.float32)
    return reach_of(lambda frames: np.asarray(last(frames)), own, other, longest)


def last_of(encoder: dict[str, Any]) -> Callable[[np.ndarray], Any]:
    layer = ENCODERS.from_mapping(encoder).build_layer()
    return tf.function(lambda frames: layer(frames, training=False)[0][:, -1], autograph=False)


def leaky(kept: float) -> Callable[[np.ndarray], Any]:
    """A simple recurrent encoder of integrators that each keep so much of what they hold."""
    config = {"type": "simple_rnn", "units": WIDTH, "num_layers": 1, "bidirectional": False}
    layer = ENCODERS.from_mapping(config).build_layer()
    layer(np.zeros((1, 1, WIDTH), np.float32))
    eye = np.eye(WIDTH)  # what comes in is so small that tanh leaves it as it is
    layer.recurrent[0].set_weights([eye, kept * eye, np.zeros(WIDTH)])
    return tf.function(lambda frames: layer(frames)[0][:, -1], autograph=False)


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.97])
def test_an_integrator_reaches_until_a_tenth_is_left(kept: float):
    found = reach(leaky(kept))
    # Norms of 512 drawn values differ by 3 %, which is a step or two where each takes as much.
    assert found.frames == pytest.approx(math.log(STILL) / math.log(kept), abs=1, rel=0.03)
    for distance in (1, 2, 4, 8):
        assert found.shares[distance] == pytest.approx(kept**distance, rel=0.1)


@pytest.mark.parametrize(("kernel", "seen"), [(1, 1), (7, 7), (40, 40)])
def test_a_convolution_reaches_as_far_as_its_kernel(kernel: int, seen: int):
    """Before the last ``seen - 1`` frames there is still one that it sees, the first."""
    layer = keras.layers.Conv1D(16, kernel, kernel_initializer="glorot_normal")
    found = reach(lambda frames: layer(frames)[:, -1])
    assert found.frames == seen - 1
    assert all(share == 0 for distance, share in found.shares.items() if distance >= seen)


def test_a_mean_over_everything_reaches_everything():
    found = reach(lambda frames: frames.mean(axis=1))
    assert found.frames == LONGEST
    # Of the frames half are exchanged, and so half the variance is another.
    assert found.shares[LONGEST] == pytest.approx(math.sqrt(0.5), rel=0.15)


def test_attention_reaches_everything_and_the_last_frame_alone_nothing():
    attention = {"type": "transformer", "width": 16, "num_layers": 1, "num_heads": 2}
    assert reach(last_of(attention)).frames == LONGEST
    assert reach(lambda frames: frames[:, -1]).frames == 0
    assert reach(lambda frames: 0 * frames[:, -1]) == Reach(0, {})
    assert reach(lambda frames: 1e4 + frames[:, 0]) == Reach(0, {}), "rounding is no change"


def test_every_distance_is_found_exactly():
    """Of a step that repeats the frame so far back; also where it is the longest."""
    for frames in range(1, 40):
        found = reach(lambda heard, back=frames: heard[:, -1 - back], longest=39)
        assert found.frames == frames


@pytest.mark.parametrize("name", ENCODERS.names())
def test_every_encoder_has_a_reach(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("speechrnn.reach.LONGEST_S", 0.4)  # ten seconds take ten
    encoder = next(c.values[0] for c in encoder_cases() if c.id.startswith(name))
    features = FeatureConfig(**FEATURES)
    config = ModelConfig(features, encoder, HEADS.from_mapping(HEAD))
    keras.utils.set_random_seed(0)
    model = build_model(config, LABELS)  # as it begins: with wild weights, some units are all dead
    own, other = 0.1 * np.random.default_rng(0).standard_normal((2, 4, 8000)).astype(np.float32)
    found = measure_reach(model, own, other)
    assert 0 <= found.frames <= max(found.shares) == 400 / features.hop_ms
    assert found.shares[1] > 0, "each sees more than the last frame"


def test_the_command_says_how_far(run_cli: Callable, tiny_data: Path, tmp_path: Path):
    bundle, out = shared_bundle("two-way"), tmp_path / "reach.json"
    result = run_cli("diagnose", "reach", bundle, "--data", tiny_data, "--json", out)
    assert result.status == 0, result.err
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["model"] == str(bundle)
    assert 0 < found["reach_s"] <= found["longest_s"] == LONGEST_S
    assert found["shares"][-1][0] == LONGEST_S
    assert f"remembers {found['reach_s']:g} s" in result.out
    assert result.out.count("\n") == 1 + len(found["shares"])


def test_without_recordings_two_sounds_are_made():
    config = ModelConfig(
        FeatureConfig(**FEATURES), ENCODERS.from_mapping({"type": "gru"}), HEADS.from_mapping(HEAD)
    )
    one, other = _two_sounds(argparse.Namespace(data=None, seed=3), config, 800)
    assert one.shape == other.shape == (NUM_ROWS, 800)
    assert not np.allclose(one, other)


def test_a_file_and_a_single_recording_are_refused(
    run_cli: Callable, tiny_data: Path, tmp_path: Path
):
    file, one = tmp_path / "m.tflite", tmp_path / "one.jsonl"
    file.write_bytes(b"not looked into")
    recording = next(tiny_data.rglob("*.wav"))
    one.write_text(json.dumps({"audio_filepath": str(recording), "duration": 1, "text": "go"}))
    for arguments, message in (
        ((file,), f"{file}: is a file, and the reach is of what was trained; expected the bundle"),
        ((shared_bundle("two-way"), "--data", one), "has 1 recording, expected 2 or more"),
    ):
        result = run_cli("diagnose", "reach", *arguments)
        assert result.status == 2
        assert message in result.err
        assert result.err.count("\n") == 1
