"""What values the tensors of a flatbuffer take on given recordings, inside its loops too.

LiteRT keeps the tensors of the main graph when asked to, but not those of a loop's body, and its
quantizer fails on loops. So each loop is run here, iteration by iteration, as a model of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from speechrnn.flatbuffer import Graph
from speechrnn.quiet import quiet_stderr

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
    content: bytes, waveforms: Sequence[np.ndarray]
) -> dict[Place, tuple[float, float]]:
    """The range of each float tensor over all recordings.

    Args:
        content: A flatbuffer in float32.
        waveforms: float32 ``[samples]`` each.
    """
    graph, ranges = Graph(content), Ranges()
    main = _Runner(content, graph, 0)
    runners: dict[int, _Runner] = {}
    loops = [op for op in graph.subgraphs[0].operators if graph.kind(op) == "WHILE"]
    for waveform in waveforms:
        main.run([waveform[None]])
        main.note(ranges)
        for loop in loops:
            condition, body = (
                loop.builtinOptions.condSubgraphIndex,
                loop.builtinOptions.bodySubgraphIndex,
            )
            for place in (condition, body):
                if place not in runners:
                    runners[place] = _Runner(_alone(graph, place), graph, place)
            state = [main.value(int(index)) for index in loop.inputs]
            while runners[condition].run(state)[0]:
                state = runners[body].run(state)
                runners[body].note(ranges)
    return ranges.found


def _alone(graph: Graph, place: int) -> bytes:
    """A subgraph as a model."""
    alone = copy.copy(graph)
    alone.model = copy.copy(graph.model)
    alone.model.subgraphs = [graph.subgraphs[place]]
    alone.model.signatureDefs = None
    return alone.to_bytes()


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
        # What a loop puts out and nobody reads is not even filled in; its body has seen the values.
        loops = [op for op in subgraph.operators if graph.kind(op) == "WHILE"]
        of_loops = {int(index) for loop in loops for index in loop.outputs}
        self._watched = [
            index
            for index, tensor in enumerate(subgraph.tensors)
            if tensor.type == schema.TensorType.FLOAT32
            and graph.constant(tensor) is None
            and index not in of_loops
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
        return self._interpreter.get_tensor(index)

    def note(self, ranges: Ranges) -> None:
        for index in self._watched:
            ranges.see((self._place, index), self.value(index))
