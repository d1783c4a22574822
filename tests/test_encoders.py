import dataclasses
import functools
import json
from typing import Any

import numpy as np
import pytest
from keras import ops
from model_fixtures import encoder_cases, graph, randomise

from speechrnn.encoders import ENCODERS
from speechrnn.encoders.recurrent import Recurrent
from speechrnn.encoders.transformer import rotated
from speechrnn.errors import ConfigError

WIDTH = 4  # features of a frame
LENGTHS = np.array([11, 1, 8, 2])
PADDED = 15
# float32 sums of some hundred terms near 1, taken in another order.
TOLERANCE = 2e-6

every_encoder = pytest.mark.parametrize("config", encoder_cases())


@functools.cache
def built(config: Any) -> Any:
    return build(config)


def build(config: Any) -> Any:
    layer = config.build_layer()
    layer(np.zeros((1, 12, WIDTH), np.float32))
    return randomise(layer)


def run(layer: Any, frames: np.ndarray, mask: Any = None, training: bool = False) -> np.ndarray:
    if training:
        return ops.convert_to_numpy(layer(frames, frame_mask=mask, training=True)[0])
    arguments = (frames,) if mask is None else (frames, mask)
    return ops.convert_to_numpy(compiled(layer, len(arguments))(*arguments))


@functools.cache
def compiled(layer: Any, num_arguments: int) -> Any:
    specs = [([None, None, WIDTH], "float32"), ([None, None], "bool")]
    return graph(lambda *arguments: layer(*arguments)[0], *specs[:num_arguments])


