"""Learning from a teacher."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from model_fixtures import save
from scipy.special import log_softmax, softmax
from test_train import TINY, fit, recipe

from speechrnn.bundle import load_bundle, read_bundle, read_log
from speechrnn.datasets.manifest import Utterance, read_data, split_by_speaker
from speechrnn.distillation import imitation_loss, load_teachers
from speechrnn.errors import ConfigError
from speechrnn.labels import Labels
from speechrnn.model import ModelConfig, build_model
from speechrnn.recipe import Recipe
from speechrnn.train import train_model


@given(seed=st.integers(0, 50), temperature=st.floats(1, 8))
@settings(max_examples=25, deadline=None)
def test_the_loss_is_the_divergence_of_what_both_say(seed: int, temperature: float):
    rng = np.random.default_rng(seed)
    pupil, teacher = rng.normal(0, 3, (2, 4, 5)).astype(np.float32)
    wanted = softmax(teacher / temperature, axis=-1)
    distance = log_softmax(teacher / temperature, axis=-1) - log_softmax(
        pupil / temperature, axis=-1
    )
    expected = temperature**2 * (wanted * distance).sum(axis=-1)
    found = ops.convert_to_numpy(imitation_loss(pupil, teacher, temperature))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert (found > -1e-4).all()


def test_who_says_the_same_has_nothing_to_learn():
    logits = np.random.default_rng(0).normal(0, 3, (3, 4)).astype(np.float32)
    assert np.abs(ops.convert_to_numpy(imitation_loss(logits + 7, logits, 2.0))).max() < 1e-5


@pytest.fixture(scope="module")
def teacher(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings_ = {"epochs": 20, "learning_rate": 0.02, "seed": 3}
    return fit(tiny_data, tmp_path_factory.mktemp("teacher") / "b", recipe(**settings_)).bundle


def learn(data: Path, out: Path, teacher: Path, chosen: Recipe, **options: Any) -> Path:
    train_rows, val_rows = split_by_speaker(read_data(data), 0.3)
    found = train_model(
        chosen,
        train_rows,
        val_rows,
        out,
        data_name="a",
        val_name="b",
        teachers=[teacher],
        **options,
    )
    return found.bundle


def test_a_pupil_that_hears_its_teacher_alone_learns_what_it_says(teacher, tiny_data, tmp_path):
    """The true labels count nothing, so the teacher's answers are all there is to learn from."""
    chosen = recipe(epochs=40, learning_rate=0.02, teacher_weight=1.0, seed=5)
    bundle = learn(tiny_data, tmp_path / "b", teacher, chosen)
    assert read_bundle(bundle).training["teachers"] == [read_bundle(teacher).sha256]
    log = read_log(bundle)
    assert log[-1]["loss"] < 0.3 * log[0]["loss"]
    assert log[-1]["accuracy"] > 0.9


@pytest.mark.heavy
def test_a_teacher_s_weights_are_not_the_pupil_s(teacher, tiny_data, tmp_path):
    bundle = learn(tiny_data, tmp_path / "b", teacher, recipe())
    assert len(load_bundle(bundle)[0].weights) == len(load_bundle(teacher)[0].weights)


def test_labels_in_another_order_are_the_same_labels(teacher):
    model, info = load_bundle(teacher)
    turned = Labels(info.labels.symbols[::-1])
    found = load_teachers([teacher], model.config, turned)
    inputs = {"waveform": np.full((2, 900), 0.1, np.float32), "num_samples": np.int32([900, 500])}
    expected = ops.convert_to_numpy(model(inputs))
    np.testing.assert_allclose(
        ops.convert_to_numpy(found.logits(inputs)), expected[:, ::-1], atol=1e-5
    )


def test_of_several_teachers_the_mean_is_learnt_from(teacher, tmp_path):
    model, info = load_bundle(teacher)
    turned = Labels(info.labels.symbols[::-1])
    second = save(build_model(model.config, turned, seed=8), tmp_path / "b")
    found = load_teachers([teacher, second], model.config, info.labels)
    inputs = {"waveform": np.full((2, 900), 0.1, np.float32), "num_samples": np.int32([900, 500])}
    each = [ops.convert_to_numpy(load_bundle(b)[0](inputs)) for b in (teacher, second)]
    expected = (each[0] + each[1][:, ::-1]) / 2
    np.testing.assert_allclose(ops.convert_to_numpy(found.logits(inputs)), expected, atol=1e-5)
    assert found.sha256 == (info.sha256, read_bundle(second).sha256)


def other(**sections: Any) -> ModelConfig:
    return Recipe.from_mapping({**TINY, **sections}).model


@pytest.mark.parametrize(
    ("pupil", "labels", "words"),
    [
        (other(), ("go", "stop"), "knows other labels than the training data .*stop"),
        (other(head={"type": "ctc"}), None, "the recipe answers with sequences"),
        (other(features={"sample_rate_hz": 16000}), None, "hears 8000 Hz, expected 16000 Hz"),
    ],
)
def test_a_teacher_of_something_else_is_refused(teacher, pupil, labels, words):
    known = read_bundle(teacher).labels
    with pytest.raises(ConfigError, match=words):
        load_teachers([teacher], pupil, Labels(labels) if labels else known)


def test_a_training_does_not_go_on_with_another_teacher(teacher, tiny_data, tmp_path, monkeypatch):
    from conftest import stop_training

    with monkeypatch.context() as patch:
        stop_training(patch, after=3)
        learn(tiny_data, tmp_path / "b", teacher, recipe(epochs=9, checkpoint_s=0.0))
    train_rows, val_rows = split_by_speaker(read_data(tiny_data), 0.3)
    rows: tuple[list[Utterance], list[Utterance]] = (train_rows, val_rows)
    with pytest.raises(ConfigError, match="teacher"):
        train_model(
            recipe(epochs=9, checkpoint_s=0.0),
            *rows,
            tmp_path / "b",
            data_name="a",
            val_name="b",
            resume=True,
        )


@pytest.mark.parametrize(
    ("settings_", "words"),
    [({"teacher_weight": 1.1}, "0 to 1"), ({"teacher_temperature": 0.5}, "1 or more")],
)
def test_settings_out_of_range_are_refused(settings_, words):
    with pytest.raises(ConfigError, match=words):
        recipe(**settings_)
