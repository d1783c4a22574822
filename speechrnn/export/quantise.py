"""A flatbuffer in other numbers, and as small as it gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from speechrnn.export.integer import with_integers
from speechrnn.export.ranges import find_ranges
from speechrnn.export.weights import with_smaller_filterbank, with_smaller_weights
from speechrnn.flatbuffer import Graph

Quantization = Literal["none", "float16", "dynamic", "int8", "int4"]


def quantised(
    flatbuffer: bytes,
    quantize: Quantization,
    calibration: Sequence[np.ndarray] = (),
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """What is left of a flatbuffer in float32, without what no interpreter needs.

    Args:
        flatbuffer: What the converter made.
        quantize: As :func:`speechrnn.export.export_bundle` has them.
        calibration: For "int8", recordings, float32 ``[samples]`` each.
        metadata: What the file is to say about itself: how its stream is cut, if it has one.

    Raises:
        ExportError: A loop holds an operator that is not known in integers.
    """
    if quantize == "int8":
        flatbuffer = with_integers(flatbuffer, find_ranges(flatbuffer, calibration, metadata))
    elif quantize != "none":
        flatbuffer = with_smaller_weights(flatbuffer, quantize)
    graph = Graph(flatbuffer)
    if quantize != "none":
        with_smaller_filterbank(graph)
    graph.compact()
    return graph.to_bytes()
