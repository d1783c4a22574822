"""Integer weights and integer activations, in the recurrent loops too ("int8").

TensorFlow's converter crashes on this (tensorflow#87468), so the flatbuffer is rewritten here. In
int8 are matrix products and convolutions behind the front end, all of a loop's body, the states
that it carries, and arithmetic and moves between these. An LSTM's cells, which add up over many
steps, are in int16. In float32 stay the front end, what normalises and pools in between, and the
answer.

Source of the arithmetic: TFLite's 8-bit quantization specification.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from speechrnn.errors import ExportError
from speechrnn.export.ranges import Place
from speechrnn.export.scales import INT8, INT16, Scales
from speechrnn.export.weights import is_weight, quantisation, quantise_weights
from speechrnn.flatbuffer import Graph

FLOAT = schema.TensorType.FLOAT32
MOST_BIAS = 2**30
# Operator -> its version with int8. Products are integers where their weights are.
_PRODUCTS = {"FULLY_CONNECTED": 4, "CONV_2D": 3}
_CURVES = {"LOGISTIC": 2, "TANH": 2}
_SUMS = {"ADD": 2, "SUB": 3, "MUL": 2}
_ARITHMETIC = {**_CURVES, **_SUMS}
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
_INT16_VERSIONS = {"ADD": 3, "SUB": 5, "MUL": 4, "LOGISTIC": 3, "TANH": 3}
_CONVERSIONS = {"QUANTIZE": {INT8: 1, INT16: 2}, "DEQUANTIZE": {INT8: 2, INT16: 3}}


def with_integers(content: bytes, ranges: Mapping[Place, tuple[float, float]]) -> bytes:
    """The flatbuffer with integers where TFLite computes with them, in each of its signatures.

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
        self.graph, self.scales = graph, Scales(graph, ranges)
        self.wide: set[Place] = set()  # values in int16
        self.weight_scales: dict[Place, np.ndarray] = {}
        self.biases: dict[tuple[Any, ...], int] = {}  # steps of a loop share them

    def run(self) -> bytes:
        chosen: dict[int, set[int]] = {}
        conditions = []
        for number in self.graph.entries():
            chosen[number] = self._choose(number)
            for loop in self.graph.loops(number):
                options = loop.builtinOptions
                body = self.graph.subgraphs[options.bodySubgraphIndex]
                chosen[options.bodySubgraphIndex] = {id(operator) for operator in body.operators}
                conditions.append(options.condSubgraphIndex)
        for number, operators in chosen.items():
            for operator in self.graph.subgraphs[number].operators:
                if id(operator) in operators:
                    self._relate(number, operator)
        for number in self.graph.entries():
            self._widen(number)
        for number, operators in chosen.items():
            self._rewrite(number, operators)
        for number in conditions:
            subgraph = self.graph.subgraphs[number]
            for index in map(int, subgraph.inputs):
                if subgraph.tensors[index].type == FLOAT:
                    place = number, index
                    self.scales.describe(subgraph.tensors[index], place, self._kind_of(place))
        return self.graph.to_bytes()

    # -------------------------------------------------- which operators, and in which integers

    def _choose(self, number: int) -> set[int]:
        """An entry's integer operators: products, loops, and moves of what these make.

        In one that carries states itself, a stream, the arithmetic of its steps too. Elsewhere
        arithmetic is what normalises and pools, or one addition between two conversions.
        """
        subgraph = self.graph.subgraphs[number]
        steps = any(self._signature_states(number))
        chosen: set[int] = set()
        integers: set[int] = set()
        given = {int(index) for index in subgraph.inputs}  # states among them
        for operator in subgraph.operators:
            kind = self.graph.kind(operator)
            inputs = {int(index) for index in operator.inputs}
            values = {
                index
                for index in inputs
                if index >= 0
                and subgraph.tensors[index].type == FLOAT
                and self.graph.constant(subgraph.tensors[index]) is None
            }
            if kind == "CAST":  # a mask, of zeros and ones
                given.update(map(int, operator.outputs))
            known = not inputs.isdisjoint(integers)
            if (
                kind == "WHILE"
                or (
                    kind in _PRODUCTS
                    and is_weight(self.graph, subgraph, operator, operator.inputs[1])
                )
                or (kind in _MOVES and known)
                or (steps and kind in _ARITHMETIC and known and values <= integers | given)
            ):
                chosen.add(id(operator))
                integers.update(map(int, operator.outputs))
            elif kind in _MOVES and values and values <= given:
                given.update(map(int, operator.outputs))
        return chosen

    def _relate(self, number: int, operator: Any) -> None:
        """Which tensors have one scale, and which a prescribed one."""
        kind, subgraph = self.graph.kind(operator), self.graph.subgraphs[number]
        values = [(number, index) for index in self._floats(number, operator)]
        self.scales.prescribe((number, int(operator.outputs[0])), kind)
        if kind == "WHILE":
            for places in self._carried(number, operator):
                self.scales.join(places)
        elif kind in _MOVES:
            self.scales.join(values)
        elif values and kind not in _VERSIONS:
            name = subgraph.tensors[operator.outputs[0]].name.decode()
            raise ExportError(
                f"{name}: {kind} inside a recurrent loop is not known in int8; expected one of "
                f"{', '.join(sorted(_VERSIONS))}; export with --quantize dynamic"
            )

    def _carried(self, number: int, loop: Any) -> Iterator[list[Place]]:
        """Of each value that a loop carries: in the body before and after, and everywhere else.

        But not the constant that it begins with: several may begin with the same zeros.
        """
        options = loop.builtinOptions
        body = self.graph.subgraphs[options.bodySubgraphIndex]
        condition = self.graph.subgraphs[options.condSubgraphIndex]
        for before, inside, after, asked, result in zip(
            *(loop.inputs, body.inputs, body.outputs, condition.inputs, loop.outputs), strict=True
        ):
            tensor = self.graph.subgraphs[number].tensors[before]
            if tensor.type == FLOAT:
                places = [(options.bodySubgraphIndex, int(index)) for index in (inside, after)]
                places += [(options.condSubgraphIndex, int(asked)), (number, int(result))]
                if self.graph.constant(tensor) is None:
                    places.append((number, int(before)))
                yield places

    def _widen(self, number: int) -> None:
        """Give int16 to what adds up from step to step and enters no product: an LSTM's cells."""
        carried = [
            places for loop in self.graph.loops(number) for places in self._carried(number, loop)
        ]
        carried += self._signature_states(number)
        for inside, after, *elsewhere in carried:
            subgraph = self.graph.subgraphs[inside[0]]
            readers = {
                self.graph.kind(op) for op in subgraph.operators if inside[1] in map(int, op.inputs)
            }
            made_by = {
                self.graph.kind(op) for op in subgraph.operators if after[1] in map(int, op.outputs)
            }
            if readers and readers <= _ARITHMETIC.keys() and made_by <= _SUMS.keys():
                self.wide |= {inside, after, *elsewhere}
                for operator in subgraph.operators:
                    if self._is_wide_sum(inside[0], operator):
                        self.wide |= {(inside[0], int(index)) for index in operator.outputs}

    def _signature_states(self, number: int) -> Iterator[list[Place]]:
        """What a caller carries from one call to the next: an input and an output of one name."""
        for signature in self.graph.model.signatureDefs or []:
            if signature.subgraphIndex == number:
                outputs = {one.name: one.tensorIndex for one in signature.outputs}
                for one in signature.inputs:
                    if one.name in outputs:
                        yield [(number, one.tensorIndex), (number, outputs[one.name])]

    def _is_wide_sum(self, number: int, operator: Any) -> bool:
        return self.graph.kind(operator) in _SUMS and any(
            (number, int(index)) in self.wide for index in operator.inputs
        )

    def _arithmetic(self, number: int, operator: Any) -> int:
        """The integers that an operator computes in."""
        wide = any((number, int(index)) in self.wide for index in operator.inputs)
        return INT16 if wide and self.graph.kind(operator) in _ARITHMETIC else INT8

    def _kind_of(self, place: Place) -> int:
        return INT16 if place in self.wide else INT8

    def _floats(self, number: int, operator: Any) -> Iterator[int]:
        """Its float tensors that are no weights and no biases."""
        tensors = self.graph.subgraphs[number].tensors
        inputs = operator.inputs
        if self.graph.kind(operator) in _PRODUCTS:
            inputs = inputs[:1]
        for index in [*inputs, *operator.outputs]:
            if index >= 0 and tensors[index].type in (FLOAT, INT8, INT16):
                yield int(index)

    # -------------------------------------------------- tensors and operators

    def _rewrite(self, number: int, chosen: set[int]) -> None:
        """Integers where they were chosen, and operators that convert where they meet others.

        What enters an entry and leaves it stays in float; what enters a loop's body does not.
        """
        subgraph, rewritten = self.graph.subgraphs[number], []
        kinds: dict[int, int] = {}  # of what is made of integers
        converted: dict[tuple[int, int, Place], int] = {}

        def make(index: int, kind: int) -> None:
            if subgraph.tensors[index].type == FLOAT:
                self.scales.describe(subgraph.tensors[index], (number, index), kind)
                kinds[index] = kind

        def convert(index: int, to: int, place: Place) -> int:
            have = kinds.get(index, FLOAT)
            if have == to:
                return index
            key = index, to, place
            if key not in converted:
                like = subgraph.tensors[index]
                converted[key] = self.graph.add_tensor(subgraph, like, to)
                new, constant = subgraph.tensors[converted[key]], self.graph.constant(like)
                if constant is not None:
                    new.type, new.buffer = FLOAT, like.buffer
                if to != FLOAT:
                    self.scales.describe(new, place, to)
                if constant is None:
                    name = "DEQUANTIZE" if to == FLOAT else "QUANTIZE"
                    rewritten.append(self.graph.make_operator(name, [index], [converted[key]]))
                    versions = _CONVERSIONS[name]
                    self.graph.code(name, max(versions.get(have, 1), versions.get(to, 1)))
            return converted[key]

        entry = number in self.graph.entries()
        if not entry:
            for index in map(int, subgraph.inputs):
                make(index, self._kind_of((number, index)))
        for operator in subgraph.operators:
            kind, integer = self.graph.kind(operator), id(operator) in chosen
            values = set(self._floats(number, operator))
            wanted = self._arithmetic(number, operator) if integer else FLOAT
            if integer:
                self._products(number, operator)
            entering = [int(index) for index in operator.inputs]
            for position, index in enumerate(entering):
                if index in values and kind == "WHILE":
                    body = operator.builtinOptions.bodySubgraphIndex
                    place = body, int(self.graph.subgraphs[body].inputs[position])
                    entering[position] = convert(index, self._kind_of(place), place)
                elif index in values:
                    entering[position] = convert(index, wanted, (number, index))
            operator.inputs = np.array(entering, np.int32)
            if integer:
                for index in map(int, operator.outputs):
                    make(index, self._kind_of((number, index)) if kind == "WHILE" else wanted)
                if values and kind in _VERSIONS:
                    self._set_version(operator, kind, wanted)
            rewritten.append(operator)
        answers = {}
        for index in map(int, subgraph.outputs):
            if index in kinds:
                place = number, index
                answers[index] = convert(index, FLOAT if entry else self._kind_of(place), place)
        self.graph.replace_outputs(number, answers)
        subgraph.operators = rewritten

    def _set_version(self, operator: Any, kind: str, arithmetic: int) -> None:
        self.graph.code(kind, (_INT16_VERSIONS if arithmetic == INT16 else _VERSIONS)[kind])
        if arithmetic == INT16 and kind in ("ADD", "SUB"):
            operator.builtinOptions.potScaleInt16 = False  # scales are no powers of two

    def _products(self, number: int, operator: Any) -> None:
        """Weights by channel, and the bias in the products' own scale."""
        if self.graph.kind(operator) not in _PRODUCTS:
            return
        subgraph = self.graph.subgraphs[number]
        source, weight, *rest = (int(index) for index in operator.inputs)
        scale = self.scales.parameters((number, source), INT8)[0]
        biased = bool(rest) and rest[0] >= 0
        if (number, weight) not in self.weight_scales:
            offset = self.graph.constant(subgraph.tensors[rest[0]]) if biased else None
            # A bias is stored in units of both scales, and has to fit into 32 bits.
            least = 0.0 if offset is None else np.abs(offset) / scale / MOST_BIAS
            self.weight_scales[number, weight] = quantise_weights(
                self.graph, subgraph.tensors[weight], least_scales=least
            )
        if not biased:
            return
        key = number, weight, rest[0], scale
        if key not in self.biases:
            bias = subgraph.tensors[rest[0]]
            values, scales = self.graph.constant(bias), self.weight_scales[number, weight] * scale
            assert values is not None
            self.biases[key] = self.graph.add_tensor(subgraph, bias, schema.TensorType.INT32)
            own = subgraph.tensors[self.biases[key]]
            integers = np.rint(values / scales).astype(np.int32)
            self.graph.set_constant(own, integers, schema.TensorType.INT32)
            own.quantization = quantisation(scales, np.zeros(len(scales)))
        operator.inputs = np.array([source, weight, self.biases[key]], np.int32)
