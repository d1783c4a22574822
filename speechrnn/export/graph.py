"""The recurrent layers as TFLite runs them fast: Keras' weights, another order of the same sums.

What Keras' own layers become in TFLite spends most of its time around the arithmetic. Here

- the inputs of all steps are projected at once, before the loop;
- both directions step in one loop, and their element-wise operations are one operation;
- an iteration takes :data:`STEPS` steps, reads their inputs with one GATHER, and writes their
  outputs with one DYNAMIC_UPDATE_SLICE. These two alone keep every tensor of the loop's body of
  fixed shape, which is worth more than all the rest: a tensor list or a slice at a computed place
  makes the interpreter allocate the body's tensors anew in every iteration.

docs/adr/0010-export-graph.md has the measurements.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from speechrnn.errors import ExportError
from speechrnn.export.front_end import can_factor, log_mel
from speechrnn.model import SpeechModel

# Steps an iteration; a sequence is filled up to a multiple. More copies of the weights, as the
# interpreter packs them for each step, then fit no cache.
STEPS = 4


def answer(model: SpeechModel, waveform: Any) -> Any:
    """``model.serve``, with the front end and recurrent layers that TFLite runs fast."""
    loops = (
        [(model.encoder, "run_layer", run_in_loop)] if hasattr(model.encoder, "run_layer") else []
    )
    with with_replaced(model, loops):
        return model.serve(waveform)


@contextmanager
def with_replaced(
    model: SpeechModel, functions: Sequence[tuple[Any, str, Callable[..., Any]]]
) -> Iterator[None]:
    """Within, layers have these functions under these names, and the front end its fast one."""
    replaced, features = list(functions), model.config.features
    if can_factor(features):
        replaced.append((model.front_end, "log_mel", functools.partial(log_mel, features)))
    before = [getattr(layer, name) for layer, name, _ in replaced]
    for layer, name, function in replaced:
        setattr(layer, name, function)
    try:
        yield
    finally:  # the model's own graph is traced too when it is saved
        for (layer, name, _), own in zip(replaced, before, strict=True):
            setattr(layer, name, own)


def run_in_loop(layer: keras.Layer, frames: Any, mask: Any, training: bool) -> tf.Tensor:
    """What a recurrent Keras layer makes of whole, unpadded frames.

    Args:
        layer: ``GRU``, ``LSTM`` or ``SimpleRNN`` that returns sequences, or a ``Bidirectional`` of
            one that concatenates.
        frames: float32 ``[batch, time, features]``, of a batch that is known.
        mask: None; every frame is true.
        training: False.

    Returns:
        float32 ``[batch, time, units]``, or twice as wide for two directions.

    Raises:
        ExportError: The layer is another, or set up in another way.
    """
    if mask is not None or training:
        raise ExportError("the exported graph takes whole frames without a mask, to answer only")
    directions = directions_of(layer)
    step, num_states = step_of(layer)
    batch, features = frames.shape[0], frames.shape[2]
    rows = _swapped(frames, batch)  # [time, batch * features]
    num_frames = tf.shape(rows)[0]
    iterations = (num_frames + STEPS - 1) // STEPS
    filling = [[0, iterations * STEPS - num_frames], [0, 0]]
    projected = []
    for direction in directions:
        ordered = tf.pad(tf.reverse(rows, [0]) if direction.backwards else rows, filling)
        if batch > 1:
            ordered = tf.reshape(ordered, [-1, features])
        projected.append(tf.matmul(ordered, direction.kernel) + direction.bias)
    inputs = tf.reshape(_by_gate(projected, directions[0].gates), [iterations, -1])
    outputs = _loop(step, directions, inputs, iterations, num_states, batch)
    outputs = tf.slice(outputs, [0, 0], [num_frames, outputs.shape[1]])  # faster than [:num_frames]
    if batch > 1:
        outputs = tf.reshape(outputs, [-1, batch, outputs.shape[1] // batch])
    parts = tf.split(outputs, len(directions), axis=-1)
    backwards = [direction.backwards for direction in directions]
    ordered = [tf.reverse(y, [0]) if back else y for y, back in zip(parts, backwards, strict=True)]
    found = _joined(ordered)
    return tf.transpose(found, [1, 0, 2]) if batch > 1 else found[None]


def _swapped(frames: tf.Tensor, batch: int) -> tf.Tensor:
    """``[batch, time, features]`` -> ``[time, batch * features]``."""
    if batch == 1:
        return frames[0]
    return tf.reshape(tf.transpose(frames, [1, 0, 2]), [-1, batch * frames.shape[2]])


@dataclass(frozen=True)
class Direction:
    """The weights of one direction, with ``gates`` blocks of ``units`` columns.

    ``bias`` holds what may be added before the loop, ``recurrent_bias`` what may not.
    """

    kernel: np.ndarray
    bias: np.ndarray
    recurrent: np.ndarray
    recurrent_bias: np.ndarray
    backwards: bool

    @property
    def units(self) -> int:
        """Values of a state."""
        return self.recurrent.shape[0]

    @property
    def gates(self) -> int:
        """Blocks of columns: 3 of a GRU, 4 of an LSTM, 1 of a simple recurrent layer."""
        return self.recurrent.shape[1] // self.units


def _one_way(layer: keras.Layer) -> keras.Layer:
    return layer.forward_layer if isinstance(layer, keras.layers.Bidirectional) else layer


def step_of(layer: keras.Layer) -> tuple[Callable[..., tuple[tf.Tensor, ...]], int]:
    """The step of a layer's cell, and how many states it carries; the first is what it puts out."""
    return _STEPS[type(_one_way(layer))]


