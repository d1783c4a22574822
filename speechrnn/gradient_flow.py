"""How far back an error reaches: gradients of the loss at the last step, step by step.

The loss is that of an answer to the last true vector alone, so that whatever a layer did earlier
can only have reached it through the layer and those above. Of a recurrent layer the gradient is
that with respect to all that it carries over from step t (both directions; of an LSTM the memory
cell too); of other layers, that with respect to the vector that comes in at step t.

Source: Hochreiter 1991; Bengio et al. 1994, "Learning long-term dependencies with gradient descent
is difficult"; Pascanu et al. 2013, arXiv:1211.5063.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from speechrnn.encoders.stepwise import Cell, directions, run_stepwise
from speechrnn.features import length_mask
from speechrnn.gradient_rates import Flow, flow_of
from speechrnn.model import SpeechModel


class GradientFlow:
    """Measures a model as its weights are at the time; nothing random, nothing left behind.

    Needs Keras on TensorFlow.
    """

    def __init__(self, model: SpeechModel) -> None:
        self._model = model
        self._names: list[str] = []
        signature = [tf.TensorSpec([None, None]), tf.TensorSpec([None], tf.int32)]
        norms = tf.function(self._gradient_norms, input_signature=signature)
        self._norms = norms.get_concrete_function()

    def measure(self, inputs: Mapping[str, np.ndarray]) -> list[Flow]:
        """One entry a layer, from the first to the last.

        Args:
            inputs: ``waveform`` float32 ``[batch, samples]``, ``num_samples`` int32 ``[batch]``;
                at least one row of ``FEWEST_STEPS`` steps.
        """
        config = self._model.config
        steps = np.array([config.num_steps(int(length)) for length in inputs["num_samples"]])
        padded = config.num_steps(inputs["waveform"].shape[1])
        tensors = [tf.convert_to_tensor(inputs[name]) for name in ("waveform", "num_samples")]
        found = {name: norms.numpy() for name, norms in self._norms(*tensors).items()}
        return [
            flow_of(name, found[name], steps)
            for name in self._names
            if found[name].shape[1] == padded  # of the layers that see these steps
        ]

    def _gradient_norms(self, waveform: Any, num_samples: Any) -> dict[str, Any]:
        """float64 ``[batch, steps]`` of each layer."""
        model = self._model
        frames = model.front_end(waveform, num_samples)
        mask = length_mask(model.config.features.num_frames(num_samples), tf.shape(frames)[1])
        probes: dict[str, list[Any]] = {}
        with tf.GradientTape() as tape, _probed(model.encoder, tape, probes):
            encoded, mask = model.encoder(frames, frame_mask=mask, training=False)
            loss = _last_loss(model, encoded, mask)
        self._names = list(probes)
        gradients = tape.gradient(loss, probes, unconnected_gradients="zero")
        return {
            name: tf.sqrt(tf.add_n([_squares(part) for part in parts]))
            for name, parts in gradients.items()
        }


def _last_loss(model: SpeechModel, encoded: Any, mask: Any) -> Any:
    """Cross entropy of the answers to each row's last true vector alone, summed over the rows.

    Each row has another column for its label: to the right one a trained model's error is nearly 0.
    """
    last = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1) - 1
    vectors = tf.gather(encoded, last, batch_dims=1)[:, None]
    logits = model.head(vectors, training=False)
    logits = tf.reshape(logits, (tf.shape(encoded)[0], logits.shape[-1]))
    labels = tf.range(tf.shape(logits)[0]) % logits.shape[-1]
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return tf.reduce_sum(losses)


@contextmanager
def _probed(encoder: Any, tape: tf.GradientTape, probes: dict[str, list[Any]]) -> Iterator[None]:
    """Within, zeros are added where gradients are wanted; they are in ``probes``, by layer."""

    def zeros(layer: keras.Layer, like: Any) -> Any:
        probe = tf.zeros_like(like)
        tape.watch(probe)
        probes.setdefault(layer.name, []).append(probe)
        return probe

    recurrent, blocks = getattr(encoder, "run_layer", None), _blocks(encoder)
    if recurrent:
        encoder.run_layer = functools.partial(_run_probed, zeros)
    calls = [(layer, layer.call) for layer in blocks]
    for layer, call in calls:
        layer.call = functools.partial(_call_probed, zeros, layer, call)
    try:
        yield
    finally:
        for layer, _ in calls:
            del layer.call
        if recurrent:
            encoder.run_layer = recurrent


def _blocks(encoder: keras.Layer) -> list[keras.Layer]:
    """The layers that an encoder consists of: those that hold others, or else those with weights.

    Recurrent ones do not get here when they are called through ``run_layer``.
    """
    found = encoder._flatten_layers(include_self=False, recursive=False)
    weighted = [layer for layer in found if layer.weights]
    holding = [layer for layer in weighted if any(_inner(layer))]
    return holding or weighted


def _inner(layer: keras.Layer) -> list[keras.Layer]:
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _call_probed(zeros: Any, layer: Any, call: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
    return call(inputs + zeros(layer, inputs), *rest, **named)


def _run_probed(zeros: Any, layer: Any, frames: Any, mask: Any, training: bool) -> Any:
    """In the place of ``run_layer``: something is added to all that leaves each step."""
    given = [
        zeros(layer, tf.repeat(frames[..., :1], sum(_state_sizes(direction)), axis=-1))
        for direction in directions(layer)
    ]
    return run_stepwise(layer, frames, mask, training, given, _add)


def _state_sizes(direction: keras.Layer) -> list[int]:
    sizes = direction.cell.state_size
    return list(sizes) if isinstance(sizes, list | tuple) else [sizes]


def _add(cell: Cell, frame: Any, states: list[Any], added: Any) -> tuple[Any, list[Any]]:
    """A step; the first of what is carried is also what the layer puts out."""
    _, states = cell(frame, states)
    parts = tf.split(added, [state.shape[-1] for state in states], axis=-1)
    states = [state + part for state, part in zip(states, parts, strict=True)]
    return states[0], states


def _squares(gradient: Any) -> Any:
    """Sums over all but batch and time, in float64: the square of a small float32 is 0."""
    return tf.reduce_sum(
        tf.square(tf.cast(gradient, tf.float64)), axis=list(range(2, len(gradient.shape)))
    )
