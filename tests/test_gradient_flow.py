"""How far back errors reach: against loops by hand, in a training's log, and from the command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import stop_training
from model_fixtures import LABELS, encoder_cases, randomise, shared_bundle
from test_checkpoint import outcome
from test_train import example, fit
from test_train import recipe as recipe_of_tones

from speechrnn.bundle import read_log
from speechrnn.datasets.manifest import read_data, split_by_speaker
from speechrnn.diagnose import settle
from speechrnn.encoders import ENCODERS
from speechrnn.gradient_monitor import GradientMonitor
from speechrnn.gradient_rates import (
    STEEPEST_FALL,
    STEEPEST_RISE,
    fitted_rate,
    flow_of,
    verdict,
)
from speechrnn.heads import HEADS
from speechrnn.model import ModelConfig, SpeechModel, build_model
from speechrnn.recipe import Recipe
from speechrnn.train import TrainResult, train_model

pytest.importorskip("tensorflow")

from speechrnn.gradient_flow import GradientFlow

FEATURES = {"sample_rate_hz": 8000, "fft_length": 256, "num_mels": 16, "high_hz": 3800.0,
            "num_coefficients": 6}  # fmt: skip


def model_of(encoder: dict[str, Any], head: str = "classification") -> SpeechModel:
    sections = {"features": FEATURES, "encoder": encoder, "head": {"type": head}}
    return randomise(build_model(ModelConfig.from_mapping(sections), LABELS))


def sound(num_frames: int, rows: int = 2) -> dict[str, np.ndarray]:
    num_samples = 200 + 80 * (num_frames - 1)
    waveform = 0.1 * np.random.default_rng(0).standard_normal((rows, num_samples))
    lengths = np.full(rows, num_samples, np.int32)
    return {"waveform": waveform.astype(np.float32), "num_samples": lengths}


# ------------------------------------------------------------------ rates


@pytest.mark.parametrize("rate", [-2.0, -0.3, 0.0, 0.25])
def test_the_rate_of_a_geometric_series_is_its_exponent(rate: float):
    assert fitted_rate(5 * 10 ** (rate * np.arange(12))) == pytest.approx(rate, abs=1e-9)


def test_a_rate_does_not_count_what_float32_cannot_hold():
    norms = 10 ** (-0.5 * np.arange(200))
    norms[norms < 1e-38] = 0
    assert fitted_rate(norms) == pytest.approx(-0.5, abs=1e-9)


def test_where_nothing_arrives_or_too_much_the_rate_is_the_steepest():
    assert fitted_rate(np.array([1.0, 0.0, 0.0])) == STEEPEST_FALL
    assert fitted_rate(np.array([1.0, np.inf, np.nan])) == STEEPEST_RISE
    assert fitted_rate(np.array([1.0, 0.9, 0.5, 0.4, 0.0, 0.0])) == STEEPEST_FALL


def test_a_verdict_is_about_rate_and_length():
    assert verdict(-0.1, 25) == "holds"
    assert verdict(-0.1, 100) == "vanishes"
    assert verdict(0.02, 100) == "holds"
    assert verdict(0.02, 1000) == "explodes"
    assert verdict(STEEPEST_FALL, 3) == "ends"


def test_rows_of_other_lengths_are_counted_from_their_ends():
    norms = np.array([[1.0, 2, 4, 8], [2.0, 4, 99, 99]])
    flow = flow_of("layer", norms, np.array([4, 2]))
    np.testing.assert_allclose(flow.norms, [6, 3, 2, 1])  # where there are two rows, their mean
    assert flow.rate == pytest.approx(-np.log10(2))  # two steps are too few for one of the second


# ------------------------------------------------------------------ the gradient


def test_the_flow_of_a_simple_rnn_is_the_product_of_its_jacobians():
    """``dL/dh[t] = dL/dh[T] * product of diag(1 - h^2) U^T``: by hand, for one row and layer."""
    encoder = {"type": "simple_rnn", "units": 4, "num_layers": 1, "bidirectional": False}
    model = model_of(encoder)
    inputs = sound(9, rows=1)
    (flow,) = GradientFlow(model).measure(inputs)
    frames = model.front_end(inputs["waveform"], inputs["num_samples"])
    states = np.asarray(model.encoder(frames)[0][0], float)
    cell = model.encoder.recurrent[0].cell
    back = np.asarray(cell.recurrent_kernel, float).T
    jacobian, products = np.eye(4), [np.eye(4)]
    for state in states[:0:-1]:
        jacobian = jacobian @ np.diag(1 - state**2) @ back
        products.append(jacobian)
    import tensorflow as tf

    last = tf.constant(states[None, -1:], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(last)
        loss = -tf.nn.log_softmax(model.head(last))[0, 0]
    error = np.asarray(tape.gradient(loss, last), float)[0, 0]
    expected = [np.linalg.norm(error @ product) for product in products]
    np.testing.assert_allclose(flow.norms, expected, rtol=1e-3)  # float32, from 1 to 1e-6


@pytest.mark.parametrize(
    ("name", "head"),
    [
        *((name, "classification") for name in ENCODERS.names()),
        *(("gru", h) for h in HEADS.names()),
    ],
)
def test_every_encoder_and_every_head_has_a_flow(name: str, head: str):
    config = next(c.values[0] for c in encoder_cases() if c.id.startswith(f"{name}-"))
    model = model_of(ENCODERS.to_mapping(config), head)
    before = [np.asarray(weight) for weight in model.weights]
    inputs = sound(12)
    flows = GradientFlow(model).measure(inputs)
    assert flows
    assert len({flow.layer for flow in flows}) == len(flows)
    for flow in flows:
        assert len(flow.norms) == config.output_frames(12)
        assert np.isfinite(flow.norms).all()
        assert flow.norms[0] > 0
    for weight, then in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(np.asarray(weight), then)


def test_the_last_true_step_is_where_the_loss_is():
    """Padding adds nothing: a row in a padded batch has the flow of the row alone."""
    model = model_of({"type": "gru", "units": 4, "num_layers": 2})
    alone, padded = sound(10), sound(15)
    padded["waveform"][:, : alone["waveform"].shape[1]] = alone["waveform"]
    padded["num_samples"] = alone["num_samples"]
    measured = GradientFlow(model)
    for one, other in zip(measured.measure(alone), measured.measure(padded), strict=True):
        np.testing.assert_allclose(other.norms, one.norms, rtol=1e-4)  # float32


def test_a_contracting_recurrence_vanishes_and_an_expanding_one_explodes():
    encoder = {"type": "simple_rnn", "units": 6, "num_layers": 1, "bidirectional": False}
    model = model_of(encoder)
    cell = model.encoder.recurrent[0].cell
    cell.kernel.assign(np.zeros(cell.kernel.shape))
    cell.bias.assign(np.zeros(cell.bias.shape))  # the state stays 0, where tanh is the identity
    flow = GradientFlow(model)
    for gain in (0.5, 1.0, 2.0):
        cell.recurrent_kernel.assign(gain * np.eye(6))
        (found,) = flow.measure(sound(20))
        assert found.rate == pytest.approx(np.log10(gain), abs=1e-3)


def test_an_error_ends_where_a_convolution_does():
    model = model_of({"type": "ds_cnn", "width": 8, "num_layers": 2})
    for flow in GradientFlow(model).measure(sound(60)):
        assert flow.rate == STEEPEST_FALL
        assert not flow.norms[-1]


def test_first_weights_are_measured_with_the_statistics_of_a_first_batch():
    """Then a pass as in training, but for dropout, and one as afterwards are the same."""
    encoder = {"type": "gru", "units": 4, "num_layers": 1, "spectral_filters": 4, "dropout": 0.0}
    sections = {"features": FEATURES, "encoder": encoder, "head": {"type": "classification"}}
    model = build_model(ModelConfig.from_mapping(sections), LABELS)
    waveforms = sound(40, rows=4)["waveform"]
    frames = model.front_end(waveforms)
    before = np.asarray(model.encoder(frames, training=False)[0])
    settle(model, waveforms)
    after = np.asarray(model.encoder(frames, training=False)[0])
    assert np.abs(after - before).max() > 0.01
    trained = np.asarray(model.encoder(frames, training=True)[0])
    np.testing.assert_allclose(after, trained, atol=1e-5)


# ------------------------------------------------------------------ while training


def test_rates_are_in_the_log_as_often_as_the_setting_says(tiny_data: Path, tmp_path: Path):
    chosen = recipe_of_tones(epochs=4, batch_size=99, gradient_flow_steps=2)  # one step an epoch
    log = read_log(fit(tiny_data, tmp_path / "b", chosen).bundle)
    measured = [entry["epoch"] for entry in log if "gradient_rate/bidirectional_0" in entry]
    assert measured == [2, 4]


@pytest.mark.heavy
def test_a_measured_training_learns_the_same_and_resumes_to_the_same_log(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def chosen(steps: int) -> Recipe:
        return recipe_of_tones(epochs=3, checkpoint_s=0.0, gradient_flow_steps=steps)

    silent = fit(tiny_data, tmp_path / "silent", chosen(0))
    whole = fit(tiny_data, tmp_path / "whole", chosen(1))
    with monkeypatch.context() as patched:
        stop_training(patched, after=2, error=RuntimeError)
        with pytest.raises(RuntimeError, match="stopped by the test"):
            fit(tiny_data, tmp_path / "b", chosen(1))
    resumed = train_again(tiny_data, tmp_path / "b", chosen(1))
    assert outcome(resumed.bundle) == outcome(whole.bundle)
    assert "gradient_rate/bidirectional_0" in read_log(whole.bundle)[-1]
    assert outcome(silent.bundle)[0] == outcome(whole.bundle)[0]


def train_again(data: Path, out: Path, chosen: Recipe) -> TrainResult:
    train_rows, val_rows = split_by_speaker(read_data(data), 0.3)
    names = {"data_name": "tones", "val_name": "others"}
    return train_model(chosen, train_rows, val_rows, out, resume=True, **names)


def monitor(encoder: dict[str, Any], **train: Any) -> GradientMonitor:
    return GradientMonitor(
        model_of(encoder), recipe_of_tones(**train).train, [example(num_samples=8000)]
    )


def log_of(*rates: float) -> list[dict[str, Any]]:
    return [
        {"epoch": 1 + i, "val_accuracy": 0.5, "gradient_rate/gru_0": rate}
        for i, rate in enumerate(rates)
    ]


PLAIN = {"type": "simple_rnn", "units": 4, "num_layers": 1}


def test_two_measurements_that_agree_make_one_warning():
    chosen = monitor(PLAIN)
    assert chosen.warning([]) is None
    assert chosen.warning(log_of(-0.9)) is None
    assert "an error vanishes in gru_0" in (chosen.warning(log_of(-0.9, -0.8)) or "")
    assert chosen.warning(log_of(-0.9, -0.8, -0.9)) is None
    assert chosen.warning(log_of(-0.9, 0.0, -0.9)) is None
    assert chosen.warning([*log_of(-0.9, -0.8), {"epoch": 3}]) is None


@pytest.mark.parametrize(
    ("rate", "encoder", "train", "remedies"),
    [
        (-0.9, {}, {}, ["gating", "normalisation", "fewer steps"]),
        (-0.9, {"type": "gru", "layer_norm": True}, {}, ["fewer steps"]),
        (0.9, {}, {"gradient_clip_norm": 0.0}, ["clipping", "gating", "shorter truncation"]),
        (0.9, {"type": "lstm"}, {}, ["normalisation", "shorter truncation"]),
        (-0.9, {"type": "mhatt_rnn", "units": 4, "num_layers": 2}, {}, ["fewer steps"]),
        (-0.9, {"type": "transformer", "width": 8, "num_heads": 2}, {}, ["fewer steps"]),
    ],
)
def test_a_warning_names_what_is_not_yet_done(
    rate: float, encoder: dict[str, Any], train: dict[str, Any], remedies: list[str]
):
    watching = monitor(encoder if "num_heads" in encoder else {**PLAIN, **encoder}, **train)
    line = watching.warning(log_of(rate, rate)) or ""
    for setting in re.findall(r"encoder\.(\w+)", line):
        assert setting == "type" or hasattr(watching._model.config.encoder, setting)
    every = ["clipping", "gating", "normalisation", "shorter truncation", "fewer steps"]
    named = [remedy for remedy in every if remedy in line]
    assert set(remedies) <= set(named)
    assert "\n" not in line
    assert ("gating" in named) == (encoder.get("type", "simple_rnn") == "simple_rnn")
    assert ("clipping" in named) == (train.get("gradient_clip_norm") == 0.0)


# ------------------------------------------------------------------ the command


def test_a_bundle_is_measured_before_and_after(run_cli: Callable, tmp_path: Path):
    out = tmp_path / "out"
    result = run_cli(
        "diagnose", "gradients", shared_bundle("two-way"), "--frames", 12, 30, "--output", out
    )
    assert result.status == 0, result.err
    found = json.loads((out / "gradients.json").read_text())
    assert (out / "gradients.png").read_bytes().startswith(b"\x89PNG")
    cases = [(one["weights"], one["frames"], one["steps"]) for one in found["measurements"]]
    assert cases == [
        ("initial", 12, 6),
        ("initial", 30, 15),
        ("trained", 12, 6),
        ("trained", 30, 15),
    ]
    layers = [layer for one in found["measurements"] for layer in one["layers"]]
    assert {layer["layer"] for layer in layers} == {"bidirectional_0"}
    assert len({layer["decades_per_step"] for layer in layers}) == 4
    assert all(layer["verdict"] in ("vanishes", "explodes", "holds") for layer in layers)
    assert result.out.count("bidirectional_0") == 4


def test_where_an_error_ends_it_is_said_instead_of_a_rate(run_cli: Callable, tmp_path: Path):
    narrow = ("--set=encoder.width=8", "--set=encoder.num_layers=2", "--frames", 60)
    out = tmp_path / "out"
    result = run_cli("diagnose", "gradients", "--encoder", "ds_cnn", *narrow, "--output", out)
    assert result.status == 0, result.err
    assert "none of it beyond" in result.out
    (one,) = json.loads((out / "gradients.json").read_text())["measurements"]
    assert {(layer["verdict"], layer["decades_per_step"]) for layer in one["layers"]} == {
        ("ends", None)
    }


def test_an_encoder_is_measured_on_recordings(run_cli: Callable, tiny_data: Path):
    plain = ("encoder.units=4", "encoder.spectral_filters=0", "encoder.spectral_blocks=0")
    settings = [f"--set={setting}" for setting in plain]
    result = run_cli(
        "diagnose", "gradients", "--encoder", "lstm", *settings, "--frames", 40, "--json", "-",
        "--data", tiny_data,
    )  # fmt: skip
    assert result.status == 0, result.err
    found = json.loads(result.out)
    assert found["encoder"]["units"] == 4
    assert found["measurements"][0]["steps"] == 40
    for layer in found["measurements"][0]["layers"]:
        rate = fitted_rate(np.array(layer["norms"]))
        assert layer["decades_per_step"] == pytest.approx(rate, rel=0.2)  # a median of rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "got neither, expected a BUNDLE or --encoder NAME"),
        (("b", "--encoder", "gru"), "got both, expected a BUNDLE or --encoder NAME"),
        (("--encoder", "foo"), "encoder.type: got 'foo', expected one of bc_resnet, ds_cnn, gru"),
        (("missing",), "missing: no such bundle"),
        (("--encoder", "gru", "--frames", "5"), "--frames 5: expected 9 to 1000"),
        (("--encoder", "gru", "--frames", "1001"), "--frames 1001: expected 9 to 1000"),
        (("--encoder", "gru", "--set", "encoder.cells=3"), "encoder.cells: unknown setting"),
        (("b", "--set", "encoder.units=3"), "b: a bundle brings its settings"),
    ],
)
def test_a_wrong_call_is_one_line(run_cli: Callable, arguments: tuple[str, ...], message: str):
    result = run_cli("diagnose", "gradients", *arguments)
    assert result.status == 2
    assert message in result.err
    assert result.err.count("\n") == 1


def test_a_tflite_is_refused_with_what_is_wanted_instead(run_cli: Callable, tmp_path: Path):
    file = tmp_path / "m.tflite"
    file.write_bytes(b"not looked into")
    result = run_cli("diagnose", "gradients", file)
    assert result.status == 2
    assert f"{file}: is a file, and gradients need what was trained; expected the bundle" in (
        result.err
    )
