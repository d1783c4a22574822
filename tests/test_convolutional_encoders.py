"""Encoders of convolutions and of several kinds at once: what they compute, and their sizes."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from keras import ops
from model_fixtures import encoder_cases, make_model, randomise, save

from speechrnn.bundle import load_bundle
from speechrnn.encoders import ENCODERS
from speechrnn.encoders.bc_resnet import DilatedConvolution, _every
from speechrnn.encoders.convolution import BandConvolution, band_matrix, padded
from speechrnn.encoders.hybrid import ConformerBlock, Hybrid
from speechrnn.encoders.mhatt_rnn import Attention, _middle
from speechrnn.encoders.normalisation import EPSILON, MOMENTUM, BatchNorm
from speechrnn.errors import ConfigError, ExportError
from speechrnn.export.pipeline import check_streaming
from speechrnn.labels import Labels
from speechrnn.model import ModelConfig, build_model
from speechrnn.optimizer import WeightAverage

RNG = np.random.default_rng(0)
TWELVE = Labels(tuple(f"word {i:02}" for i in range(12)))
# float32 sums of some hundred terms near 1, taken in another order.
TOLERANCE = 5e-6


def built(layer: Any, *arguments: np.ndarray) -> Any:
    layer(*arguments)
    return randomise(layer)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def true_until(lengths: list[int], steps: int) -> np.ndarray:
    return np.arange(steps) < np.array(lengths)[:, None]


# ------------------------------------------------------------------ sizes


def sizes(encoder: dict[str, Any], num_coefficients: int = 40, **features: Any) -> tuple[int, int]:
    """Weights of a network for twelve words, and running statistics."""
    sections = {
        "features": {"num_coefficients": num_coefficients, **features},
        "encoder": encoder,
        "head": {"type": "classification", "attention_pooling": False},
    }
    model = build_model(ModelConfig.from_mapping(sections), TWELVE)
    learnt = sum(int(np.prod(v.shape)) for v in model.learnt_variables)
    weights = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    return weights, learnt - weights


def test_ds_cnn_is_as_large_as_mlperf_tiny_says():
    # benchmark/training/keyword_spotting of mlcommons/tiny: 24,908, of which 23,756 are trained.
    encoder = {"type": "ds_cnn", "num_bands": 0, "block_stride": 1}
    assert sizes(encoder, 10) == (23_756, 1_152)


@pytest.mark.parametrize(
    ("tau", "published"),
    [
        (1, 9.2),
        pytest.param(2, 27.3, marks=pytest.mark.heavy),
        pytest.param(3, 54.2, marks=pytest.mark.heavy),
        pytest.param(6, 188, marks=pytest.mark.heavy),
        (8, 321),
    ],
)
def test_bc_resnet_is_as_large_as_its_paper_says(tau, published):
    """Table 1, in thousands, and the matrix to bands, which the paper's features need not."""
    weights, _ = sizes({"type": "bc_resnet", "tau": tau})
    in_thousands = (weights - 40 * 41) / 1000
    assert round(in_thousands, 1 if published < 100 else 0) == published


@pytest.mark.parametrize("query", ["each", "middle"])
def test_mhatt_rnn_is_as_large_as_kws_streaming_s(query):
    weights, statistics = sizes({"type": "mhatt_rnn", "query": query}, window_ms=30.0)
    assert weights + statistics == 756_711


def test_hybrid_is_as_large_as_its_parts():
    block = 2 * (8 * 16 + 16 + 16 * 8 + 8) + (8 * 24 + 24 + 8 * 8 + 8)  # feed-forward, attention
    block += (8 * 16 + 16) + (5 * 8 + 8) + 2 * 8 + (8 * 8 + 8) + 5 * 2 * 8  # convolution, norms
    gru = 2 * (3 * 6 * (8 + 6) + 2 * 3 * 6)
    embed, logits = 40 * 8 + 8, 12 * 12 + 12
    encoder = {"type": "hybrid", "width": 8, "num_blocks": 1, "num_heads": 2, "units": 6}
    assert sizes(encoder) == (embed + block + gru + logits, 2 * 8)


# ------------------------------------------------------------------ batch normalisation


def normalised(values: np.ndarray, mask: np.ndarray, groups: int, layer: Any) -> np.ndarray:
    """Group by group and channel by channel in float64."""
    found = values.astype(np.float64)
    size = values.shape[2] // groups
    gain, offset = np.asarray(layer.gain), np.asarray(layer.offset)
    for group in range(groups):
        for channel in range(values.shape[3]):
            bands = slice(group * size, (group + 1) * size)
            true = values[mask][:, bands, channel].astype(np.float64)
            part = (found[:, :, bands, channel] - true.mean()) / np.sqrt(true.var() + EPSILON)
            found[:, :, bands, channel] = part * gain[group, channel] + offset[group, channel]
    return found


