"""What values the tensors of a flatbuffer take on given recordings, inside its loops too.

LiteRT keeps the tensors of the main graph when asked to, but not those of a loop's body, and its
quantizer fails on loops. So each loop is run here, iteration by iteration, as a model of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from speechrnn.flatbuffer import Graph
from speechrnn.quiet import quiet_stderr
from speechrnn.runtime.streaming import Stream

# A tensor's name here: the number of its subgraph, and its own in it.
Place = tuple[int, int]


class Ranges:
    """The least and the largest value of each float tensor, at :attr:`found`."""

    def __init__(self) -> None:
        self.found: dict[Place, tuple[float, float]] = {}

    def see(self, place: Place, values: np.ndarray) -> None:
        """Widen a tensor's range to hold these values."""
        if values.size:
            low, high = self.found.get(place, (np.inf, -np.inf))
            self.found[place] = min(low, float(values.min())), max(high, float(values.max()))


def find_ranges(
    content: bytes,
    waveforms: Sequence[np.ndarray],
    metadata: Mapping[str, Any] | None = None,
) -> dict[Place, tuple[float, float]]:
    """The range of each float tensor over all recordings, of every signature.

    Where a signature takes several recordings at once, they are given in groups of as many, each
    repeated up to the length of the longest of its group, and to the others so too: all shall see
    the same values. A stream gets them one behind the other.

    Args:
        content: A flatbuffer in float32.
        waveforms: float32 ``[samples]`` each.
        metadata: What the file is to say about itself: how its stream is cut, if it has one.
    """
    graph, ranges = Graph(content), Ranges()
    entries = [_Entry(graph, signature, ranges) for signature in graph.model.signatureDefs]
    for entry in entries:
        if metadata and entry.name == metadata.get("streaming", {}).get("signature"):
            stream = Stream(_Heard(metadata, entry))
            for waveform in waveforms:
                stream.feed(waveform)
            stream.finish()
            continue
        for group in _groups(waveforms, max(entry.batch_size for entry in entries)):
            for place in range(0, len(group), entry.batch_size):
                entry(waveform=group[place : place + entry.batch_size])
    return ranges.found


def _groups(waveforms: Sequence[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Groups of about one length, float32 ``[size, samples]``; the last may have some twice."""
    ordered = sorted(waveforms, key=len)
    for place in range(0, len(ordered), size):
        group = ordered[place : place + size]
        yield np.stack([np.resize(group[i % len(group)], len(group[-1])) for i in range(size)])


class _Entry:
    """A signature that can be called, and notes what its tensors and those of its loops hold."""

    def __init__(self, graph: Graph, signature: Any, ranges: Ranges) -> None:
        number = signature.subgraphIndex
        self.name = signature.signatureKey.decode()
        self._graph, self._ranges, self._loops = graph, ranges, graph.loops(number)
        self._runner = _Runner(_from(graph, number), graph, number)
        self._runners: dict[int, _Runner] = {}  # of conditions and bodies
        inputs = {one.tensorIndex: one.name.decode() for one in signature.inputs}
        outputs = {one.tensorIndex: one.name.decode() for one in signature.outputs}
        subgraph = graph.subgraphs[number]
        self._inputs = [inputs[int(index)] for index in subgraph.inputs]
        self._outputs = [outputs[int(index)] for index in subgraph.outputs]
        self.batch_size = int(subgraph.tensors[subgraph.inputs[0]].shape[0])

    def __call__(self, **values: np.ndarray) -> dict[str, np.ndarray]:
        """What the signature's function returns."""
        found = self._runner.run([values[name] for name in self._inputs])
        self._runner.note(self._ranges)
        for loop in self._loops:
            options = loop.builtinOptions
            condition, body = map(
                self._part, (options.condSubgraphIndex, options.bodySubgraphIndex)
            )
            state = [self._runner.value(int(index)) for index in loop.inputs]
            while condition.run(state)[0]:
                state = body.run(state)
                body.note(self._ranges)
        return dict(zip(self._outputs, found, strict=True))

    def _part(self, number: int) -> _Runner:
        if number not in self._runners:
            self._runners[number] = _Runner(_from(self._graph, number), self._graph, number)
        return self._runners[number]


@dataclass(frozen=True)
class _Heard:
    """What a stream asks of a recogniser."""

    metadata: Mapping[str, Any]
    entry: _Entry

    @property
    def sample_rate_hz(self) -> int:
        return int(self.metadata["features"]["sample_rate_hz"])

    def signature(self, name: str) -> Callable[..., dict[str, np.ndarray]]:
        del name
        return self.entry


def _from(graph: Graph, number: int) -> bytes:
    """A model that begins with this subgraph."""
    begun = copy.copy(graph)
    begun.model = copy.copy(graph.model)
    others = list(graph.subgraphs)
    others[0], others[number] = others[number], others[0]
    begun.model.subgraphs = others if graph.loops(number) else others[:1]
    begun.model.signatureDefs = None
    return begun.to_bytes()


class _Runner:
    """An interpreter that keeps every tensor."""

    def __init__(self, content: bytes, graph: Graph, place: int) -> None:
        subgraph = graph.subgraphs[place]
        with quiet_stderr():
            self._interpreter = Interpreter(
                model_content=content,
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
        self._place, self._inputs = place, [int(index) for index in subgraph.inputs]
        self._outputs = [int(index) for index in subgraph.outputs]
        self._shapes: list[tuple[int, ...]] = []
        # LiteRT does not hand out what has no values, such as the rows that a stream need not keep.
        self._empty = {
            index: np.zeros(tensor.shape, np.float32)
            for index, tensor in enumerate(subgraph.tensors)
            if tensor.shape is not None and 0 in tensor.shape
        }
        # What a loop puts out and nobody reads is not even filled in; its body has seen the values.
        of_loops = {int(index) for loop in graph.loops(place) for index in loop.outputs}
        self._watched = [
            index
            for index, tensor in enumerate(subgraph.tensors)
            if tensor.type == schema.TensorType.FLOAT32
            and graph.constant(tensor) is None
            and index not in of_loops
            and index not in self._empty
        ]

    def run(self, values: Sequence[Any]) -> list[np.ndarray]:
        shapes = [np.shape(value) for value in values]
        if shapes != self._shapes:
            for index, shape in zip(self._inputs, shapes, strict=True):
                self._interpreter.resize_tensor_input(index, shape)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        for index, value in zip(self._inputs, values, strict=True):
            self._interpreter.set_tensor(index, value)
        self._interpreter.invoke()
        return [self.value(index) for index in self._outputs]

    def value(self, index: int) -> np.ndarray:
        if index in self._empty:
            return self._empty[index]
        return self._interpreter.get_tensor(index)

    def note(self, ranges: Ranges) -> None:
        for index in self._watched:
            ranges.see((self._place, index), self.value(index))
