"""Scales and zero points of integer tensors, from the ranges of what they hold.

Source of the prescribed ones: TFLite's 8-bit quantization specification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from speechrnn.export.ranges import Place
from speechrnn.export.weights import quantisation
from speechrnn.flatbuffer import Graph

INT8, INT16 = schema.TensorType.INT8, schema.TensorType.INT16
# Of a tensor that held nothing but zeros: an addition whose result has a scale 2**19 times smaller
# than what it adds makes LiteRT abort.
LEAST_SCALES = {INT8: 1e-4, INT16: 1e-6}
# Scale and zero point of what these put out.
_PRESCRIBED = {
    "LOGISTIC": {INT8: (1 / 256, -128), INT16: (1 / 32768, 0)},
    "TANH": {INT8: (1 / 128, 0), INT16: (1 / 32768, 0)},
}


class Scales:
    """Scale and zero point of each tensor; those that are only moved into each other share them."""

    def __init__(self, graph: Graph, ranges: Mapping[Place, tuple[float, float]]) -> None:
        self._graph, self._ranges = graph, ranges
        self._groups: dict[Place, set[Place]] = {}
        self._prescribed: dict[Place, str] = {}

    def join(self, places: Sequence[Place]) -> None:
        """These have one scale."""
        joined: set[Place] = set()
        for place in places:
            joined |= self._members(place)
        for place in joined:
            self._groups[place] = joined

    def _members(self, place: Place) -> set[Place]:
        return self._groups.get(place, {place})

    def prescribe(self, place: Place, operator: str) -> None:
        """Leave the scale to the specification, where it has one for this operator's results."""
        if operator in _PRESCRIBED:
            self._prescribed[place] = operator

    def parameters(self, place: Place, kind: int) -> tuple[float, int]:
        """Scale and zero point, in ``INT8`` or, around zero, in ``INT16``."""
        members = self._members(place)
        for member in members:
            if member in self._prescribed:
                return _PRESCRIBED[self._prescribed[member]][kind]
        low, high = 0.0, 0.0  # zero has an integer of its own, for padding and for states
        for number, index in members:
            values = self._graph.constant(self._graph.subgraphs[number].tensors[index])
            seen = self._ranges.get((number, index), (0.0, 0.0))
            if values is not None and values.dtype == np.float32 and values.size:
                seen = float(values.min()), float(values.max())
            low, high = min(low, seen[0]), max(high, seen[1])
        if kind == INT16:
            return max(max(-low, high) / 32767, LEAST_SCALES[kind]), 0
        scale = max((high - low) / 255, LEAST_SCALES[kind])
        return scale, int(np.clip(round(-128 - low / scale), -128, 127))

    def describe(self, tensor: Any, place: Place, kind: int) -> None:
        """Make a tensor one of integers, with the scale of ``place``; a constant's values too."""
        scale, zero = self.parameters(place, kind)
        values = self._graph.constant(tensor)
        if values is not None:
            dtype = np.int8 if kind == INT8 else np.int16
            bounds = np.iinfo(dtype)
            integers = np.clip(np.rint(values / scale) + zero, bounds.min, bounds.max)
            self._graph.set_constant(tensor, integers.astype(dtype), kind)
        tensor.type = kind
        tensor.quantization = quantisation(np.array([scale]), np.array([zero]))