@pytest.mark.parametrize("groups", [1, 3])
def test_batch_normalisation_goes_by_the_true_steps_of_each_group_of_bands(groups):
    values, mask = 3 + 2 * normal(4, 7, 6, 5), true_until([7, 1, 4, 2], 7)
    values[~mask] = 1000
    layer = built(BatchNorm(groups), values)
    found = ops.convert_to_numpy(layer(values, step_mask=mask, training=True))
    expected = normalised(values, mask, groups, layer)
    np.testing.assert_allclose(found[mask], expected[mask], atol=1e-4)


def test_padding_does_not_change_what_batch_normalisation_learns():
    values = normal(3, 5, 4)
    longer = np.concatenate([values, np.full((3, 9, 4), 77, np.float32)], axis=1)
    layers = [BatchNorm(name=name) for name in ("alone", "padded")]
    alone = layers[0](values, training=True)
    padded = layers[1](longer, step_mask=true_until([5, 5, 5], 14), training=True)
    np.testing.assert_allclose(padded[:, :5], alone, atol=TOLERANCE)
    for one, other in zip(layers[0].variables, layers[1].variables, strict=True):
        np.testing.assert_allclose(one, other, atol=TOLERANCE)


def test_running_statistics_follow_those_of_the_batches_and_answer_afterwards():
    layer, mean, variance = BatchNorm(), np.zeros(4), np.ones(4)
    for scale in (1, 2, 3):
        values = scale + scale * normal(6, 5, 4)
        layer(values, training=True)
        mean = MOMENTUM * mean + (1 - MOMENTUM) * values.mean(axis=(0, 1))
        variance = MOMENTUM * variance + (1 - MOMENTUM) * values.var(axis=(0, 1))
    np.testing.assert_allclose(layer.mean[0], mean, rtol=1e-5)
    np.testing.assert_allclose(layer.variance[0], variance, rtol=1e-4)
    expected = (values - mean) / np.sqrt(variance + EPSILON)
    np.testing.assert_allclose(layer(values), expected, atol=1e-4)


def test_bands_that_make_no_groups_are_refused():
    with pytest.raises(ConfigError, match="got 3 where 8 bands are left, expected a number that"):
        BatchNorm(3)(normal(1, 2, 8, 4))


def small(encoder: str, head: str = "classification") -> Any:
    (config, *_) = (c.values[0] for c in encoder_cases() if c.id.startswith(encoder))
    sections = {
        "features": {"num_coefficients": 8, "normalisation": "utterance"},
        "encoder": {"type": encoder, **dataclasses.asdict(config)},
        "head": {"type": head},
    }
    return make_model(sections)