def directions_of(layer: keras.Layer) -> list[Direction]:
    """The weights of one direction or two.

    Raises:
        ExportError: The layer is not known, or set up in another way.
    """
    if not isinstance(layer, keras.layers.Bidirectional):
        if getattr(layer, "go_backwards", False):
            raise ExportError(f"{layer.name}: go_backwards is true, expected a Bidirectional layer")
        return [_direction(layer)]
    if layer.merge_mode != "concat":
        raise ExportError(f"{layer.name}: merge_mode is {layer.merge_mode!r}, expected 'concat'")
    return [_direction(layer.forward_layer), _direction(layer.backward_layer)]


def _direction(layer: keras.Layer) -> Direction:
    if type(layer) not in _STEPS:
        known = ", ".join(kind.__name__ for kind in _STEPS)
        raise ExportError(f"{layer.name}: is a {type(layer).__name__}, expected one of {known}")
    usual = layer.activation is keras.activations.tanh and layer.return_sequences
    if isinstance(layer, keras.layers.GRU | keras.layers.LSTM):
        usual &= layer.recurrent_activation is keras.activations.sigmoid
    if isinstance(layer, keras.layers.GRU):
        usual &= layer.reset_after
    if not (usual and layer.use_bias):
        raise ExportError(
            f"{layer.name}: only tanh and sigmoid, with biases, whole sequences and the reset gate "
            "after the product are exported"
        )
    with tf.init_scope():  # out of the graph that is being traced: the values themselves
        kernel, recurrent, bias = (np.array(weight, np.float32) for weight in layer.get_weights())
    recurrent_bias = np.zeros_like(recurrent[0])
    if isinstance(layer, keras.layers.GRU):  # its reset gate scales the candidate's second bias
        gates = 2 * recurrent.shape[0]
        recurrent_bias[gates:] = bias[1, gates:]
        bias = bias[0] + bias[1] - recurrent_bias
    if isinstance(layer, keras.layers.LSTM):  # the candidate last: three sigmoids side by side
        kernel, recurrent, bias = (_candidate_last(w) for w in (kernel, recurrent, bias))
    return Direction(kernel, bias, recurrent, recurrent_bias, layer.go_backwards)


def _candidate_last(weight: np.ndarray) -> np.ndarray:
    entered, forgotten, candidate, output = np.split(weight, 4, axis=-1)
    return np.concatenate([entered, forgotten, output, candidate], axis=-1)


