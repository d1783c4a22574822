"""How much an exported file multiplies."""

from __future__ import annotations

from typing import Any

import numpy as np

from speechrnn.flatbuffer import WITH_WEIGHTS, Graph
from speechrnn.speed import opened, sounds


def multiply_adds(content: bytes, num_samples: int) -> int:
    """Multiply-adds of a float32 file on a waveform of so many samples.

    Those of the products and convolutions, of the front end too; in loops as often as they run.
    Loops take several steps an iteration (``export.graph.STEPS``), so a sequence that is no
    multiple counts as filled up to one: that is what is computed.
    """
    from ai_edge_litert.interpreter import OpResolverType

    graph, plain = Graph(content), OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = opened(
        content,
        num_samples,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=plain,
    )
    (waveform,) = sounds(1, num_samples)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], waveform[None])
    interpreter.invoke()
    return sum(
        _of_operator(graph, operator, interpreter) for operator in graph.subgraphs[0].operators
    )


def _of_operator(graph: Graph, operator: Any, interpreter: Any) -> int:
    """Multiply-adds of an operator of the main graph, from the shapes that tensors had."""
    kind = graph.kind(operator)

    def shape(place: int) -> tuple[int, ...]:
        return interpreter.get_tensor(int(place)).shape

    if kind == "WHILE":
        body = graph.subgraphs[operator.builtinOptions.bodySubgraphIndex]
        # The longest of what it carries are its inputs and outputs: a row an iteration.
        iterations = max(s[0] for s in map(shape, operator.outputs) if s)
        products = [op for op in body.operators if graph.kind(op) == "FULLY_CONNECTED"]
        return iterations * sum(int(np.prod(body.tensors[op.inputs[1]].shape)) for op in products)
    if kind == "BATCH_MATMUL":  # two things that are computed, as in attention
        left = shape(operator.inputs[0])
        inner = left[-2] if operator.builtinOptions.adjX else left[-1]
        return int(np.prod(shape(operator.outputs[0]))) * int(inner)
    if kind in WITH_WEIGHTS:
        weight = graph.subgraphs[0].tensors[operator.inputs[1]].shape
        used = weight[1:3] if kind == "DEPTHWISE_CONV_2D" else weight[1:]
        return int(np.prod(shape(operator.outputs[0]))) * int(np.prod(used))
    return 0
