"""The graph of a stream: a chunk of sound and the state before it -> answers, state after it.

Chunk by chunk a model that reads in one direction answers what it would have answered to the whole,
a little later: a convolution sees what comes after its step, so that answers lag behind. What came
before is carried instead of computed again: the end of the waveform, of what each convolution sees,
and the recurrent states; of a classifier also the last encoded steps, over which it pools. No loop
is left: a chunk's steps follow each other in the graph.

A model that reads in both directions sees a look-ahead of so many steps beyond what it answers to,
instead of the end. They are answered to in the next call; until then they are carried, as the
convolutions have made them. Each layer reads answered and coming steps: forwards from its state
behind those that were answered to before, backwards from zeros behind the last. Until the end lies
within the look-ahead, answers are near those to the whole, not equal to them. Source: Zhang, Chen,
Yu, Yao, Khudanpur and Glass 2016, arXiv:1510.08983 ("latency-controlled").
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from speechrnn.decoding.detect import WINDOW_S
from speechrnn.encoders.convolution import padded
from speechrnn.encoders.subsampling import subsampled
from speechrnn.export.graph import Direction, directions_of, step_of, with_replaced
from speechrnn.model import ModelConfig, SpeechModel

# What a model of both directions sees beyond what it answers to, unless another is asked for.
LOOK_AHEAD_S = 0.48

States = tuple[Any, ...]


@dataclass(frozen=True)
class Plan:
    """How a model's stream is cut.

    Attributes:
        chunk: Samples that each call takes.
        context: Samples that go before the first chunk; the stream begins with them as its state.
        steps: Encoded steps that each call makes.
        first_step: Which step the first call's first one is; those below 0 have no meaning.
        pooled: Steps that a classifier pools over, 0 for a model that answers each step.
        frames: Frames that each call makes.
        states: Shapes of what is carried beside the samples.
        look_ahead: Steps behind the answered ones that are read too, 0 for one direction.
    """

    chunk: int
    context: int
    steps: int
    frames: int
    first_step: int
    pooled: int
    states: tuple[tuple[int, ...], ...]
    look_ahead: int = 0

    def described(self, sample_rate_hz: int) -> dict[str, Any]:
        """For the file's metadata; of one direction nothing is said of a look-ahead."""
        found = asdict(self)
        if not self.look_ahead:
            del found["look_ahead"]
            return found
        step_s = self.chunk / self.steps / sample_rate_hz
        return {**found, "look_ahead_s": round(self.look_ahead * step_s, 6)}


def plan_stream(
    model: SpeechModel, look_ahead_s: float = LOOK_AHEAD_S, *, pooled_s: float = WINDOW_S
) -> Plan:
    """How a model streams which is known to be able to.

    Args:
        model: The model. In one direction it takes the shortest chunks that it can, of one step.
        look_ahead_s: Of a model of both directions: what it sees beyond the steps that it answers
            to, in whole steps. Its chunks are as long, so that each step is computed twice; with
            shorter ones it would be more often.
        pooled_s: What a classifier pools over: as long as the recordings that it learnt from.
    """
    config = model.config
    features, stride = config.features, _stride(config)
    samples = features.hop_length * stride
    context = features.window_length - features.hop_length
    look_ahead = 0
    if getattr(config.encoder, "bidirectional", False):
        look_ahead = max(1, round(look_ahead_s * features.sample_rate_hz / samples))
    steps = max(1, look_ahead)
    tracer = _Tracer(model, None, None, {}, look_ahead)
    tracer.encode(tf.zeros([1, context + steps * samples]))
    per_step = config.head.output_name == "log_probs"
    pooled = 0 if per_step else max(1, round(pooled_s * features.sample_rate_hz / samples))
    states = tuple(tracer.shapes)
    if pooled:
        states += ((1, pooled + steps - 1, tracer.width),)
    chunk, frames = steps * samples, steps * stride
    return Plan(chunk, context, steps, frames, tracer.first, pooled, states, look_ahead)


def _stride(config: ModelConfig) -> int:
    stride = 1
    while config.encoder.output_frames(stride + 1) == 1:
        stride += 1
    return stride


