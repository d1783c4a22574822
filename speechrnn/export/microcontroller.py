"""A stream's step as C: an array for TFLite Micro, and a header that says how to call it.

TFLite Micro knows no tensor whose size comes with the call, and no weights in integers beside
activations in floats. So what it runs is the signature ``stream`` of a file exported with
``--streaming``, in float32: a chunk of sound and the state before it in, answers and the state
after it out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechrnn.errors import ExportError
from speechrnn.files import write_atomically
from speechrnn.flatbuffer import Graph
from speechrnn.runtime.metadata import FileInfo
from speechrnn.runtime.streaming import ENDLESS, MOST_CALLS

# What MicroMutableOpResolver of TFLite Micro can add, as far as exports use it.
# Source: tensorflow/lite/micro/micro_mutable_op_resolver.h of tflite-micro, October 2026.
MICRO_OPERATORS = (
    *("ABS", "ADD", "ARG_MAX", "CAST", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DIV"),
    *("EQUAL", "EXP", "EXPAND_DIMS", "FLOOR", "FULLY_CONNECTED", "GATHER", "GREATER"),
    *("GREATER_EQUAL", "LESS", "LESS_EQUAL", "LOG", "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR"),
    *("LOGISTIC", "LOG_SOFTMAX", "MAXIMUM", "MEAN", "MINIMUM", "MUL", "NEG", "NOT_EQUAL", "PACK"),
    *("PAD", "REDUCE_MAX", "RESHAPE", "RSQRT", "SELECT_V2", "SLICE", "SOFTMAX", "SPLIT", "SQRT"),
    *("SQUARE", "SQUARED_DIFFERENCE", "SQUEEZE", "STRIDED_SLICE", "SUB", "SUM", "TANH"),
    *("TRANSPOSE", "UNPACK"),
)
# What its arena holds besides the values: for each tensor, for each operator, and once. Measured
# with tflite-micro on a 64-bit machine; pointers of 32 bits need less.
BYTES_A_TENSOR, BYTES_AN_OPERATOR, BYTES_BESIDES = 24, 156, 4096
ALIGNMENT = 16
BYTES_A_LINE = 16

# The steps of a look-ahead stand in the graph one by one: more than there is room for.
ONE_STEP = (
    "a microcontroller takes one step at a time, and a model of both directions takes many; "
    "expected encoder.bidirectional = false"
)


@dataclass(frozen=True)
class Step:
    """A stream's step by itself.

    Attributes:
        model: Its flatbuffer.
        inputs: Names, in the order in which TFLite Micro numbers them.
        outputs: The same.
        operators: Names of the operators, sorted.
        arena_bytes: An estimate of the arena that it needs.
    """

    model: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: tuple[str, ...]
    arena_bytes: int


def step_of(info: FileInfo) -> Step:
    """The step of a file that was exported with ``--streaming``.

    Raises:
        ExportError: The file has none, or TFLite Micro cannot run it.
    """
    about = info.metadata.get("streaming")
    if about is None:
        raise ExportError(
            f"{info.path}: a microcontroller takes sound chunk by chunk; expected a model exported "
            "with --streaming"
        )
    if about["steps"] > 1:
        raise ExportError(f"{info.path}: {ONE_STEP}")
    if info.metadata["quantization"] != "none":
        raise ExportError(
            f"{info.path}: got --quantize {info.metadata['quantization']}, whose products of float "
            "with integer TFLite Micro does not know; expected none"
        )
    graph = Graph(info.model)
    graph.keep_signature(about["signature"])
    operators = tuple(sorted({graph.kind(operator) for _, operator in graph.operators()}))
    unknown = [kind for kind in operators if kind not in MICRO_OPERATORS]
    if unknown:
        raise ExportError(
            f"{info.path}: TFLite Micro does not know {', '.join(unknown)}; use other layers"
        )
    (signature,), (main,) = graph.model.signatureDefs, graph.subgraphs
    return Step(
        graph.to_bytes(),
        _names(signature.inputs, main.inputs),
        _names(signature.outputs, main.outputs),
        operators,
        arena_bytes(graph),
    )


def _names(entries: Sequence[Any], places: Sequence[int]) -> tuple[str, ...]:
    names = {entry.tensorIndex: entry.name.decode() for entry in entries}
    return tuple(names[int(place)] for place in places)


def arena_bytes(graph: Graph) -> int:
    """What an arena must hold at least, of a graph whose shapes are fixed, and what comes with it.

    Values live from the operator that makes them to the last that reads them; those of the
    interface live throughout.
    """
    (main,) = graph.subgraphs
    last = len(main.operators)
    begins: dict[int, int] = {int(place): 0 for place in main.inputs}
    ends: dict[int, int] = {}
    for number, operator in enumerate(main.operators):
        for place in operator.outputs:
            begins.setdefault(int(place), number)
        for place in operator.inputs:
            ends[int(place)] = number
    ends |= {int(place): last for place in (*main.inputs, *main.outputs)}
    live = np.zeros(last + 1, int)
    for place, begin in begins.items():
        live[begin : ends.get(place, begin) + 1] += _aligned(main.tensors[place])
    about = BYTES_A_TENSOR * len(main.tensors) + BYTES_AN_OPERATOR * last + BYTES_BESIDES
    return int(live.max(initial=0)) + about


def _aligned(tensor: Any) -> int:
    """Bytes of a tensor's values; a truth takes one, what else is computed here four."""
    shape = [] if tensor.shape is None else tensor.shape
    size = int(np.prod(shape, dtype=int)) * (1 if tensor.type == Graph.BOOL else 4)
    return -(-size // ALIGNMENT) * ALIGNMENT


def write_c(info: FileInfo, header: Path) -> Step:
    """Write ``model.h``, and beside it ``model.c`` with the array, from an exported file.

    Raises:
        ExportError: As :func:`step_of`.
        OutputError: They cannot be written.
    """
    step = step_of(info)
    write_atomically(header.with_suffix(".c"), _source(info, step, header).encode())
    write_atomically(header, _header(info, step, header).encode())
    return step


def _identifier(header: Path) -> str:
    name = re.sub(r"\W", "_", header.stem, flags=re.ASCII)
    return f"model_{name}" if name[:1].isdigit() else name


def _text(text: str) -> str:
    """A C string of any text, in UTF-8; a digit behind an escape is not taken for part of it."""
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{escaped}"'


def _source(info: FileInfo, step: Step, header: Path) -> str:
    name = _identifier(header)
    rows = (
        step.model[first : first + BYTES_A_LINE]
        for first in range(0, len(step.model), BYTES_A_LINE)
    )
    numbers = ",\n".join("  " + ", ".join(f"0x{byte:02x}" for byte in row) for row in rows)
    labels = ",\n".join(f"  {_text(label)}" for label in info.labels.symbols)
    aligned = f"__attribute__((aligned({ALIGNMENT})))"
    return f"""#include "{header.name}"

const unsigned char {name}[{len(step.model)}] {aligned} = {{
{numbers}
}};

const char* const {name}_labels[{len(info.labels)}] = {{
{labels}
}};
"""


def _header(info: FileInfo, step: Step, header: Path) -> str:
    name, about = _identifier(header), info.metadata
    how, upper = about["streaming"], _identifier(header).upper()
    numbers = {
        "SIZE": len(step.model),
        "ARENA_SIZE": step.arena_bytes,
        "SAMPLE_RATE_HZ": about["features"]["sample_rate_hz"],
        "CHUNK": how["chunk"],
        "CONTEXT": how["context"],
        "FIRST_STEP": how["first_step"],
        "POOLED": how["pooled"],
        "FRAMES": how["frames"],
        "MOST_CALLS": MOST_CALLS,
        "ENDLESS": ENDLESS,
        "NUM_LABELS": len(info.labels),
        "THRESHOLD": f"{info.decision.threshold:.6f}f",
        **{f"INPUT_{one.upper()}": number for number, one in enumerate(step.inputs)},
        **{f"OUTPUT_{one.upper()}": number for number, one in enumerate(step.outputs)},
    }
    defines = "\n".join(f"#define {upper}_{key} {value}" for key, value in numbers.items())
    added = "\n".join(f"//   resolver.Add{_method(kind)}();" for kind in step.operators)
    rate_hz, states = about["features"]["sample_rate_hz"], json.dumps(how["states"])
    return f"""// A recogniser of spoken commands for TFLite Micro.
// Made by speechrnn {about["speechrnn_version"]}.
//
// {len(step.model):,} bytes of constants, and an arena of some {step.arena_bytes:,} bytes: an
// estimate; interpreter.arena_used_bytes() says it exactly. Inputs and outputs are
// float32; position and num_frames are int32 scalars.
//
// Every {1000 * how["chunk"] / rate_hz:g} ms, write
//   waveform    the next {how["chunk"]} samples (16-bit integers divided by 32768)
//   samples     the {how["context"]} samples before them
//   position    the calls before this one; from {upper}_MOST_CALLS on, that
//   num_frames  {upper}_ENDLESS
//   state_N     what the call before put out; zeros before the first: {states}
// invoke, and read {about["output"]["name"]}. "Streams" in export/README.md says which step a
// call answers to, and how to end.
//
// tflite::MicroMutableOpResolver<{len(step.operators)}> resolver;
{added}
#ifndef {upper}_H
#define {upper}_H

{defines}

#ifdef __cplusplus
extern "C" {{
#endif

extern const unsigned char {name}[{len(step.model)}];
extern const char* const {name}_labels[{len(info.labels)}];

#ifdef __cplusplus
}}
#endif

#endif
"""


def _method(kind: str) -> str:
    """``CONV_2D`` -> ``Conv2D``, as MicroMutableOpResolver calls it."""
    return "".join(part if part[0].isdigit() else part.capitalize() for part in kind.split("_"))
