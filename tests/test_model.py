import json
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from model_fixtures import (
    ENCODER_SETTINGS,
    HEAD_SETTINGS,
    HEAD_TEXTS,
    LABELS,
    MODELS,
    make_model,
    noise,
    save,
    shared_bundle,
    shared_model,
    shared_recognizer,
    shared_serve,
    sweep,
)

from speechrnn.bundle import read_bundle
from speechrnn.encoders import ENCODERS
from speechrnn.errors import ConfigError
from speechrnn.heads import HEADS
from speechrnn.model import ModelConfig, build_model

# Whole recordings, one shorter than a frame, of no common length.
NUM_SAMPLES = np.array([9000, 320, 5203, 12000], np.int32)
PADDED = 14400
# A probability or logit after some hundred float32 operations, in another order.
TOLERANCE = 5e-5


some_model = pytest.mark.parametrize("name", sorted(MODELS))


def recordings() -> list[np.ndarray]:
    return [sweep(size, seed=i) + noise(size, i) for i, size in enumerate(NUM_SAMPLES)]


def padded_with_junk() -> np.ndarray:
    waveform = np.random.default_rng(9).uniform(-1, 1, (len(NUM_SAMPLES), PADDED))
    for row, recording in zip(waveform, recordings(), strict=True):
        row[: len(recording)] = recording
    return waveform.astype(np.float32)


def logits_of(model: Any, waveform: np.ndarray, num_samples: Any, training: bool = False) -> Any:
    batch = {"waveform": waveform, "num_samples": np.asarray(num_samples, np.int32)}
    if training:
        return ops.convert_to_numpy(model(batch, training=True))
    return model.predict_on_batch(batch)  # compiled once a model


@some_model
def test_a_recording_padded_with_junk_among_others_equals_the_recording_alone(name):
    model = shared_model(name)
    together = logits_of(model, padded_with_junk(), NUM_SAMPLES)
    for row, recording in enumerate(recordings()):
        alone = logits_of(model, recording[None], [len(recording)])
        true = together[row][: len(alone[0])]  # a step for each of its own, or one answer
        np.testing.assert_allclose(true, alone[0], rtol=0, atol=TOLERANCE)


@some_model
def test_the_comparison_with_alone_sees_a_forgotten_length(name):
    model = shared_model(name)
    forgotten = logits_of(model, padded_with_junk(), np.full_like(NUM_SAMPLES, PADDED))
    right = logits_of(model, padded_with_junk(), NUM_SAMPLES)
    shorter = NUM_SAMPLES < PADDED
    difference = np.abs(forgotten - right).reshape(len(right), -1).max(axis=1)
    assert (difference[shorter] > 100 * TOLERANCE).all()


@some_model
def test_serving_a_recording_gives_the_head_s_output_of_its_logits(name):
    model = shared_model(name)
    for recording in recordings():
        logits = logits_of(model, recording[None], [len(recording)])
        served = shared_serve(name)(recording[None])
        expected = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        if model.config.head.output_name == "probabilities":
            expected = np.exp(expected)
        np.testing.assert_allclose(served, expected, rtol=0, atol=TOLERANCE)


@some_model
def test_serving_several_recordings_of_one_length_equals_serving_each(name):
    serve = shared_serve(name)
    waveforms = np.stack([sweep(5000, seed=seed) for seed in range(3)])
    together = serve(waveforms)
    each = [serve(row[None])[0] for row in waveforms]
    np.testing.assert_allclose(together, each, rtol=0, atol=TOLERANCE)


@some_model
def test_different_recordings_get_different_answers(name):
    model = shared_model(name)
    logits = logits_of(model, padded_with_junk(), NUM_SAMPLES)
    for i in range(len(logits)):
        for j in range(i):
            assert np.abs(logits[i] - logits[j]).max() > 100 * TOLERANCE


@some_model
def test_num_encoded_is_the_length_of_what_the_encoder_makes(name):
    model = shared_model(name)
    for recording in recordings():
        encoded, _ = model.encoder(model.front_end(recording[None]))
        assert encoded.shape[1] == model.config.num_steps(len(recording))
    found = ops.convert_to_numpy(model.config.num_steps(ops.convert_to_tensor(NUM_SAMPLES)))
    assert found.tolist() == [model.config.num_steps(int(size)) for size in NUM_SAMPLES]


def test_a_batch_loss_is_the_mean_of_the_rows_and_counts_only_that_batch():
    model = make_model(MODELS["two-way"])
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    x = {"waveform": padded_with_junk(), "num_samples": NUM_SAMPLES}
    texts = HEAD_TEXTS["classification"]
    y = {
        "targets": np.array([[LABELS.id_of(text)] for text in texts], np.int32),
        "num_targets": np.ones(len(texts), np.int32),
    }
    logits = logits_of(model, x["waveform"], NUM_SAMPLES)
    losses = ops.convert_to_numpy(model.config.head.loss(logits, None, y["targets"], None))
    right = logits.argmax(axis=-1) + 1 == y["targets"][:, 0]
    for _ in range(2):  # a second time, as the metrics are running means
        found = model.test_on_batch(x, y, return_dict=True)
        np.testing.assert_allclose(found["loss"], losses.mean(), rtol=1e-4)
        np.testing.assert_allclose(found["accuracy"], right.mean())