def endpoint(model: SpeechModel, plan: Plan) -> tuple[Callable[..., Any], list[tf.TensorSpec]]:
    """The signature ``stream``: what it computes, and what it takes."""
    names = [f"state_{number}" for number in range(len(plan.states))]
    output = model.config.head.output_name

    def stream(
        waveform: Any, position: Any, num_frames: Any, samples: Any, *states: Any
    ) -> dict[str, Any]:
        answer, after, carried = answer_chunk(
            model, plan, waveform, position, num_frames, samples, states
        )
        return {output: answer, "samples": after, **dict(zip(names, carried, strict=True))}

    scalar = functools.partial(tf.TensorSpec, [], tf.int32)
    return stream, [
        tf.TensorSpec([1, plan.chunk], tf.float32, name="waveform"),
        scalar(name="position"),
        scalar(name="num_frames"),
        tf.TensorSpec([1, plan.context], tf.float32, name="samples"),
        *(
            tf.TensorSpec(shape, tf.float32, name=name)
            for shape, name in zip(plan.states, names, strict=True)
        ),
    ]


def answer_chunk(
    model: SpeechModel,
    plan: Plan,
    waveform: Any,
    position: Any,
    num_frames: Any,
    samples: Any,
    states: Sequence[Any],
) -> tuple[Any, Any, list[Any]]:
    """The graph of one call.

    Args:
        model: A model.
        plan: Its plan.
        waveform: float32 ``[1, chunk]``.
        position: int32 ``[]``, calls before this one.
        num_frames: int32 ``[]``, frames of the whole stream; while that is not known, any number
            that is larger.
        samples: float32 ``[1, context]``, the samples before the chunk.
        states: What the call before returned; zeros at first.

    Returns:
        What the head serves, ``[1, steps, columns]``, or ``[steps, labels]`` where each answer is
        to the ``pooled`` steps that end there; the samples and the states for the next call.
    """
    sound = tf.concat([samples, waveform], axis=1)
    rest = list(states)
    pooled = [rest.pop()] if plan.pooled else []
    tracer = _Tracer(model, position, num_frames, dict(enumerate(rest)), plan.look_ahead)
    encoded = tracer.encode(sound)
    if pooled:
        reach = plan.pooled + plan.steps - 1
        window = tf.concat([pooled[0], encoded], axis=1)[:, -reach:]
        last = position * plan.steps + plan.first_step + plan.steps
        steps = last - reach + tf.range(reach)
        # One of them is true at least: a first call that has none yet answers to zeros.
        inside = (steps >= 0) & (steps * tracer.stride() < tf.maximum(num_frames, 1))
        inside |= (tf.range(reach) == reach - 1) & (last <= 0)
        inside = inside[None]
        if plan.steps > 1:  # an answer for each step, each to its own part of the window
            newest = np.eye(plan.steps, reach, plan.pooled - 1, dtype=bool)
            own = np.tri(plan.steps, reach, plan.pooled - 1, dtype=bool)
            own &= ~np.tri(plan.steps, reach, -1, dtype=bool)
            inside = (inside & own) | newest
        logits = model.head(window, frame_mask=inside, training=False)
        tracer.after.append(window)
    else:
        logits = model.head(encoded, frame_mask=None, training=False)
    return model.answer(logits), sound[:, plan.chunk :], tracer.after


