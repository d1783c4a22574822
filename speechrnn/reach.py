"""How far back an encoder remembers: the sound that its last vector still depends on.

The vector of the last step is compared with what it becomes when everything but the last frames
has been another sound. The more frames are kept, the less is changed by what was before them; the
reach is the largest distance at which it is still a tenth of what is changed when nothing is kept.
Of ``h(t) = a h(t - 1) + x(t)`` that is the distance at which ``a`` has become a tenth; of a
convolution it ends with what its kernel sees; attention alike to everything has no end. It asks
nothing of the loss, needs no training, and goes through every part of an encoder, unlike the
gradients of :mod:`speechrnn.gradient_flow`, which are those of one layer after another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from speechrnn.model import SpeechModel

# Part of the whole change at which the reach ends.
STILL = 0.1
# Seconds up to which it is looked for, and of sound: attention to all of it reaches ten of twenty.
LONGEST_S, SOUND_S = 10.0, 20.0
# Part of a vector that is no change of it but rounding.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Reach:
    """How far back an encoder remembers.

    Attributes:
        frames: Largest distance from the end at which the last vector still changes by a tenth;
            the longest that was looked at where it does so there too.
        shares: Part of the whole change that is left at distances of frames, from near to far.
    """

    frames: int
    shares: dict[int, float]


def measure_reach(model: SpeechModel, own: np.ndarray, other: np.ndarray) -> Reach:
    """The reach of a model's encoder, from the front end's frames on.

    Frames are exchanged, not samples: a front end that normalises by the utterance would let every
    frame know all others. Needs Keras on TensorFlow.

    Args:
        model: Its weights as they are.
        own: float32 ``[batch, samples]``, longer than :data:`LONGEST_S`.
        other: Of the same shape; what is heard in place of the beginning.
    """
    import tensorflow as tf

    width = model.config.features.num_features
    last = tf.function(
        lambda frames: model.encoder(frames, training=False)[0][:, -1],
        input_signature=[tf.TensorSpec([len(own), None, width])],
        autograph=False,
    )
    heard, instead = (np.asarray(model.front_end(waveforms)) for waveforms in (own, other))
    longest = math.ceil(1000 * LONGEST_S / model.config.features.hop_ms)
    return reach_of(lambda frames: last(frames).numpy(), heard, instead, longest)


def reach_of(
    last: Callable[[np.ndarray], np.ndarray], own: np.ndarray, other: np.ndarray, longest: int
) -> Reach:
    """The reach of what is computed from frames, looked for up to a longest distance.

    Changes are Euclidean norms over all values and rows. Between distances that double it is
    looked for by halves, on the far side of the last one at which enough is left.

    Args:
        last: float32 ``[batch, frames, features]`` -> ``[batch, width]``: the last vector.
        own: Frames, more than ``longest``.
        other: Frames of the same shape, heard in place of the beginning.
        longest: Distance in frames, at least 1.
    """
    num_frames, expected = own.shape[1], last(own)

    def change(kept: int) -> float:
        first = num_frames - kept
        heard = np.concatenate([other[:, :first], own[:, first:]], axis=1)
        return float(np.linalg.norm(last(heard) - expected))

    whole = change(0)
    if whole <= ROUNDING * np.linalg.norm(expected):
        return Reach(0, {})
    distances = [*(2**i for i in range((longest - 1).bit_length())), longest]
    shares = {distance: change(distance) / whole for distance in distances}
    near = max((distance for distance in distances if shares[distance] >= STILL), default=0)
    far = min((distance for distance in distances if distance > near), default=near)
    while far - near > 1:
        middle = (near + far) // 2
        if change(middle) / whole >= STILL:
            near = middle
        else:
            far = middle
    return Reach(near, shares)