@pytest.mark.parametrize(("training", "iterations", "done"), [(True, 1, 0.25), (False, 1, 1.0)])
def test_the_loss_knows_how_much_of_the_training_is_over(training, iterations, done):
    head = {"type": "ctc", "placement": 0.5, "placement_end": 0.0}
    model = make_model({**MODELS["two-way"], "head": head})
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    model.training_steps = 4
    model.optimizer.iterations.assign(iterations)
    x = {"waveform": padded_with_junk(), "num_samples": NUM_SAMPLES}
    logits = model(x)
    one = np.ones(len(NUM_SAMPLES), np.int32)
    y = {"targets": one[:, None], "num_targets": one, "steps": np.ones(logits.shape[:2], np.int32)}
    num_encoded = model.config.num_steps(ops.convert_to_tensor(NUM_SAMPLES))
    expected = model.config.head.loss(logits, num_encoded, y["targets"], one, y["steps"], done)
    found = model.compute_loss(x, y, logits, training=training)
    assert float(found) == pytest.approx(float(ops.mean(expected)), rel=1e-5)


def test_augmentation_acts_in_training_and_never_in_evaluation_or_serving(tmp_path):
    model, calls = make_model(MODELS["two-way"]), []
    plain = logits_of(model, padded_with_junk(), NUM_SAMPLES)

    def change(log_mel: Any, seed: Any) -> Any:
        calls.append(type(seed))
        return log_mel + 5 * keras.random.normal(ops.shape(log_mel), seed=seed)

    model.change_log_mel = change
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    x = {"waveform": padded_with_junk(), "num_samples": NUM_SAMPLES}
    y = {"targets": np.ones((4, 1), np.int32), "num_targets": np.ones(4, np.int32)}
    np.testing.assert_array_equal(logits_of(model, **x), plain)
    model.serve(x["waveform"])
    model.predict_on_batch(x)
    model.test_on_batch(x, y)
    save(model, tmp_path / "bundle")
    assert calls == []
    assert read_bundle(tmp_path / "bundle").sha256 == read_bundle(shared_bundle("two-way")).sha256
    changed = logits_of(model, **x, training=True)
    assert calls == [keras.random.SeedGenerator]
    assert np.abs(changed - logits_of(model, **x, training=True)).max() > 1e-3
    model.train_on_batch(x, y)
    assert len(calls) > 2


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    config = ModelConfig.from_mapping(MODELS["one-way"])
    first, same, other = (
        [np.asarray(v) for v in build_model(config, LABELS, seed=seed).trainable_variables]
        for seed in (1, 1, 2)
    )
    for a, b in zip(first, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@some_model
def test_settings_survive_json(name):
    config = ModelConfig.from_mapping(MODELS[name])
    assert ModelConfig.from_mapping(json.loads(json.dumps(config.to_mapping()))) == config


@pytest.mark.parametrize("section", ["features", "encoder", "head"])
def test_a_missing_section_is_named(section):
    sections = {name: values for name, values in MODELS["two-way"].items() if name != section}
    with pytest.raises(ConfigError, match=rf"\[{section}\] is missing; expected features, enc"):
        ModelConfig.from_mapping(sections)


@pytest.mark.parametrize("encoder", sorted(ENCODER_SETTINGS))
@pytest.mark.parametrize("head", sorted(HEAD_SETTINGS))
def test_every_encoder_goes_with_every_head(encoder, head):
    sections = {
        "features": {"num_coefficients": 8, "normalisation": "utterance"},
        "encoder": {"type": encoder, **next(iter(ENCODER_SETTINGS[encoder].values()))},
        "head": {"type": head, **next(iter(HEAD_SETTINGS[head].values()))},
    }
    model = make_model(sections)
    assert np.isfinite(ops.convert_to_numpy(model.serve(sweep(4000)[None]))).all()
    assert isinstance(model.config.encoder, type(ENCODERS.from_mapping(sections["encoder"])))
    assert isinstance(model.config.head, type(HEADS.from_mapping(sections["head"])))


@pytest.mark.heavy
@pytest.mark.parametrize("encoder", sorted(ENCODER_SETTINGS))
@pytest.mark.parametrize("head", sorted(HEAD_SETTINGS))
def test_every_encoder_learns_with_every_head(encoder, head):
    sections = {
        "features": {"num_coefficients": 8, "normalisation": "utterance"},
        "encoder": {"type": encoder},
        "head": {"type": head},
    }
    model = build_model(ModelConfig.from_mapping(sections), LABELS, seed=1)
    model.compile(optimizer=keras.optimizers.Adam(2e-3), jit_compile=False)
    targets = [model.config.head.targets(text, LABELS) for text in ("no", "go", "yes", "العربية")]
    x = {"waveform": padded_with_junk(), "num_samples": np.maximum(NUM_SAMPLES, 4000)}
    y = {"targets": np.array(targets, np.int32), "num_targets": np.ones(4, np.int32)}
    losses = [model.train_on_batch(x, y, return_dict=True)["loss"] for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]


# ------------------------------------------------------------------ the recogniser of a bundle


def test_a_bundle_transcribes_a_batch_as_it_does_each_recording():
    recognizer = shared_recognizer("two-way")
    assert recognizer.transcribe_many([]) == []
    usable = [waveform for waveform in recordings() if len(waveform) >= recognizer.min_samples]
    together = recognizer.transcribe_many(usable)
    for waveform, transcript in zip(usable, together, strict=True):
        alone = recognizer.transcribe(waveform)
        assert alone.text == transcript.text
        assert alone.confidence == pytest.approx(transcript.confidence, abs=TOLERANCE)
        assert transcript.duration == len(waveform) / 16000