@dataclass
class _Tracer:
    """Runs a model's encoder with what is carried in the place of paddings and first states.

    Without ``num_frames`` it only finds out what is to be carried.
    """

    model: SpeechModel
    position: Any
    num_frames: Any
    before: dict[int, Any]
    look_ahead: int = 0
    after: list[Any] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    rows: int = 0  # that a call adds, where the encoder has got to, ...
    carried: int = 0  # ... how many were not answered to before, ...
    first: int = 0  # ... which row the first of the first call is, ...
    strides: list[int] = field(default_factory=list)  # ... and what it has been strided by
    width: int = 0

    def encode(self, sound: Any) -> Any:
        encoder = self.model.encoder
        replaced: list[tuple[Any, str, Callable[..., Any]]] = [
            (layer, "pad", self._carry_rows)
            for convolution in getattr(encoder, "convolutions", ())
            for layer in convolution.padding_layers
        ]
        replaced.append((encoder, "run_layer", self._carry_state))
        if self.look_ahead:
            replaced.append((encoder, "subsampled", self._carry_unanswered))
        with with_replaced(self.model, replaced):
            frames = self.model.front_end(sound)
            self.rows = frames.shape[1] or max(1, self.look_ahead) * _stride(self.model.config)
            encoded, _ = encoder(frames, training=False)
        self.width = encoded.shape[-1]
        return encoded[:, : self.rows] if self.look_ahead else encoded

    def stride(self) -> int:
        """Frames from a row to the next, where the encoder has got to.

        Rows are counted up to the end of the stream by comparing frames: TFLite Micro does not
        divide integers.
        """
        return math.prod(self.strides)

    def _indices(self) -> Any:
        return self.position * self.rows + self.first + tf.range(self.carried + self.rows)

    def _take(self, shape: tuple[int, ...]) -> Any:
        number = len(self.shapes)
        self.shapes.append(shape)
        return self.before[number] if number in self.before else tf.zeros(shape)

    def _carry_rows(
        self, frames: Any, mask: Any, kernel: int, stride: int, *, bands: int = 1
    ) -> tuple[Any, Any]:
        """Rows of a convolution: those carried, and the new ones, zeros where the stream is not."""
        del mask
        if self.num_frames is not None:
            places = self._indices()
            true = (places >= 0) & (places * self.stride() < self.num_frames)
            inside = tf.cast(true, tf.float32)
            frames = frames * tf.reshape(inside, [1, -1, *[1] * (len(frames.shape) - 2)])
        # Offline, step j is of rows j * stride - kernel // 2 and following.
        first = (self.first - kernel + kernel // 2) // stride + 1
        carried = self.first - (first * stride - kernel // 2)
        if carried < 0:  # wide strides: the first rows are of no step
            frames, carried = frames[:, -carried:], 0
        rows = frames
        if carried:  # LiteRT's C interface takes no empty tensor
            rows = tf.concat([self._take((1, carried, *frames.shape[2:])), frames], axis=1)
            self.after.append(rows[:, rows.shape[1] - carried :])
        self.first, self.rows = first, self.rows // stride
        self.strides.append(stride)
        if bands > 1:  # around the bands there are zeros as offline
            rows, _ = padded(rows, None, 1, 1, bands=bands)
        return rows, None

    def _carry_unanswered(
        self, convolutions: Any, frames: Any, mask: Any, training: bool
    ) -> tuple[Any, Any]:
        """What the convolutions made before of the look-ahead, and what they make now."""
        made, _ = subsampled(convolutions, frames, mask, training)
        rows = tf.concat([self._take((1, self.look_ahead, made.shape[2])), made], axis=1)
        self.after.append(rows[:, self.rows :])
        self.first, self.carried = self.first - self.look_ahead, self.look_ahead
        return rows, None

    def _carry_state(self, layer: Any, frames: Any, mask: Any, training: bool) -> Any:
        """A recurrent layer that goes on, and begins at the stream's first step.

        Of two directions the second begins at the last row, or at the stream's last step.
        """
        del mask, training
        forwards, *backwards = directions_of(layer)
        step, num_states = step_of(layer)
        first = tuple(self._take((1, forwards.units)) for _ in range(num_states))
        walked = _walk(step, forwards, frames, first, self._begun)
        self.after += walked[self.rows - 1]
        found = _put_out(walked)
        for direction in backwards:
            nothing = tuple(tf.zeros([1, direction.units]) for _ in range(num_states))
            walked = _walk(step, direction, frames, nothing, self._not_ended)
            found = tf.concat([found, _put_out(walked)], axis=1)
        return found[None]

    def _begun(self) -> Any:
        """Of each row 1, or 0 where it is before the stream's first; None: all are within."""
        if self.num_frames is None or self.first >= 0:
            return None
        return tf.cast(self._indices() >= 0, tf.float32)

    def _not_ended(self) -> Any:
        """Of each row 1, or 0 where it is behind the stream's last."""
        if self.num_frames is None:
            return None
        return tf.cast(self._indices() * self.stride() < self.num_frames, tf.float32)


def _put_out(walked: Sequence[States]) -> Any:
    """``[rows, units]``."""
    return tf.concat([states[0] for states in walked], axis=0)


def _walk(
    step: Callable[..., States],
    direction: Direction,
    frames: Any,
    states: States,
    inside: Callable[[], Any],
) -> list[States]:
    """The states behind each row of frames ``[1, rows, features]``, in the rows' order.

    Args:
        step: The step of a cell.
        direction: Its weights, and which way it goes.
        frames: float32 ``[1, rows, features]``.
        states: Before the row with which it begins.
        inside: Gives float32 ``[rows]``, 0 where a state stays zero; None if it nowhere does.
    """
    entering = tf.matmul(frames[0], direction.kernel) + direction.bias
    true, rows = inside(), range(frames.shape[1])
    found = []
    for row in reversed(rows) if direction.backwards else rows:
        added = tf.matmul(states[0], direction.recurrent) + direction.recurrent_bias
        parts = tf.split(added, direction.gates, axis=1)
        states = step(entering[row : row + 1], parts, states)
        if true is not None:
            states = tuple(state * true[row] for state in states)
        found.append(states)
    return found[::-1] if direction.backwards else found
