"""The recurrent language model: numpy against Keras, and what it learns."""

from __future__ import annotations

import io
import math
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import Run
from keras import layers, ops

from speechrnn.decoding.ngram import END, UNKNOWN
from speechrnn.decoding.recurrent_lm import (
    ARRAYS,
    RecurrentModel,
    Rescorer,
    read_recurrent,
    recurrent_bytes,
)
from speechrnn.errors import ConfigError
from speechrnn.labels import Labels
from speechrnn.recurrent_language_model import RecurrentConfig, train_recurrent
from speechrnn.spelling import Spelling

WORDS = (END, UNKNOWN, "go", "no", "yes")
UNITS = 6


def random_model(seed: int = 0) -> RecurrentModel:
    rng = np.random.default_rng(seed)
    shapes = ((5, 4), (4, 18), (6, 18), (2, 18), (6, 5), (5,))
    return RecurrentModel(WORDS, *(rng.normal(0, 0.8, s).astype(np.float32) for s in shapes))


def test_each_step_is_that_of_keras():
    model, said = random_model(), [0, 2, 4, 1, 3, 3]
    layer = layers.GRU(UNITS, return_sequences=True)
    layer.build((1, None, 4))
    for variable, name in zip(layer.weights, ("kernel", "recurrent", "bias"), strict=False):
        variable.assign(getattr(model, name))
    expected = ops.convert_to_numpy(layer(model.embedding[said][None]))[0]
    state = np.zeros(UNITS, np.float32)
    for word, wanted in zip(said, expected, strict=True):
        state = model.step(word, state)
        np.testing.assert_allclose(state, wanted, atol=1e-6)
        logits = wanted @ model.output + model.output_bias
        log_softmax = ops.convert_to_numpy(keras.ops.log_softmax(logits))
        np.testing.assert_allclose(model.log_probabilities(state), log_softmax, atol=1e-5)


def test_a_sentence_is_the_product_of_its_words_and_of_its_end():
    model = random_model(1)
    by_word = 0.0
    state = model.step(0, np.zeros(UNITS, np.float32))
    for word in (2, 1, 0):
        by_word += model.log_probabilities(state)[word]
        state = model.step(word, state)
    assert model.sentence_log_probability(["go", "lamp"]) == pytest.approx(by_word)
    assert np.exp(model.log_probabilities(state)).sum() == pytest.approx(1)


def test_it_remembers_further_back_than_its_gradient_goes_in_one_step():
    # What a sentence begins with decides how it ends, five words later; gradients go back eight.
    sentences = ["a x x x x x b", "c x x x x x d"] * 60
    settings = RecurrentConfig(units=24, epochs=30, batch_size=4, words_back=8)
    model, perplexity = train_recurrent(sentences, settings)
    right, wrong = ["a", "x", "x", "x", "x", "x", "b"], ["a", "x", "x", "x", "x", "x", "d"]
    assert model.sentence_log_probability(right) > model.sentence_log_probability(wrong) + 2
    # One choice of two in eight words.
    assert perplexity == pytest.approx(2 ** (1 / 8), rel=0.1)


def test_a_training_is_the_same_each_time():
    settings = RecurrentConfig(units=4, epochs=2)
    one, other = (train_recurrent(["a b", "b a c", "a"], settings)[0] for _ in range(2))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_model_comes_back_from_its_file(tmp_path: Path):
    model, file = random_model(), tmp_path / "lm.npz"
    file.write_bytes(recurrent_bytes(model))
    found = read_recurrent(file)
    assert found.words == model.words
    assert found.sentence_log_probability(["yes"]) == model.sentence_log_probability(["yes"])


def as_npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda content: content[:-200], "damaged"),
        (lambda content: b"text", "damaged"),
        (lambda content: b"", "damaged"),
        (lambda content: as_npy(), "damaged"),
    ],
)
def test_a_damaged_file_is_named(change, named: str, tmp_path: Path):
    file = tmp_path / "lm.npz"
    file.write_bytes(change(recurrent_bytes(random_model())))
    with pytest.raises(ConfigError) as error:
        read_recurrent(file)
    assert str(file) in str(error.value)
    assert named in str(error.value)


def test_arrays_that_do_not_fit_and_missing_files_are_named(tmp_path: Path):
    model, file = random_model(), tmp_path / "lm.npz"
    file.write_bytes(
        recurrent_bytes(RecurrentModel(WORDS[:4], *(getattr(model, n) for n in ARRAYS)))
    )
    with pytest.raises(ConfigError, match="do not fit"):
        read_recurrent(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_recurrent(tmp_path / "none.npz")


def test_rescoring_weighs_whole_sentences():
    spelling = Spelling(Labels(("go", "no", "yes")), "words")
    model = random_model()
    rescore = Rescorer(model, spelling, weight=0.3)
    expected = 0.3 * model.sentence_log_probability(["go", "yes"])
    assert rescore(spelling.ids("go yes")) == pytest.approx(expected)
    for other in (
        Spelling(Labels(("links",)), "words"),
        Spelling(Labels(("|", "ع")), "characters"),
    ):
        with pytest.raises(ConfigError, match="another alphabet or vocabulary"):
            Rescorer(model, other)


def test_words_that_were_never_seen_are_not_forbidden():
    settings = RecurrentConfig(units=8, epochs=10)
    model, _ = train_recurrent([f"go {'ab'[n % 2]}" for n in range(400)], settings)
    state = model.step(model.ids(["go"])[0], model.step(0, np.zeros(8, np.float32)))
    assert model.log_probabilities(state)[model.ids(["lamp"])[0]] > math.log(0.001)


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"units": 0}, "--units 0"), ({"epochs": 0}, "--epochs 0"), ({"learning_rate": 0.0}, "more")],
)
def test_a_setting_of_no_use_is_named(settings: dict, named: str):
    with pytest.raises(ConfigError, match=named):
        RecurrentConfig(**settings)


def test_a_text_of_one_sentence_is_refused():
    with pytest.raises(ConfigError, match="1 sentences"):
        train_recurrent(["a b c"], RecurrentConfig())


def test_the_command_writes_a_model_and_says_how_good_it_is(tmp_path: Path, run_cli: Run):
    text = tmp_path / "text"
    text.write_text("go yes\nno go\nyes\n" * 10, encoding="utf-8")
    out = tmp_path / "lm.npz"
    result = run_cli("lm", text, "--to", out, "--kind", "gru", "--units", 8, "--epochs", 3)
    assert result.status == 0, result.err
    assert "5 words, perplexity" in result.out
    assert math.isfinite(read_recurrent(out).sentence_log_probability(["go"]))
