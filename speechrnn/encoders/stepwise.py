"""Recurrent layers with a hand in every step: on what is carried from one to the next.

Keras' own layers offer no such place. Here their cells run in Keras' own loop, with the same sums
in the same order, and are given something besides the frame at each step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers, ops

# (frame, states) -> (output, states), of one step.
Cell = Callable[[Any, list[Any]], tuple[Any, list[Any]]]
# (cell, frame, states, what is given) -> (output, states), of one step.
Step = Callable[[Cell, Any, list[Any], Any], tuple[Any, list[Any]]]


def directions(layer: keras.Layer) -> list[keras.Layer]:
    """The layer itself, or the two of a bidirectional one, forwards first."""
    if isinstance(layer, layers.Bidirectional):
        return [layer.forward_layer, layer.backward_layer]
    return [layer]


def run_stepwise(
    layer: keras.Layer, frames: Any, mask: Any, training: bool, given: Sequence[Any], step: Step
) -> Any:
    """What a recurrent layer makes of frames of which those in the mask are true.

    Args:
        layer: One that was built, or a ``Bidirectional`` of one that concatenates.
        frames: float32 ``[batch, time, features]``.
        mask: bool ``[batch, time]``, or None where every frame is true.
        training: Whether dropout acts.
        given: For each direction float32 ``[batch, time, values]``, in the order of time.
        step: Takes a cell through one step; it decides what enters the cell and what leaves.

    Returns:
        float32 ``[batch, time, units]``, or twice as wide for two directions.
    """
    outputs = []
    for direction, part in zip(directions(layer), given, strict=True):
        cell = _SteppedCell(direction.cell, step, frames.shape[-1])
        loop = layers.RNN(
            cell,
            return_sequences=True,
            go_backwards=direction.go_backwards,
            zero_output_for_mask=direction.zero_output_for_mask,
        )
        output = loop(ops.concatenate([frames, part], axis=-1), mask=mask, training=training)
        outputs.append(ops.flip(output, axis=1) if direction.go_backwards else output)
    return outputs[0] if len(outputs) == 1 else ops.concatenate(outputs, axis=-1)


class _SteppedCell(layers.Layer):
    """A cell that takes what is given together with its frame, behind it."""

    def __init__(self, cell: keras.Layer, step: Step, frame_size: int) -> None:
        super().__init__()
        self.cell, self.step, self.frame_size = cell, step, frame_size
        self.state_size = cell.state_size
        self.built = True  # its variables are those of a cell that has them

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, list[Any]]:
        """One step."""
        frame, given = inputs[:, : self.frame_size], inputs[:, self.frame_size :]

        def cell(frame: Any, states: list[Any]) -> tuple[Any, list[Any]]:
            output, states = self.cell(frame, states, training=training)
            return output, list(states) if isinstance(states, list | tuple) else [states]

        return self.step(cell, frame, list(states), given)
