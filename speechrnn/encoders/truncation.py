"""Truncated backpropagation through time: how far back an error may reach.

Source: Williams and Peng 1990, "An efficient gradient-based algorithm for on-line training of
recurrent network trajectories"; here an utterance stays whole, and the loss too: what is carried
from step to step passes on, and its gradient stops at every so many steps.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
from keras import ops

from speechrnn.encoders.stepwise import Cell, directions, run_stepwise


def truncate(encoder: keras.Layer, num_steps: int) -> None:
    """Let no error in training reach back over more than so many steps of a recurrent layer.

    Borders lie every ``num_steps`` from where a direction begins to read, which for the second is
    each row's true end: a row's gradient does not depend on how far it is padded. A row of at most
    ``num_steps`` has the exact gradient.

    Args:
        encoder: A built layer that calls its recurrent layers through ``run_layer``.
        num_steps: Steps of the encoder, at least 1.
    """
    encoder.run_layer = functools.partial(_run_truncated, encoder.run_layer, num_steps)


def _run_truncated(
    run_layer: Any, num_steps: int, layer: keras.Layer, frames: Any, mask: Any, training: bool
) -> Any:
    """In the place of ``run_layer``: the same values, and no gradient over a border."""
    if not training:
        return run_layer(layer, frames, mask, training)
    places = ops.arange(ops.shape(frames)[1], dtype="int32")[None, :, None]
    given = []
    for direction in directions(layer):
        if direction.go_backwards:
            length = ops.shape(frames)[1] if mask is None else _lengths(mask)
            read = length - 1 - places
        else:
            read = places
        border = ops.cast(ops.equal(read % num_steps, 0), frames.dtype)
        given.append(border * ops.ones_like(frames[..., :1]))
    return run_stepwise(layer, frames, mask, training, given, _cut)


def _lengths(mask: Any) -> Any:
    """True steps of each row, int32 ``[batch, 1, 1]``."""
    return ops.sum(ops.cast(mask, "int32"), axis=1)[:, None, None]


def _cut(cell: Cell, frame: Any, states: list[Any], border: Any) -> tuple[Any, list[Any]]:
    """A step; what enters it at a border counts as constant."""
    return cell(frame, [ops.where(border > 0, ops.stop_gradient(s), s) for s in states])
