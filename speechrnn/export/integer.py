"""Integer weights and integer activations, in the recurrent loops too ("int8").

TensorFlow's converter crashes on this (tensorflow#87468), so the flatbuffer is rewritten here. In
int8 are matrix products and convolutions behind the front end, all of a loop's body, the states
that it carries, and what only moves values between these. In float32 stay the front end, what
normalises and pools in between, and the answer.

Source of the arithmetic: TFLite's 8-bit quantization specification.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from speechrnn.errors import ExportError
from speechrnn.export.ranges import Place
from speechrnn.export.weights import is_weight, quantisation, quantise_weights
from speechrnn.flatbuffer import Graph

FLOAT, INT8 = schema.TensorType.FLOAT32, schema.TensorType.INT8
# Of a tensor that held nothing but zeros: an addition whose result has a scale 2**19 times smaller
# than what it adds makes LiteRT abort.
LEAST_SCALE = 1e-4
MOST_BIAS = 2**30
# Scale and zero point that the specification prescribes for what these put out.
_PRESCRIBED = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}
# Operator -> its version with int8. Products are integers where their weights are.
_PRODUCTS = {"FULLY_CONNECTED": 4, "CONV_2D": 3}
_ARITHMETIC = {"ADD": 2, "SUB": 3, "MUL": 2, "LOGISTIC": 2, "TANH": 2}
# These move values: what goes in and what comes out have one scale.
_MOVES = {
    "CONCATENATION": 2,
    "SPLIT": 2,
    "STRIDED_SLICE": 2,
    "SLICE": 2,
    "RESHAPE": 1,
    "GATHER": 2,
    "DYNAMIC_UPDATE_SLICE": 1,
    "PAD": 2,
    "REVERSE_V2": 3,
    "TRANSPOSE": 2,
    "PACK": 2,
}
_VERSIONS = {**_PRODUCTS, **_ARITHMETIC, **_MOVES}


def with_integers(content: bytes, ranges: Mapping[Place, tuple[float, float]]) -> bytes:
    """The flatbuffer with integers where TFLite computes with them.

    Args:
        content: A flatbuffer in float32.
        ranges: What its tensors hold on recordings, from :func:`ranges.find_ranges`.

    Raises:
        ExportError: A loop holds an operator that is not known in integers.
    """
    return _Rewriting(Graph(content), ranges).run()


class _Rewriting:
    """One flatbuffer on its way from floats to integers."""

    def __init__(self, graph: Graph, ranges: Mapping[Place, tuple[float, float]]) -> None:
        self.graph, self.ranges = graph, ranges
        self.main = graph.subgraphs[0]
        self.loops = [op for op in self.main.operators if graph.kind(op) == "WHILE"]
        self.bodies = [loop.builtinOptions.bodySubgraphIndex for loop in self.loops]
        self.together = _Groups()
        self.prescribed: dict[Place, tuple[float, int]] = {}
        self.scales: dict[Place, np.ndarray] = {}  # of weights
        self.biases: dict[tuple[Any, ...], int] = {}  # steps of a loop share them

    def run(self) -> bytes:
        integer_operators = self._choose()
        for number in (0, *self.bodies):
            for operator in self.graph.subgraphs[number].operators:
                if number or id(operator) in integer_operators:
                    self._relate(number, operator)
        for body in self.bodies:
            for operator in self.graph.subgraphs[body].operators:
                self._products(body, operator)
            self._retype(body)
        for loop in self.loops:
            self._retype(loop.builtinOptions.condSubgraphIndex)
        self._rewrite_main(integer_operators)
        return self.graph.to_bytes()

    # -------------------------------------------------- which operators, and which scales

    def _choose(self) -> set[int]:
        """The main graph's integer operators: products, loops, and moves of what these make."""
        chosen: set[int] = set()
        integers: set[int] = set()
        for operator in self.main.operators:
            kind = self.graph.kind(operator)
            product = kind in _PRODUCTS and is_weight(
                self.graph, self.main, operator, operator.inputs[1]
            )
            moves = kind in _MOVES and not integers.isdisjoint(map(int, operator.inputs))
            if product or moves or kind == "WHILE":
                chosen.add(id(operator))
                integers.update(map(int, operator.outputs))
        return chosen

    def _relate(self, number: int, operator: Any) -> None:
        """Which tensors have one scale, and which a prescribed one."""
        kind, subgraph = self.graph.kind(operator), self.graph.subgraphs[number]
        values = [(number, index) for index in self._floats(number, operator)]
        if kind == "WHILE":
            options = operator.builtinOptions
            body = self.graph.subgraphs[options.bodySubgraphIndex]
            condition = self.graph.subgraphs[options.condSubgraphIndex]
            for before, inside, after, asked, result in zip(
                *(operator.inputs, body.inputs, body.outputs, condition.inputs, operator.outputs),
                strict=True,
            ):
                if self.main.tensors[before].type == FLOAT:
                    same = [(options.bodySubgraphIndex, int(i)) for i in (inside, after)]
                    same += [(options.condSubgraphIndex, int(asked))]
                    self.together.join([(0, int(before)), *same, (0, int(result))])
        elif kind in _MOVES:
            self.together.join(values)
        elif kind in _PRESCRIBED:
            self.prescribed[number, int(operator.outputs[0])] = _PRESCRIBED[kind]
        elif number and values and kind not in _VERSIONS:
            name = subgraph.tensors[operator.outputs[0]].name.decode()
            raise ExportError(
                f"{name}: {kind} inside a recurrent loop is not known in int8; expected one of "
                f"{', '.join(sorted(_VERSIONS))}; export with --quantize dynamic"
            )

    def _floats(self, number: int, operator: Any) -> Iterator[int]:
        """Its float tensors that are no weights and no biases."""
        tensors = self.graph.subgraphs[number].tensors
        inputs = operator.inputs
        if self.graph.kind(operator) in _PRODUCTS:
            inputs = inputs[:1]
        for index in [*inputs, *operator.outputs]:
            if index >= 0 and tensors[index].type in (FLOAT, INT8):
                yield int(index)

    def _parameters(self, place: Place) -> tuple[float, int]:
        """Scale and zero point of a tensor, which are those of its group."""
        members = self.together.members(place)
        for member in members:
            if member in self.prescribed:
                return self.prescribed[member]
        low, high = 0.0, 0.0  # zero has an integer of its own, for padding and for states
        for number, index in members:
            values = self.graph.constant(self.graph.subgraphs[number].tensors[index])
            seen = self.ranges.get((number, index), (0.0, 0.0))
            if values is not None and values.dtype == np.float32 and values.size:
                seen = float(values.min()), float(values.max())
            low, high = min(low, seen[0]), max(high, seen[1])
        scale = max((high - low) / 255, LEAST_SCALE)
        return scale, int(np.clip(round(-128 - low / scale), -128, 127))

    # -------------------------------------------------- tensors and operators

    def _retype(self, number: int) -> None:
        """Every float tensor of a loop's subgraph becomes an integer one."""
        subgraph = self.graph.subgraphs[number]
        used = {int(i) for op in subgraph.operators for i in [*op.inputs, *op.outputs]}
        used |= {int(i) for i in [*subgraph.inputs, *subgraph.outputs]}
        for index in sorted(used - {-1}):
            if subgraph.tensors[index].type == FLOAT:
                self._make_integer(number, index)
        for operator in subgraph.operators:
            kind = self.graph.kind(operator)
            if kind in _VERSIONS:
                self.graph.code(kind, _VERSIONS[kind])

    def _make_integer(self, number: int, index: int) -> None:
        tensor = self.graph.subgraphs[number].tensors[index]
        scale, zero = self._parameters((number, index))
        values = self.graph.constant(tensor)
        if values is not None:
            integers = np.clip(np.rint(values / scale) + zero, -128, 127).astype(np.int8)
            self.graph.set_constant(tensor, integers, INT8)
        tensor.type = INT8
        tensor.quantization = quantisation(np.array([scale]), np.array([zero]))

    def _products(self, number: int, operator: Any) -> None:
        """Weights by channel, and the bias in the products' own scale."""
        if self.graph.kind(operator) not in _PRODUCTS:
            return
        subgraph = self.graph.subgraphs[number]
        source, weight, *rest = (int(index) for index in operator.inputs)
        scale = self._parameters((number, source))[0]
        biased = bool(rest) and rest[0] >= 0
        if (number, weight) not in self.scales:
            offset = self.graph.constant(subgraph.tensors[rest[0]]) if biased else None
            # A bias is stored in units of both scales, and has to fit into 32 bits.
            least = 0.0 if offset is None else np.abs(offset) / scale / MOST_BIAS
            self.scales[number, weight] = quantise_weights(
                self.graph, subgraph.tensors[weight], least_scales=least
            )
        if not biased:
            return
        key = number, weight, rest[0], scale
        if key not in self.biases:
            bias = subgraph.tensors[rest[0]]
            values, scales = self.graph.constant(bias), self.scales[number, weight] * scale
            assert values is not None
            self.biases[key] = self.graph.add_tensor(subgraph, bias, schema.TensorType.INT32)
            own = subgraph.tensors[self.biases[key]]
            integers = np.rint(values / scales).astype(np.int32)
            self.graph.set_constant(own, integers, schema.TensorType.INT32)
            own.quantization = quantisation(scales, np.zeros(len(scales)))
        operator.inputs = np.array([source, weight, self.biases[key]], np.int32)

    def _rewrite_main(self, integer_operators: set[int]) -> None:
        """Integers where they were chosen, and operators that convert where they meet floats."""
        rewritten: list[Any] = []
        made: set[int] = set()  # tensors that integer operators put out
        converted: dict[int, int] = {}

        def convert(index: int, kind: str, to: int) -> int:
            if index not in converted:
                converted[index] = self.graph.add_tensor(self.main, self.main.tensors[index], to)
                if to == INT8:
                    scale, zero = self._parameters((0, index))
                    tensor = self.main.tensors[converted[index]]
                    tensor.quantization = quantisation(np.array([scale]), np.array([zero]))
                rewritten.append(self.graph.make_operator(kind, [index], [converted[index]]))
            return converted[index]

        for operator in self.main.operators:
            inputs = [int(index) for index in operator.inputs]
            if id(operator) in integer_operators:
                values = set(self._floats(0, operator))
                self._products(0, operator)
                inputs = [int(index) for index in operator.inputs]
                entering = [
                    convert(i, "QUANTIZE", INT8) if i in values and i not in made else i
                    for i in inputs
                ]
                for index in map(int, operator.outputs):
                    if self.main.tensors[index].type == FLOAT:
                        made.add(index)
                        self._make_integer(0, index)
                kind = self.graph.kind(operator)
                if kind in _VERSIONS:
                    self.graph.code(kind, _VERSIONS[kind])
            else:
                entering = [convert(i, "DEQUANTIZE", FLOAT) if i in made else i for i in inputs]
            operator.inputs = np.array(entering, np.int32)
            rewritten.append(operator)
        answers = {
            int(i): convert(int(i), "DEQUANTIZE", FLOAT) for i in self.main.outputs if i in made
        }
        self.graph.replace_outputs(answers)
        self.main.operators = rewritten


class _Groups:
    """Disjoint sets of places."""

    def __init__(self) -> None:
        self._of: dict[Place, set[Place]] = {}

    def join(self, places: list[Place]) -> None:
        joined: set[Place] = set()
        for place in places:
            joined |= self.members(place)
        for place in joined:
            self._of[place] = joined

    def members(self, place: Place) -> set[Place]:
        return self._of.get(place, {place})