def _by_gate(parts: Sequence[tf.Tensor], gates: int) -> tf.Tensor:
    """Gates of one direction after another -> directions of one gate after another."""
    if len(parts) == 1:
        return parts[0]
    split = [tf.split(part, gates, axis=1) for part in parts]
    return tf.concat([part[gate] for gate in range(gates) for part in split], axis=1)


def _joined(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=-1)


def _loop(
    step: Callable[..., tuple[tf.Tensor, ...]],
    directions: Sequence[Direction],
    inputs: tf.Tensor,
    iterations: tf.Tensor,
    num_states: int,
    batch: int,
) -> tf.Tensor:
    """``[iterations, STEPS * batch * gates * width]`` -> ``[steps, batch * width]``."""
    gates, width = directions[0].gates, sum(direction.units for direction in directions)

    def recurrent(state: tf.Tensor) -> list[list[tf.Tensor]]:
        """What the state adds to each gate, of each direction."""
        parts = tf.split(state, len(directions), axis=1) if len(directions) > 1 else [state]
        return [
            tf.split(tf.matmul(part, one.recurrent) + one.recurrent_bias, gates, axis=1)
            for part, one in zip(parts, directions, strict=True)
        ]

    def body(index: tf.Tensor, states: tuple[tf.Tensor, ...], outputs: tf.TensorArray) -> tuple:
        entering = tf.reshape(tf.gather(inputs, index), [STEPS * batch, gates * width])
        rows = tf.split(entering, STEPS, axis=0)
        leaving = []
        for row in rows:
            parts = [
                _joined([direction[gate] for direction in added])
                for added in [recurrent(states[0])]
                for gate in range(gates)
            ]
            states = step(row, parts, states)
            leaving.append(states[0])
        return index + 1, states, outputs.write(index, tf.reshape(tf.concat(leaving, axis), [-1]))

    axis = 0 if batch > 1 else 1
    outputs = tf.TensorArray(tf.float32, size=iterations, element_shape=[STEPS * batch * width])
    start = tuple(tf.zeros([batch, width]) for _ in range(num_states))
    *_, outputs = tf.while_loop(
        lambda index, states, outputs: index < iterations, body, (0, start, outputs)
    )
    return tf.reshape(outputs.stack(), [-1, batch * width])


def _gru(
    entering: tf.Tensor, added: Sequence[tf.Tensor], states: tuple[tf.Tensor, ...]
) -> tuple[tf.Tensor, ...]:
    """Update, reset, candidate. Source: Cho et al. 2014, with the reset gate after the product."""
    (state,) = states
    gates = 2 * state.shape[1]
    update, reset = tf.split(
        tf.sigmoid(tf.concat(added[:2], axis=1) + entering[:, :gates]), 2, axis=1
    )
    candidate = tf.tanh(reset * added[2] + entering[:, gates:])
    return (candidate + update * (state - candidate),)


def _lstm(
    entering: tf.Tensor, added: Sequence[tf.Tensor], states: tuple[tf.Tensor, ...]
) -> tuple[tf.Tensor, ...]:
    """Entered, forgotten, output, candidate. Source: Hochreiter and Schmidhuber 1997; Gers 2000."""
    state, cell = states
    gates = 3 * state.shape[1]
    opened = tf.sigmoid(tf.concat(added[:3], axis=1) + entering[:, :gates])
    entered, forgotten, output = tf.split(opened, 3, axis=1)
    candidate = tf.tanh(added[3] + entering[:, gates:])
    cell = forgotten * cell + entered * candidate
    return output * tf.tanh(cell), cell


def _simple(
    entering: tf.Tensor, added: Sequence[tf.Tensor], states: tuple[tf.Tensor, ...]
) -> tuple[tf.Tensor, ...]:
    """Source: Elman 1990."""
    return (tf.tanh(added[0] + entering),)


_STEPS: dict[type, tuple[Callable[..., tuple[tf.Tensor, ...]], int]] = {
    keras.layers.GRU: (_gru, 1),
    keras.layers.LSTM: (_lstm, 2),
    keras.layers.SimpleRNN: (_simple, 1),
}
