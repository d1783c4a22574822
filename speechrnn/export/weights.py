"""Smaller weights: float16, or integers whose inputs are quantised as they come ("dynamic").

The front end keeps its floats: its matrices are the same for every model, and a mel filterbank in
integers costs more accuracy than all other weights together. In float16 it costs none: a sum of
positive parts is as exact as they are. A Fourier transform is not, and stays in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeGuard

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from speechrnn.flatbuffer import Graph

# Fewer values are not worth the operators that they would cost.
LEAST_VALUES = 1024
FRONT_END = b"front_end"
# Operator -> its version with such weights (TensorFlow's op_version.cc).
_WITH_INT8 = {"FULLY_CONNECTED": 12, "CONV_2D": 7}
_WITH_INT4 = {"FULLY_CONNECTED": 13}

Width = Literal["float16", "dynamic", "int4"]


def with_smaller_weights(content: bytes, width: Width) -> bytes:
    """The flatbuffer with its weights in float16, int8 or int4, and all else in float32.

    Weights of an output channel share a scale, symmetric around 0. In int4 are those of the
    products; convolutions, which TFLite knows in int8 at the least, are in that.
    """
    graph = Graph(content)
    for subgraph, index, operators in weights(graph):
        tensor = subgraph.tensors[index]
        if width == "float16":
            _halve(graph, subgraph, index, operators)
            continue
        kinds = {graph.kind(operator) for operator in operators}
        small = width == "int4" and kinds <= _WITH_INT4.keys()
        for kind in kinds:
            graph.code(kind, (_WITH_INT4 if small else _WITH_INT8)[kind])
        quantise_weights(graph, tensor, bits=4 if small else 8)
        for operator in operators:
            if graph.kind(operator) == "FULLY_CONNECTED":
                operator.builtinOptions.asymmetricQuantizeInputs = True
    return graph.to_bytes()


def with_smaller_filterbank(graph: Graph) -> None:
    """Store what the front end adds up or copies with, weights not below 0, in float16."""
    for subgraph in graph.subgraphs:
        for operator in list(subgraph.operators):
            if graph.kind(operator) not in _WITH_INT8:
                continue
            index = int(operator.inputs[1])
            values = graph.constant(subgraph.tensors[index])
            if _is_large(values) and _in_front_end(subgraph, operator) and values.min() >= 0:
                _halve(graph, subgraph, index, [operator])


def weights(graph: Graph) -> Iterator[tuple[Any, int, list[Any]]]:
    """Subgraph, tensor and operators of each matrix and filter that is large enough."""
    for subgraph in graph.subgraphs:
        users: dict[int, list[Any]] = {}
        for operator in subgraph.operators:
            for index in operator.inputs:
                users.setdefault(int(index), []).append(operator)
        for index, operators in users.items():
            if all(is_weight(graph, subgraph, operator, index) for operator in operators):
                yield subgraph, index, operators


def is_weight(graph: Graph, subgraph: Any, operator: Any, index: int) -> bool:
    """Whether a tensor is the constant matrix or filter of an operator behind the front end."""
    if graph.kind(operator) not in _WITH_INT8 or index != operator.inputs[1]:
        return False
    values = graph.constant(subgraph.tensors[index])
    return _is_large(values) and not _in_front_end(subgraph, operator)


def _is_large(values: np.ndarray | None) -> TypeGuard[np.ndarray]:
    return values is not None and values.dtype == np.float32 and values.size >= LEAST_VALUES


def _in_front_end(subgraph: Any, operator: Any) -> bool:
    # A product that the converter fused is named after all that is in it, by semicolons.
    names = subgraph.tensors[operator.outputs[0]].name.split(b";")
    return all(name.startswith(FRONT_END) for name in names)


def quantise_weights(
    graph: Graph, tensor: Any, bits: int = 8, least_scales: np.ndarray | float = 0.0
) -> np.ndarray:
    """Store a weight in integers; the scale of each output channel, float32 ``[channels]``.

    No scale is smaller than its ``least_scales``.
    """
    values = graph.constant(tensor)
    assert values is not None
    most = 2 ** (bits - 1) - 1
    axes = tuple(range(1, values.ndim))
    scales = np.maximum(np.abs(values).max(axis=axes), 1e-12) / most
    scales = np.maximum(scales, least_scales).astype(np.float32)
    steps = values / scales.reshape(-1, *[1] * len(axes))
    integers = np.clip(np.rint(steps), -most, most).astype(np.int8)
    if bits == 4:  # two in a byte, the first in its lower half
        pairs = np.pad(integers.ravel(), (0, integers.size % 2)).astype(np.uint8)
        packed = (pairs[::2] & 0x0F) | (pairs[1::2] << 4)
        graph.set_constant(tensor, packed, schema.TensorType.INT4)
    else:
        graph.set_constant(tensor, integers, schema.TensorType.INT8)
    tensor.quantization = quantisation(scales, np.zeros(len(scales), np.int64))
    return scales


def quantisation(scales: np.ndarray, zero_points: np.ndarray) -> Any:
    """What a tensor says about its integers, by its first axis where there are several."""
    parameters = schema.QuantizationParametersT()
    parameters.scale = np.asarray(scales, np.float32)
    parameters.zeroPoint = np.asarray(zero_points, np.int64)
    parameters.quantizedDimension = 0
    return parameters


def _halve(graph: Graph, subgraph: Any, index: int, operators: list[Any]) -> None:
    tensor = subgraph.tensors[index]
    values = graph.constant(tensor)
    assert values is not None
    widened = graph.add_tensor(subgraph, tensor, schema.TensorType.FLOAT32)
    graph.set_constant(tensor, values.astype(np.float16), schema.TensorType.FLOAT16)
    for operator in operators:
        operator.inputs = np.where(operator.inputs == index, widened, operator.inputs)
    subgraph.operators.insert(0, graph.make_operator("DEQUANTIZE", [index], [widened]))
