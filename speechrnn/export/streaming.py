"""The graph of a stream: a chunk of sound and the state before it -> answers, state after it.

For models that read in one direction. Chunk by chunk they answer what they would have answered to
the whole, a little later: a convolution sees what comes after its step, so that answers lag behind.
What came before is carried instead of computed again: the end of the waveform, of what each
convolution sees, and the recurrent states; of a classifier also the last encoded steps, over which
it pools. No loop is left: a chunk's steps follow each other in the graph.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from speechrnn.export.graph import directions_of, step_of, with_replaced
from speechrnn.model import ModelConfig, SpeechModel

# What a classifier pools over: the recordings that it learns from are about as long.
POOLED_S = 1.0


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
    """

    chunk: int
    context: int
    steps: int
    frames: int
    first_step: int
    pooled: int
    states: tuple[tuple[int, ...], ...]


def plan_stream(model: SpeechModel) -> Plan:
    """The shortest chunks that a model can take which is known to be able to stream."""
    config = model.config
    features, stride = config.features, _stride(config)
    samples = features.hop_length * stride
    context = features.window_length - features.hop_length
    tracer = _Tracer(model, None, None, {})
    tracer.encode(tf.zeros([1, context + samples]))
    per_step = config.head.output_name == "log_probs"
    pooled = 0 if per_step else round(POOLED_S * features.sample_rate_hz / samples)
    states = tuple(tracer.shapes)
    if pooled:
        states += ((1, pooled, tracer.width),)
    return Plan(samples, context, 1, stride, tracer.first, pooled, states)


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
        model: A model that reads in one direction.
        plan: Its plan.
        waveform: float32 ``[1, chunk]``.
        position: int32 ``[]``, calls before this one.
        num_frames: int32 ``[]``, frames of the whole stream; while that is not known, any number
            that is larger.
        samples: float32 ``[1, context]``, the samples before the chunk.
        states: What the call before returned; zeros at first.

    Returns:
        What the head serves, of each step, or of the last ``pooled`` ones; the samples and the
        states for the next call.
    """
    sound = tf.concat([samples, waveform], axis=1)
    rest = list(states)
    pooled = [rest.pop()] if plan.pooled else []
    tracer = _Tracer(model, position, num_frames, dict(enumerate(rest)))
    encoded = tracer.encode(sound)
    if pooled:
        window = tf.concat([pooled[0], encoded], axis=1)[:, -plan.pooled :]
        last = position * plan.steps + plan.first_step + plan.steps
        steps = last - plan.pooled + tf.range(plan.pooled)
        # One of them is true at least: a first call that has none yet answers to zeros.
        inside = (steps >= 0) & (steps * tracer.stride() < tf.maximum(num_frames, 1))
        inside |= (tf.range(plan.pooled) == plan.pooled - 1) & (last <= 0)
        logits = model.head(window, frame_mask=inside[None], training=False)
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
    after: list[Any] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    rows: int = 0  # of a call, where the encoder has got to, ...
    first: int = 0  # ... which row the first of the first call is, ...
    strides: list[int] = field(default_factory=list)  # ... and what it has been strided by
    width: int = 0

    def encode(self, sound: Any) -> Any:
        encoder = self.model.encoder
        layers = [*getattr(encoder, "convolutions", ())]
        replaced: list[tuple[Any, str, Callable[..., Any]]] = [
            (layer, "pad", self._carry_rows) for layer in layers
        ]
        replaced.append((encoder, "run_layer", self._carry_state))
        with with_replaced(self.model, replaced):
            frames = self.model.front_end(sound)
            self.rows = frames.shape[1] or _stride(self.model.config)
            encoded, _ = encoder(frames, training=False)
        self.width = encoded.shape[-1]
        return encoded

    def stride(self) -> int:
        """Frames from a row to the next, where the encoder has got to.

        Rows are counted up to the end of the stream by comparing frames: TFLite Micro does not
        divide integers.
        """
        return math.prod(self.strides)

    def _indices(self) -> Any:
        return self.position * self.rows + self.first + tf.range(self.rows)

    def _take(self, shape: tuple[int, ...]) -> Any:
        number = len(self.shapes)
        self.shapes.append(shape)
        return self.before[number] if number in self.before else tf.zeros(shape)

    def _carry_rows(self, frames: Any, mask: Any, kernel: int, stride: int) -> tuple[Any, Any]:
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
        rows = tf.concat([self._take((1, carried, *frames.shape[2:])), frames], axis=1)
        self.after.append(rows[:, rows.shape[1] - carried :])
        self.first, self.rows = first, self.rows // stride
        self.strides.append(stride)
        return rows, None

    def _carry_state(self, layer: Any, frames: Any, mask: Any, training: bool) -> Any:
        """A recurrent layer that goes on, and begins at the stream's first step."""
        del mask, training
        (direction,) = directions_of(layer)
        step, num_states = step_of(layer)
        states = tuple(self._take((1, direction.units)) for _ in range(num_states))
        entering = tf.matmul(frames[0], direction.kernel) + direction.bias
        begun = None
        if self.num_frames is not None and self.first < 0:
            begun = tf.cast(self._indices() >= 0, tf.float32)
        leaving = []
        for place in range(self.rows):
            added = tf.matmul(states[0], direction.recurrent) + direction.recurrent_bias
            parts = tf.split(added, direction.gates, axis=1)
            states = step(entering[place : place + 1], parts, states)
            if begun is not None:
                states = tuple(state * begun[place] for state in states)
            leaving.append(states[0])
        self.after += states
        return tf.concat(leaving, axis=0)[None]
