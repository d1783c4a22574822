import functools
import json
from typing import Any

import numpy as np
import pytest
from keras import ops
from model_fixtures import HEAD_TEXTS, LABELS, head_cases, randomise

from speechrnn.errors import ConfigError, LabelError
from speechrnn.heads import HEADS
from speechrnn.heads.classification import Classification
from speechrnn.labels import Labels

WIDTH = 6
LENGTHS = np.array([11, 1, 8, 2])
PADDED = 15
TOLERANCE = 2e-6  # float32 sums in another order

every_head = pytest.mark.parametrize("config", head_cases())


@functools.cache
def built(config: Any) -> Any:
    return build(config)


def build(config: Any) -> Any:
    layer = config.build_layer(LABELS)
    layer(np.zeros((1, 12, WIDTH), np.float32))
    return randomise(layer)


def run(layer: Any, encoded: np.ndarray, mask: Any = None, training: bool = False) -> np.ndarray:
    return ops.convert_to_numpy(layer(encoded, frame_mask=mask, training=training))


def random_vectors(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((*shape, WIDTH)).astype(np.float32)


def junk_padded() -> tuple[np.ndarray, np.ndarray]:
    encoded = random_vectors(len(LENGTHS), PADDED)
    mask = np.arange(PADDED) < LENGTHS[:, None]
    encoded[~mask] = 30 + 50 * random_vectors(len(LENGTHS), PADDED, seed=1)[~mask]
    return encoded, mask


def alone(layer: Any, encoded: np.ndarray) -> np.ndarray:
    rows = [run(layer, encoded[i : i + 1, :length]) for i, length in enumerate(LENGTHS)]
    return np.concatenate([row[:, -1] if row.ndim == 3 else row for row in rows])


def last_true(logits: np.ndarray) -> np.ndarray:
    """A head that answers for each frame is compared at each row's last true one."""
    return logits[np.arange(len(LENGTHS)), LENGTHS - 1] if logits.ndim == 3 else logits


def example_targets(config: Any) -> tuple[np.ndarray, np.ndarray]:
    """Ids of HEAD_TEXTS, padded with 0, and how many each row has."""
    (name,) = (n for n in HEADS.names() if HEADS.to_mapping(config)["type"] == n)
    rows = [config.targets(text, LABELS) for text in HEAD_TEXTS[name]]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for target, row in zip(ids, rows, strict=True):
        target[: len(row)] = row
    return ids, np.array([len(row) for row in rows], np.int32)


@every_head
def test_a_row_padded_with_junk_equals_the_row_alone(config):
    layer = built(config)
    encoded, mask = junk_padded()
    padded = last_true(run(layer, encoded, mask))
    np.testing.assert_allclose(padded, alone(layer, encoded), rtol=0, atol=TOLERANCE)


@every_head
def test_the_comparison_with_alone_sees_a_forgotten_mask(config):
    layer = built(config)
    encoded, _ = junk_padded()
    logits = run(layer, encoded)
    if logits.ndim == 3:
        pytest.skip("a head that answers for each frame alone never meets the padding")
    assert np.abs(logits - alone(layer, encoded)).max() > 1e-2


@every_head
def test_no_mask_equals_a_mask_that_is_true_everywhere(config):
    layer = built(config)
    encoded = random_vectors(3, 9)
    np.testing.assert_allclose(
        run(layer, encoded, np.ones((3, 9), bool)), run(layer, encoded), rtol=0, atol=TOLERANCE
    )


@every_head
def test_a_batch_equals_its_rows_alone(config):
    layer = built(config)
    encoded = random_vectors(3, 9)
    rows = np.concatenate([run(layer, encoded[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(run(layer, encoded), rows, rtol=0, atol=TOLERANCE)


@every_head
def test_every_trainable_variable_gets_a_gradient_from_the_loss(config):
    tf = pytest.importorskip("tensorflow")
    layer = built(config)
    encoded, mask = junk_padded()
    targets, num_targets = example_targets(config)
    with tf.GradientTape() as tape:
        logits = layer(encoded, frame_mask=mask)
        loss = ops.mean(config.loss(logits, LENGTHS.astype(np.int32), targets, num_targets))
    gradients = tape.gradient(loss, [v.value for v in layer.trainable_variables])
    for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path
        if variable.path.endswith("score/bias"):  # a softmax over time does not see a constant
            continue
        assert np.abs(gradient).max() > 0, variable.path


@every_head
def test_loss_and_correctness_of_a_row_do_not_depend_on_its_batch_mates(config):
    layer = built(config)
    encoded, mask = junk_padded()
    logits, num_encoded = run(layer, encoded, mask), LENGTHS.astype(np.int32)
    targets, num_targets = example_targets(config)
    for answer, dtype in ((config.loss, "float32"), (config.correct, "bool")):
        together = ops.convert_to_numpy(answer(logits, num_encoded, targets, num_targets))
        assert together.shape == (len(LENGTHS),)
        assert together.dtype == dtype
        for i in range(len(LENGTHS)):
            row = slice(i, i + 1)
            one = answer(logits[row], num_encoded[row], targets[row], num_targets[row])
            np.testing.assert_allclose(ops.convert_to_numpy(one), together[row], rtol=1e-5)


@every_head
def test_targets_are_ids_of_labels_from_one(config):
    ids, num_targets = example_targets(config)
    for row, size in zip(ids, num_targets, strict=True):
        assert ((row[:size] >= 1) & (row[:size] <= len(LABELS))).all()
    with pytest.raises(LabelError, match="'maybe'"):
        config.targets("maybe", LABELS)


@every_head
def test_settings_survive_json(config):
    mapping = json.loads(json.dumps(HEADS.to_mapping(config)))
    assert HEADS.from_mapping(mapping) == config


@every_head
def test_variables_have_names_of_their_own_which_two_layers_share(config):
    paths = [[v.path for v in build(config).trainable_variables] for _ in range(2)]
    assert paths[0] == paths[1]
    assert len(set(paths[0])) == len(paths[0])


@every_head
def test_the_output_has_a_name(config):
    assert config.output_name.isidentifier()


# ------------------------------------------------------------------ classification


def softmax(logits: np.ndarray, axis: int = -1) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def classification_loss(config: Classification, logits: np.ndarray, ids: list[int]) -> np.ndarray:
    targets = np.array(ids, np.int32)[:, None]
    ones = np.ones(len(ids), np.int32)
    return ops.convert_to_numpy(config.loss(logits.astype(np.float32), ones, targets, ones))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("num_labels", [2, 4, 35])
def test_equal_logits_lose_the_log_of_the_number_of_labels(smoothing, num_labels):
    loss = classification_loss(
        Classification(label_smoothing=smoothing), np.full((1, num_labels), 3.0), [num_labels]
    )
    np.testing.assert_allclose(loss, np.log(num_labels), rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_cross_entropy_with_smoothed_targets(smoothing):
    logits = np.random.default_rng(0).normal(0, 3, (7, 5))
    ids = [1, 5, 2, 3, 4, 1, 5]
    wanted = (1 - smoothing) * np.eye(5)[np.array(ids) - 1] + smoothing / 5
    expected = -(wanted * np.log(softmax(logits))).sum(axis=1)
    loss = classification_loss(Classification(label_smoothing=smoothing), logits, ids)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_a_confident_wrong_answer_loses_a_finite_amount():
    loss = classification_loss(Classification(), np.array([[200.0, -200.0]]), [2])
    np.testing.assert_allclose(loss, [400.0], rtol=1e-6)


def test_correct_compares_the_most_probable_label_with_the_true_id():
    logits = np.array([[0.1, 2, 0], [3, 2, 1], [0, 0, 9], [0, 0, 9]], np.float32)
    targets = np.array([[2], [1], [1], [3]], np.int32)
    ones = np.ones(4, np.int32)
    found = ops.convert_to_numpy(Classification().correct(logits, ones, targets, ones))
    assert found.tolist() == [True, True, False, True]


def test_the_output_is_a_probability_for_each_label():
    logits = np.random.default_rng(0).normal(0, 5, (3, 4)).astype(np.float32)
    probabilities = ops.convert_to_numpy(Classification().output(logits))
    np.testing.assert_allclose(probabilities, softmax(logits), rtol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def weight(layer: Any, name: str) -> np.ndarray:
    (found,) = (np.asarray(v) for v in layer.trainable_variables if v.path.endswith(name))
    return found


def pooled_by_hand(config: Classification, layer: Any, frames: np.ndarray) -> np.ndarray:
    parts = []
    if config.average_pooling:
        parts.append(frames.mean(axis=0))
    if config.attention_pooling:
        hidden = np.tanh(
            frames @ weight(layer, "score_hidden/kernel") + weight(layer, "score_hidden/bias")
        )
        scores = hidden @ weight(layer, "score/kernel") + weight(layer, "score/bias")
        parts.append((softmax(scores, axis=0) * frames).sum(axis=0))
    return np.concatenate(parts)


@pytest.mark.parametrize("config", [c for c in head_cases() if type(c.values[0]) is Classification])
def test_pooling_is_the_mean_and_the_attention_of_the_true_frames(config):
    layer = built(config)
    encoded, mask = junk_padded()
    logits = run(layer, encoded, mask)
    for row, length in enumerate(LENGTHS):
        vector = pooled_by_hand(config, layer, encoded[row, :length])
        expected = vector @ weight(layer, "logits/kernel") + weight(layer, "logits/bias")
        np.testing.assert_allclose(logits[row], expected, rtol=0, atol=1e-5)


def test_dropout_acts_while_training_and_only_then():
    settings = {"attention_pooling": False}
    layer, plain = (build(Classification(dropout=rate, **settings)) for rate in (0.5, 0.0))
    encoded = random_vectors(2, 9)
    np.testing.assert_array_equal(run(layer, encoded), run(plain, encoded))
    first, second = (run(layer, encoded, training=True) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


def test_a_classification_head_has_one_column_a_label():
    layer = Classification().build_layer(Labels.from_texts("abcdefg"))
    assert layer(random_vectors(2, 9)).shape == (2, 7)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"average_pooling": False, "attention_pooling": False}, ["both are off", "at least one"]),
        ({"attention_units": 0}, ["head.attention_units", "got 0", "at least 1"]),
        ({"dropout": 1.0}, ["head.dropout", "got 1.0", "x < 1"]),
        ({"dropout": float("nan")}, ["head.dropout", "got nan"]),
        ({"label_smoothing": -0.1}, ["head.label_smoothing", "got -0.1", "0 <="]),
        ({"label_smoothing": "0.1"}, ["head.label_smoothing", "'0.1'", "float"]),
        ({"labels": 3}, ["head.labels", "unknown", "average_pooling"]),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_its_name(settings, words):
    with pytest.raises(ConfigError) as caught:
        HEADS.from_mapping({"type": "classification", **settings})
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_an_unknown_head_is_refused_with_the_list_of_known_ones():
    with pytest.raises(ConfigError, match=r"head\.type: got 'ctx', expected one of .*classific"):
        HEADS.from_mapping({"type": "ctx"})