def random_frames(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((*shape, WIDTH)).astype(np.float32)


def junk_padded(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Frames with values far from any true one behind each row's end, and their mask."""
    frames = random_frames(len(LENGTHS), PADDED, seed=seed)
    mask = np.arange(PADDED) < LENGTHS[:, None]
    frames[~mask] = 30 + 50 * random_frames(len(LENGTHS), PADDED, seed=seed + 1)[~mask]
    return frames, mask


def has_statistics(layer: Any) -> bool:
    return any("running_mean" in variable.path for variable in layer.non_trainable_variables)


def difference_to_alone(layer: Any, config: Any, frames: np.ndarray, encoded: np.ndarray) -> float:
    differences = []
    for row, length in enumerate(LENGTHS):
        alone = run(layer, frames[row : row + 1, :length])[0]
        assert len(alone) == config.output_frames(int(length))
        differences.append(np.abs(encoded[row, : len(alone)] - alone).max())
    return float(max(differences))


@every_encoder
def test_a_row_padded_with_junk_equals_the_row_alone(config):
    layer = built(config)
    frames, mask = junk_padded()
    assert difference_to_alone(layer, config, frames, run(layer, frames, mask)) < TOLERANCE


@every_encoder
def test_a_layer_called_step_by_step_equals_itself_compiled_for_unknown_lengths(config):
    layer = built(config)
    frames, mask = junk_padded()
    eager = ops.convert_to_numpy(layer(frames, frame_mask=mask)[0])
    assert difference_to_alone(layer, config, frames, eager) < TOLERANCE


@every_encoder
def test_the_comparison_with_alone_sees_a_forgotten_mask(config):
    if not getattr(config, "bidirectional", True) and not config.conv_filters:
        pytest.skip("an encoder that reads forwards only never meets what lies behind the end")
    if not getattr(config, "bidirectional", True) and config.conv_kernel // 2 == 0:
        pytest.skip("a convolution over one frame never meets what lies behind the end")
    layer = built(config)
    frames, _ = junk_padded()
    assert difference_to_alone(layer, config, frames, run(layer, frames)) > 1e-2


@every_encoder
def test_a_batch_of_one_length_equals_its_rows_alone(config):
    layer = built(config)
    frames = random_frames(3, 11)
    together = run(layer, frames)
    alone = np.concatenate([run(layer, frames[row : row + 1]) for row in range(3)])
    np.testing.assert_allclose(together, alone, rtol=0, atol=TOLERANCE)


@every_encoder
def test_no_mask_equals_a_mask_that_is_true_everywhere(config):
    layer = built(config)
    frames = random_frames(2, 11)
    without = run(layer, frames)
    np.testing.assert_allclose(
        run(layer, frames, np.ones((2, 11), bool)), without, rtol=0, atol=TOLERANCE
    )
    assert layer(frames)[1] is None


@every_encoder
def test_output_frames_is_the_number_of_vectors_and_of_true_mask_entries(config):
    layer = built(config)
    for num_frames in (1, 2, 3, 4, 5, 8, 9):
        assert run(layer, random_frames(1, num_frames)).shape[1] == config.output_frames(num_frames)
    frames, mask = junk_padded()
    encoded, encoded_mask = layer(frames, frame_mask=mask)
    encoded_mask = ops.convert_to_numpy(encoded_mask)
    assert encoded_mask.shape == encoded.shape[:2]
    expected = [config.output_frames(int(length)) for length in LENGTHS]
    assert encoded_mask.sum(axis=1).tolist() == expected
    assert not np.any(~encoded_mask[:, :-1] & encoded_mask[:, 1:])  # true, then false


@every_encoder
def test_output_frames_takes_tensors_and_gives_one_frame_at_least_one_vector(config):
    lengths = ops.convert_to_tensor(LENGTHS.astype(np.int32))
    expected = [config.output_frames(int(length)) for length in LENGTHS]
    assert ops.convert_to_numpy(config.output_frames(lengths)).tolist() == expected
    assert config.output_frames(1) >= 1


@pytest.mark.parametrize(
    "config", [c for c in encoder_cases() if c.values[0].output_frames(2) == 1]
)
def test_the_strided_convolution_stays_in_step_however_long_the_padding_is(config):
    layer = built(config)
    true = random_frames(1, 10)
    alone = run(layer, true)
    for padding in range(1, 6):
        padded = np.concatenate([true, 40 + random_frames(1, padding, seed=padding)], axis=1)
        mask = np.arange(10 + padding)[None] < 10
        encoded = run(layer, padded, mask)[:, : alone.shape[1]]
        np.testing.assert_allclose(encoded, alone, rtol=0, atol=TOLERANCE)


@every_encoder
def test_every_trainable_variable_gets_a_gradient(config):
    tf = pytest.importorskip("tensorflow")
    layer = built(config)
    frames, mask = junk_padded()
    with tf.GradientTape() as tape:
        encoded, encoded_mask = layer(frames, frame_mask=mask)
        weight = ops.cast(encoded_mask, "float32")[..., None]
        loss = ops.sum(ops.square(encoded) * weight)
    gradients = tape.gradient(loss, [v.value for v in layer.trainable_variables])
    for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(gradient).max() > 0, variable.path


@pytest.mark.parametrize("config", encoder_cases(bidirectional=True))
def test_a_bidirectional_encoder_sees_both_ends_from_each(config):
    layer = built(config)
    frames = random_frames(1, 12)
    before = run(layer, frames)
    for changed, seen in ((-1, 0), (0, -1)):
        other = frames.copy()
        bump = np.linspace(-3, 3, frames.shape[-1])  # a constant would be normalised away
        other[:, changed] += bump
        stride = next(n for n in range(1, 12) if config.output_frames(n + 1) > 1)
        if stride > 1:  # a kernel may skip single frames: change a whole step
            other[:, :stride] += bump if changed == 0 else 0
            other[:, -stride:] += bump if changed == -1 else 0
        assert np.abs(run(layer, other)[0, seen] - before[0, seen]).max() > 1e-5


@pytest.mark.parametrize("config", encoder_cases(bidirectional=False))
def test_a_one_way_encoder_does_not_see_the_future(config):
    layer = built(config)
    frames = random_frames(1, 14)
    before, changed_from = run(layer, frames), 8
    frames[:, changed_from:] += np.linspace(-3, 3, frames.shape[-1])
    after = run(layer, frames)
    ahead = config.conv_kernel // 2 if config.conv_filters else 0
    sees = np.arange(before.shape[1]) * config.conv_stride + ahead >= changed_from
    assert sees.any()
    assert not sees.all()
    np.testing.assert_array_equal(after[:, ~sees], before[:, ~sees])
    assert (np.abs(after - before).max(axis=(0, 2)) > 1e-5)[sees].all()


@every_encoder
def test_an_answer_is_the_same_every_time_outside_training(config):
    layer = built(config)
    frames = random_frames(2, 11)
    np.testing.assert_array_equal(run(layer, frames), run(layer, frames))


@every_encoder
def test_dropout_acts_while_training_and_only_then(config):
    layer = built(dataclasses.replace(config, dropout=0.5))
    plain = built(dataclasses.replace(config, dropout=0.0))
    frames = random_frames(2, 11)
    np.testing.assert_array_equal(run(layer, frames), run(plain, frames))
    first, second = (run(layer, frames, training=True) for _ in range(2))
    assert np.abs(first - second).max() > 1e-2
    without_dropout = run(plain, frames, training=True)
    # Batch normalisation goes by the batch while training: then each time alike.
    expected = run(plain, frames, training=has_statistics(plain))
    np.testing.assert_allclose(without_dropout, expected, rtol=0, atol=TOLERANCE)


@every_encoder
def test_settings_survive_json(config):
    mapping = json.loads(json.dumps(ENCODERS.to_mapping(config)))
    assert ENCODERS.from_mapping(mapping) == config


@every_encoder
def test_variables_have_names_of_their_own_which_two_layers_share(config):
    paths = [[v.path for v in build(config).trainable_variables] for _ in range(2)]
    assert paths[0] == paths[1]
    assert len(set(paths[0])) == len(paths[0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"units": 0}, ["encoder.units", "got 0", "at least 1"]),
        ({"num_layers": 0}, ["encoder.num_layers", "got 0", "at least 1"]),
        ({"conv_filters": -1}, ["encoder.conv_filters", "got -1", "0 or more"]),
        ({"conv_filters": 4, "conv_kernel": 4}, ["encoder.conv_kernel", "got 4", "odd"]),
        ({"conv_kernel": 0}, ["encoder.conv_kernel", "got 0", "at least 1"]),
        ({"conv_filters": 4, "conv_stride": 0}, ["encoder.conv_stride", "got 0", "at least 1"]),
        ({"spectral_blocks": 1}, ["encoder.spectral_blocks", "got 1", "encoder.spectral_filters"]),
        ({"spectral_channels": 0}, ["encoder.spectral_channels", "got 0", "at least 1"]),
        ({"conv_stride": 2}, ["encoder.conv_stride", "got 2", "encoder.conv_filters"]),
        ({"dropout": 1.0}, ["encoder.dropout", "got 1.0", "dropout < 1"]),
        ({"dropout": -0.1}, ["encoder.dropout", "got -0.1", "0 <="]),
        ({"dropout": float("nan")}, ["encoder.dropout", "got nan"]),
        ({"units": 6.0}, ["encoder.units", "6.0", "int"]),
        ({"bidirectional": 1}, ["encoder.bidirectional", "got 1", "bool"]),
        ({"unit": 6}, ["encoder.unit", "unknown", "units, num_layers"]),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_its_name(settings, words):
    with pytest.raises(ConfigError) as caught:
        ENCODERS.from_mapping({"type": "gru", **settings})
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_an_unknown_encoder_is_refused_with_the_list_of_known_ones():
    with pytest.raises(ConfigError, match=r"encoder\.type: got 'lstn', expected one of .*gru"):
        ENCODERS.from_mapping({"type": "lstn"})


# ------------------------------------------------------------------ an oracle in numpy


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def gru_by_hand(frames: np.ndarray, kernel: Any, recurrent: Any, bias: Any) -> np.ndarray:
    """The reset_after variant, gates in the order update, reset, candidate."""
    state, states = np.zeros(recurrent.shape[0]), []
    for frame in frames:
        from_input = np.split(frame @ kernel + bias[0], 3)
        from_state = np.split(state @ recurrent + bias[1], 3)
        update = sigmoid(from_input[0] + from_state[0])
        reset = sigmoid(from_input[1] + from_state[1])
        candidate = np.tanh(from_input[2] + reset * from_state[2])
        state = update * state + (1 - update) * candidate
        states.append(state)
    return np.array(states)


def lstm_by_hand(frames: np.ndarray, kernel: Any, recurrent: Any, bias: Any) -> np.ndarray:
    """Gates in the order entered, forgotten, candidate, output."""
    state, cell, states = np.zeros(recurrent.shape[0]), np.zeros(recurrent.shape[0]), []
    for frame in frames:
        entered, forgotten, candidate, output = np.split(
            frame @ kernel + state @ recurrent + bias, 4
        )
        cell = sigmoid(forgotten) * cell + sigmoid(entered) * np.tanh(candidate)
        state = sigmoid(output) * np.tanh(cell)
        states.append(state)
    return np.array(states)


def simple_by_hand(frames: np.ndarray, kernel: Any, recurrent: Any, bias: Any) -> np.ndarray:
    state, states = np.zeros(recurrent.shape[0]), []
    for frame in frames:
        state = np.tanh(frame @ kernel + state @ recurrent + bias)
        states.append(state)
    return np.array(states)


BY_HAND = {"gru": gru_by_hand, "lstm": lstm_by_hand, "simple_rnn": simple_by_hand}


def convolution_by_hand(
    config: Recurrent, frames: np.ndarray, weights: list[np.ndarray]
) -> np.ndarray:
    kernel, bias, gain, offset = weights
    left, found = config.conv_kernel // 2, []
    for centre in range(0, len(frames), config.conv_stride):
        total = bias.copy()
        for tap in range(config.conv_kernel):
            if 0 <= centre + tap - left < len(frames):
                total = total + frames[centre + tap - left] @ kernel[tap]
        total = (total - total.mean()) / np.sqrt(total.var() + 1e-3)  # Keras' epsilon
        found.append(np.maximum(0, total * gain + offset))
    return np.array(found)


def values_of(layer: Any) -> list[np.ndarray]:
    return [np.asarray(v, np.float64) for v in layer.weights]


def normed_by_hand(found: np.ndarray, norm: Any) -> np.ndarray:
    """Batch normalisation with its running statistics."""
    gain, offset, mean, variance = values_of(norm)
    return (found - mean) / np.sqrt(variance + 1e-5) * gain + offset


def convolved_by_hand(found: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Each value of a 2-D convolution as the sum over its neighbourhood, zeros around."""
    size = kernel.shape[:2]
    around = [(length // 2, length // 2) for length in size]
    padded = np.pad(found, [*around, (0, 0)])
    return np.array(
        [
            [
                np.tensordot(padded[frame : frame + size[0], band : band + size[1]], kernel, 3)
                for band in range(0, found.shape[1], stride)
            ]
            for frame in range(0, found.shape[0], stride)
        ]
    )


def spectral_by_hand(frames: np.ndarray, layer: Any) -> np.ndarray:
    matrix, bias = values_of(layer.bands)
    found = (frames @ matrix + bias)[:, :, None]
    for convolution in layer.convolutions:
        (kernel,) = values_of(convolution.convolution)
        found = convolved_by_hand(found, kernel, 2)
        found = np.maximum(0, normed_by_hand(found, convolution.norm))
    for block in layer.blocks:
        (around,), (mix,) = values_of(block.around), values_of(block.mix)
        alone = around[..., 0, None] * np.eye(around.shape[2])  # of each channel its own
        added = np.maximum(0, normed_by_hand(convolved_by_hand(found, alone, 1), block.around_norm))
        added = normed_by_hand(convolved_by_hand(added, mix, 1), block.mix_norm)
        found = np.maximum(0, found + added)
    (matrix,) = values_of(layer.merge)
    return np.maximum(0, normed_by_hand(found.reshape(len(found), -1) @ matrix, layer.merge_norm))


def encoder_by_hand(config: Recurrent, frames: np.ndarray, layer: Any) -> np.ndarray:
    weights = [np.asarray(v, np.float64) for v in layer.trainable_variables]
    if config.spectral_filters:
        spectral = layer.convolutions[0]
        frames = spectral_by_hand(frames, spectral)
        weights = weights[len(spectral.trainable_weights) :]
    for _ in range(config.conv_layers if config.conv_filters else 0):
        frames, weights = convolution_by_hand(config, frames, weights[:4]), weights[4:]
    norms = [[np.asarray(v, np.float64) for v in norm.weights] for norm in layer.norms]
    if norms:
        weights = weights[: -2 * len(norms)]
    by_hand = BY_HAND[config.prefix]
    for index in range(config.num_layers):
        entering = frames
        if norms:
            gain, offset = norms[index]
            centred = frames - frames.mean(axis=-1, keepdims=True)
            entering = centred / np.sqrt(frames.var(axis=-1, keepdims=True) + 1e-5) * gain + offset
        leaving, weights = by_hand(entering, *weights[:3]), weights[3:]
        if config.bidirectional:
            backwards, weights = by_hand(entering[::-1], *weights[:3])[::-1], weights[3:]
            leaving = np.concatenate([leaving, backwards], axis=-1)
        residual = config.residual and leaving.shape == frames.shape
        frames = frames + leaving if residual else leaving
    assert not weights
    return frames


@pytest.mark.parametrize(
    "config", [c for c in encoder_cases() if isinstance(c.values[0], Recurrent)]
)
def test_a_recurrent_encoder_computes_its_equations(config):
    layer = built(config)
    frames, mask = junk_padded(seed=5)
    encoded = run(layer, frames, mask)
    for row, length in enumerate(LENGTHS):
        expected = encoder_by_hand(config, frames[row, :length].astype(np.float64), layer)
        # float32 in the layer, float64 here; saturating gates keep the error from growing.
        np.testing.assert_allclose(encoded[row, : len(expected)], expected, rtol=0, atol=5e-6)


# --- against PyTorch


def torch_layer(torch: Any, config: Recurrent, layer: Any, num_features: int) -> Any:
    """PyTorch's layer with the weights of a Keras layer; its gates have another order."""
    kinds = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM, "simple_rnn": torch.nn.RNN}
    orders = {"gru": [1, 0, 2], "lstm": [0, 1, 2, 3], "simple_rnn": [0]}
    made = kinds[config.prefix](num_features, config.units, batch_first=True, bidirectional=True)
    order = orders[config.prefix]

    def reordered(values: np.ndarray) -> Any:
        blocks = np.split(values, len(order), axis=-1)
        return torch.tensor(np.concatenate([blocks[i] for i in order], axis=-1).T.copy())

    with torch.no_grad():
        for one_way, suffix in ((layer.forward_layer, ""), (layer.backward_layer, "_reverse")):
            kernel, recurrent, bias = (np.asarray(weight) for weight in one_way.weights[:3])
            both = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
            for name, values in (
                ("weight_ih_l0", kernel),
                ("weight_hh_l0", recurrent),
                ("bias_ih_l0", both[0]),
                ("bias_hh_l0", both[1]),
            ):
                getattr(made, name + suffix).copy_(reordered(values))
    return made


@pytest.mark.parametrize("kind", ["gru", "lstm", "simple_rnn"])
def test_a_layer_is_pytorch_s_with_the_same_weights(kind):
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency of ours: 200 MB")
    config = ENCODERS.from_mapping({"type": kind, "units": 7, "num_layers": 1})
    layer, frames = built(config), random_frames(2, 40)
    reference = torch_layer(torch, config, layer.recurrent[0], frames.shape[-1])
    expected, _ = reference(torch.tensor(frames))
    np.testing.assert_allclose(run(layer, frames), expected.detach().numpy(), rtol=0, atol=2e-6)


# --- the transformer's equations


def attention_by_hand(steps: np.ndarray, layer: Any) -> np.ndarray:
    """Query by query, head by head, in float64; pairs are turned as complex numbers."""
    (project, project_bias), (merge, merge_bias) = (
        [np.asarray(v, np.float64) for v in part.weights] for part in (layer.project, layer.merge)
    )
    parts = np.split(steps @ project + project_bias, 3, axis=-1)
    half = layer.size // 2
    speeds = 10_000.0 ** (-np.arange(half) / half)
    found = []
    for head in range(layer.num_heads):
        query, key, value = (part[:, head * layer.size : (head + 1) * layer.size] for part in parts)
        turn = np.exp(1j * np.arange(len(steps))[:, None] * speeds)
        query, key = ((part[:, :half] + 1j * part[:, half:]) * turn for part in (query, key))
        scores = np.real(query @ key.conj().T) / np.sqrt(layer.size)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        found.append(weights / weights.sum(axis=1, keepdims=True) @ value)
    return np.concatenate(found, axis=-1) @ merge + merge_bias


def test_attention_computes_its_equations_with_and_without_padding():
    config = ENCODERS.from_mapping({"type": "transformer", "width": 12, "num_heads": 3})
    layer = build(config).blocks[0].attention
    rng = np.random.default_rng(1)
    steps = rng.standard_normal((len(LENGTHS), PADDED, 12)).astype(np.float32)
    mask = np.arange(PADDED) < LENGTHS[:, None]
    found = ops.convert_to_numpy(layer(steps, step_mask=mask))
    for row, length in enumerate(LENGTHS):
        expected = attention_by_hand(steps[row, :length].astype(np.float64), layer)
        np.testing.assert_allclose(found[row, :length], expected, rtol=0, atol=2e-6)
    alone = ops.convert_to_numpy(layer(steps[:1]))
    expected = attention_by_hand(steps[0].astype(np.float64), layer)
    np.testing.assert_allclose(alone[0], expected, rtol=0, atol=2e-6)


def test_rotations_make_products_depend_on_distances_alone():
    rng = np.random.default_rng(2)
    query, key = rng.standard_normal((2, 8)).astype(np.float32)
    places = 50
    both = [
        ops.convert_to_numpy(rotated(np.tile(part, (places, 1)))).astype(np.float64)
        for part in (query, key)
    ]
    products = both[0] @ both[1].T
    for distance in (-20, -1, 0, 3, 17):
        along = np.diagonal(products, distance)
        np.testing.assert_allclose(along, along[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(products[0, 0], query @ key, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_heads": 5}, "encoder.width: got 96 for 5 heads, expected a multiple of 10"),
        ({"width": 12, "num_heads": 4}, "expected a multiple of 8"),
        ({"num_heads": 0}, "encoder.num_heads: got 0, expected at least 1"),
        ({"feed_forward": 0}, "encoder.feed_forward: got 0, expected at least 1"),
        ({"conv_kernel": 4, "conv_filters": 2}, "encoder.conv_kernel: got 4, expected an odd"),
    ],
)
def test_a_transformer_that_cannot_be_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        ENCODERS.from_mapping({"type": "transformer", **settings})