def test_a_bundle_and_a_mean_of_weights_carry_running_statistics(tmp_path):
    model = small("ds_cnn")
    statistics = model.learnt_variables[len(model.trainable_variables) :]
    names = {variable.path.rsplit("/", 1)[1] for variable in statistics}
    assert names == {"running_mean", "running_variance"}
    assert not any("seed_generator" in v.path for v in model.learnt_variables)
    average = WeightAverage(model, 0.9)
    before = [np.array(v) for v in statistics]
    for variable in statistics:
        variable.assign(variable + 1.0)
    average.update()  # the first: a tenth of what it was
    with average.applied():
        for variable, value in zip(statistics, before, strict=True):
            np.testing.assert_allclose(variable, value + 0.9, rtol=1e-5)
        again, _ = load_bundle(save(model, tmp_path / "bundle"))
        for one, other in zip(again.learnt_variables, model.learnt_variables, strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(statistics[0], before[0] + 1)


# ------------------------------------------------------------------ parts, by hand


def test_bands_of_all_coefficients_are_the_log_energies_with_less_of_the_finest():
    size = 12
    band = np.arange(size)
    dct = np.array([np.cos(np.pi * k * (band + 0.5) / size) for k in range(size)])
    dct *= np.sqrt(2 / size)
    dct[0] /= np.sqrt(2)
    energies = normal(1, 3, size)
    turned_down = 2 / np.sqrt(1 + np.arange(size) / 2)
    found = band_matrix(size)((energies @ dct.T / turned_down).astype(np.float32))
    np.testing.assert_allclose(found, energies, atol=TOLERANCE)


def test_more_bands_than_coefficients_are_the_same_curve_with_more_places():
    frames = normal(1, 3, 6)
    few, many = (np.asarray(band_matrix(n)(frames)) for n in (6, 18))
    # Every third of three times as many bands lies where one of the few lies.
    np.testing.assert_allclose(many[..., 1::3] * np.sqrt(3), few, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("kernel", "strides"), [((10, 4), (2, 2)), ((5, 5), (1, 2)), ((2, 3), (3, 1)), ((1, 2), (2, 3))]
)
@pytest.mark.parametrize("frames", [10, 13])
def test_bands_are_convolved_in_training_as_keras_does_it(kernel, strides, frames):
    """Values, and gradients with respect to all that goes in: products with the same numbers."""
    import tensorflow as tf

    values = tf.constant(normal(3, frames, 11, 1))
    layer = built(BandConvolution(6, kernel, strides=strides), values)
    variables = [variable.value for variable in layer.trainable_variables]

    def found(training: bool) -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            tape.watch(values)
            convolved = layer(values, training=training)
            loss = tf.reduce_sum(tf.sin(convolved))
        return [
            np.asarray(each) for each in (convolved, *tape.gradient(loss, [values, *variables]))
        ]

    for trained, served in zip(found(True), found(False), strict=True):
        np.testing.assert_allclose(trained, served, rtol=1e-5, atol=2e-5)


def test_zeros_lie_around_frames_and_bands_and_where_the_mask_says_so():
    values, mask = normal(2, 5, 4, 3), true_until([5, 3], 5)
    found, steps = padded(values, mask, 4, 2, bands=3)
    expected = np.zeros((2, 2 + 5 + 1, 1 + 4 + 1, 3), np.float32)
    expected[:, 2:7, 1:5] = values * mask[:, :, None, None]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(steps, mask[:, ::2])


def test_every_second_band_is_every_second():
    values = normal(2, 3, 8, 5)
    np.testing.assert_array_equal(_every(2, values), values[:, :, ::2])
    np.testing.assert_array_equal(_every(4, values), values[:, :, ::4])


@pytest.mark.parametrize("dilation", [1, 2, 8])
def test_a_dilated_convolution_sees_steps_that_lie_apart(dilation):
    steps, mask = normal(2, 11, 3), true_until([11, 6], 11)
    layer = built(DilatedConvolution(dilation), steps)
    found = ops.convert_to_numpy(layer(steps, step_mask=mask))
    kernel = np.asarray(layer.kernel)[:, :, 0]
    for row, length in enumerate((11, 6)):
        for step in range(length):
            places = [(i, step + (i - 1) * dilation) for i in range(3)]
            expected = sum(kernel[i] * steps[row, p] for i, p in places if 0 <= p < length)
            np.testing.assert_allclose(found[row, step], expected, atol=TOLERANCE)


def asked_by_hand(asking: np.ndarray, steps: np.ndarray, layer: Attention) -> np.ndarray:
    """Step by step and head by head in float64."""
    kernel, bias = (np.asarray(v, np.float64) for v in layer.project.weights)
    found = []
    for query in np.split((asking @ kernel + bias), layer.num_heads, axis=-1):
        scores = np.exp(query @ steps.T - (query @ steps.T).max(axis=-1, keepdims=True))
        found.append(scores / scores.sum(axis=-1, keepdims=True) @ steps)
    return np.concatenate(found, axis=-1)


def test_attention_over_recurrent_layers_computes_its_equations():
    lengths, (steps, asking) = [9, 4, 1], (normal(3, 9, 6), normal(3, 2, 6))
    layer = built(Attention(3, 6), asking, steps)
    found = ops.convert_to_numpy(layer(asking, steps, step_mask=true_until(lengths, 9)))
    for row, length in enumerate(lengths):
        expected = asked_by_hand(asking[row].astype(np.float64), steps[row, :length], layer)
        np.testing.assert_allclose(found[row], expected, atol=TOLERANCE)


def test_the_middle_is_that_of_the_true_steps():
    steps = normal(4, 9, 2)
    found = ops.convert_to_numpy(_middle(steps, true_until([9, 4, 1, 2], 9)))
    np.testing.assert_array_equal(found[:, 0], [steps[0, 4], steps[1, 2], steps[2, 0], steps[3, 1]])
    np.testing.assert_array_equal(_middle(steps, None)[:, 0], steps[:, 4])


def test_when_the_middle_asks_all_steps_say_what_it_got():
    config = ENCODERS.from_mapping({"type": "mhatt_rnn", "units": 3, "num_heads": 2, "width": 4})
    frames = normal(2, 7, 5)
    each = built(config.build_layer(), frames)
    middle = built(dataclasses.replace(config, query="middle").build_layer(), frames)
    found, _ = middle(frames)
    assert found.shape == (2, 7, 4)
    expected = np.asarray(each(frames)[0])[:, 3:4]
    np.testing.assert_allclose(found, np.repeat(expected, 7, axis=1), atol=TOLERANCE)


def conformer_by_hand(steps: np.ndarray, block: ConformerBlock) -> np.ndarray:
    """One clip in float64, but for attention, which its own test computes."""

    def weights(layer: Any) -> list[np.ndarray]:
        return [np.asarray(v, np.float64) for v in layer.weights]

    def dense(x: np.ndarray, layer: Any) -> np.ndarray:
        kernel, bias = weights(layer)
        return x @ kernel + bias

    def norm(x: np.ndarray, layer: Any) -> np.ndarray:
        gain, offset = weights(layer)
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5) * gain + offset

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    def feed_forward(x: np.ndarray, layer: Any) -> np.ndarray:
        inner = dense(x, layer.widen)
        return dense(inner * sigmoid(inner), layer.narrow)

    def convolution(x: np.ndarray, layer: Any) -> np.ndarray:
        value, gate = np.split(dense(x, layer.enter), 2, axis=-1)
        kernel, bias = weights(layer.over_time)
        size = len(kernel)
        around = np.pad(value * sigmoid(gate), ((size // 2, size // 2), (0, 0)))
        seen = [around[i : i + len(x)] * kernel[i, :, 0] for i in range(size)]
        gain, offset, mean, variance = (v[0] for v in weights(layer.norm))
        inner = (sum(seen) + bias - mean) / np.sqrt(variance + EPSILON) * gain + offset
        return dense(inner * sigmoid(inner), layer.leave)

    before, attention, convolved, after, last = block.norms
    steps = steps + 0.5 * feed_forward(norm(steps, before), block.before)
    entering = norm(steps, attention)[None].astype(np.float32)
    steps = steps + np.asarray(block.attention(entering))[0]
    steps = steps + convolution(norm(steps, convolved), block.convolution)
    steps = steps + 0.5 * feed_forward(norm(steps, after), block.after)
    return norm(steps, last)


def test_a_conformer_block_computes_its_equations():
    lengths, steps = [9, 5], normal(2, 9, 8)
    config = Hybrid(width=8, num_heads=2, kernel=3)
    block = built(ConformerBlock(config, name="block"), steps)
    found = ops.convert_to_numpy(block(steps, step_mask=true_until(lengths, 9)))
    for row, length in enumerate(lengths):
        expected = conformer_by_hand(steps[row, :length].astype(np.float64), block)
        np.testing.assert_allclose(found[row, :length], expected, atol=1e-5)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("encoder", "settings", "words"),
    [
        ("ds_cnn", {"num_bands": -1}, "encoder.num_bands: got -1, expected 0 or more"),
        ("ds_cnn", {"width": 0}, "encoder.width: got 0, expected at least 1"),
        ("ds_cnn", {"block_stride": 0}, "encoder.block_stride: got 0, expected at least 1"),
        ("ds_cnn", {"dropout": 1.0}, "encoder.dropout: got 1.0, expected 0 <= dropout < 1"),
        ("bc_resnet", {"tau": 0}, "encoder.tau: got 0, expected a multiple of 0.25 above 0"),
        ("bc_resnet", {"tau": 1.1}, "encoder.tau: got 1.1, expected a multiple of 0.25"),
        ("bc_resnet", {"num_bands": 36}, "got 36 for 5 sub_bands, expected a multiple of 40"),
        ("bc_resnet", {"blocks": [1, 0, 1, 1]}, r"encoder.blocks: got \[1, 0, 1, 1\], expected at"),
        ("bc_resnet", {"blocks": [1, 1]}, r"got \[1, 1\], expected a list of 4 values"),
        ("mhatt_rnn", {"kernel": 4}, "encoder.kernel: got 4, expected an odd number"),
        ("mhatt_rnn", {"num_heads": 0}, "encoder.num_heads: got 0, expected at least 1"),
        ("mhatt_rnn", {"query": "last"}, "got 'last', expected one of 'each', 'middle'"),
        ("hybrid", {"num_heads": 5}, "encoder.width: got 96 for 5 heads, expected a multiple of"),
        ("hybrid", {"kernel": 2}, "encoder.kernel: got 2, expected an odd number"),
        ("hybrid", {"num_blocks": 0}, "encoder.num_blocks: got 0, expected at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(encoder, settings, words):
    with pytest.raises(ConfigError, match=words):
        ENCODERS.from_mapping({"type": encoder, **settings})


@pytest.mark.parametrize(
    ("encoder", "why"),
    [
        ("bc_resnet", "which is not streamed"),
        ("ds_cnn", "which is not streamed"),
        ("hybrid", "of which every step sees the end"),
        ("mhatt_rnn", "of which every step sees the end"),
    ],
)
def test_none_of_them_streams_and_each_says_why(encoder, why):
    sections = {
        "features": {"normalisation": "training"},
        "encoder": {"type": encoder},
        "head": {"type": "classification"},
    }
    with pytest.raises(ExportError, match=rf"encoder\.type: got '{encoder}', {why}") as caught:
        check_streaming(ModelConfig.from_mapping(sections))
    assert "\n" not in str(caught.value)
