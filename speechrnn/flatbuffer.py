"""A TFLite flatbuffer as objects that can be changed: graphs, operators, tensors, constants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from speechrnn.runtime.metadata import TFLITE_IDENTIFIER

_DTYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT8: np.int8,
}
_TYPES = {value: name.lower() for name, value in vars(schema.TensorType).items() if name[0] != "_"}
_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if name[0] != "_"}
WITH_WEIGHTS = {"FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"}
# Of a constant, in bytes.
ALIGNMENT = 16
_LEAST_OWN_CODE = schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES


class _SharingBuilder(flatbuffers.Builder):
    """Writes equal vectors and strings once, a twentieth of a small file.

    The zeros of symmetric quantisation, eight bytes for each row of weights, are most of it.
    Constants begin at multiples of 16 bytes, as the schema asks and Python's builder does not.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        """Where a vector stands."""
        key = (x.dtype.str, x.tobytes())
        if key not in self._written:
            if x.dtype == np.uint8:
                self.Prep(ALIGNMENT, x.size)
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]

    def CreateString(self, s: str | bytes, *args: Any, **kwargs: Any) -> int:
        """Where a string stands."""
        key = ("string", s.encode() if isinstance(s, str) else s)
        if key not in self._written:
            self._written[key] = super().CreateString(s, *args, **kwargs)
        return self._written[key]


class Graph:
    """A whole file: what :mod:`ai_edge_litert` reads from its schema, and what we do with it."""

    BOOL = schema.TensorType.BOOL

    def __init__(self, content: bytes) -> None:
        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))

    def to_bytes(self) -> bytes:
        """The flatbuffer."""
        builder = _SharingBuilder(1 << 20)
        builder.Finish(self.model.Pack(builder), TFLITE_IDENTIFIER)
        return bytes(builder.Output())

    @property
    def subgraphs(self) -> list[Any]:
        """The main graph first, then conditions and bodies of loops, and other signatures'."""
        return self.model.subgraphs

    def entries(self) -> list[int]:
        """The numbers of the subgraphs that are called from without: each signature's."""
        signatures = self.model.signatureDefs or []
        return sorted({0, *(signature.subgraphIndex for signature in signatures)})

    def loops(self, number: int) -> list[Any]:
        """The loops of a subgraph."""
        operators = self.subgraphs[number].operators
        return [operator for operator in operators if self.kind(operator) == "WHILE"]

    def kind(self, operator: Any) -> str:
        """The operator's name, ``"FULLY_CONNECTED"``."""
        return self.kind_of_code(operator.opcodeIndex)

    def kind_of_code(self, index: int) -> str:
        """The name of an operator code, by its place."""
        code = self.model.operatorCodes[index]
        return _NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def custom_operators(self) -> list[str]:
        """Names of those that are not built in, Flex operators among them."""
        custom = schema.BuiltinOperator.CUSTOM
        codes = [
            code
            for code in self.model.operatorCodes
            if code.customCode or custom in (code.builtinCode, code.deprecatedBuiltinCode)
        ]
        return [(code.customCode or b"without a name").decode() for code in codes]

    def operators(self) -> Iterator[tuple[Any, Any]]:
        """Every operator with its subgraph."""
        for subgraph in self.subgraphs:
            for operator in subgraph.operators:
                yield subgraph, operator

    def arithmetic(self, subgraph: Any, operator: Any) -> str:
        """What an operator computes in: "float32", "int8", "float32 by int8 weights"."""
        own = _TYPES[subgraph.tensors[operator.outputs[0]].type]
        weight = operator.inputs[1] if len(operator.inputs) > 1 else -1
        if own != "float32" or weight < 0 or self.kind(operator) not in WITH_WEIGHTS:
            return own
        stored = _TYPES[subgraph.tensors[weight].type]
        return own if stored == own else f"{own} by {stored} weights"

    def count_operators(self) -> dict[str, dict[str, int]]:
        """How many operators of each name there are, by what they compute in."""
        found: dict[str, Counter[str]] = {}
        for subgraph, operator in self.operators():
            counts = found.setdefault(self.arithmetic(subgraph, operator), Counter())
            counts[self.kind(operator)] += 1
        return {name: dict(sorted(found[name].items())) for name in sorted(found)}

    def count_bytes(self) -> dict[str, int]:
        """Bytes of constants by the type that they are stored in."""
        kinds = {
            tensor.buffer: _TYPES[tensor.type]
            for subgraph in self.subgraphs
            for tensor in subgraph.tensors
        }
        found: Counter[str] = Counter()
        for place, kind in kinds.items():
            data = self.model.buffers[place].data
            found[kind] += 0 if data is None else len(data)
        return {kind: count for kind, count in sorted(found.items()) if count}

    def constant(self, tensor: Any) -> np.ndarray | None:
        """The values of a constant tensor, None for one that is computed."""
        data = self.model.buffers[tensor.buffer].data
        if data is None or len(data) == 0 or tensor.type not in _DTYPES:
            return None
        shape = [] if tensor.shape is None else tensor.shape
        return np.frombuffer(np.asarray(data, np.uint8), _DTYPES[tensor.type]).reshape(shape)

    def set_constant(self, tensor: Any, values: np.ndarray, kind: int) -> None:
        """Give a tensor a constant of its own; ``values`` are stored as they are."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        tensor.buffer, tensor.type = len(self.model.buffers) - 1, kind

    def add_tensor(self, subgraph: Any, like: Any, kind: int) -> int:
        """The index of a new tensor of another type, of the shape of one there is."""
        tensor = schema.TensorT()
        tensor.shape, tensor.shapeSignature = like.shape, like.shapeSignature
        tensor.type, tensor.buffer, tensor.name = kind, 0, b""
        tensor.hasRank = like.hasRank
        subgraph.tensors.append(tensor)
        return len(subgraph.tensors) - 1

    def make_operator(self, kind: str, inputs: list[int], outputs: list[int]) -> Any:
        """An operator without options."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self.code(kind)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        return operator

    def add_signature(self, other: Graph) -> None:
        """Take over another file's graphs, behind our own, and its signatures.

        The converter makes one signature a file. ``other``, of builtin operators alone, is of no
        use afterwards.
        """
        buffers, graphs = len(self.model.buffers), len(self.subgraphs)
        codes = [
            self.code(other.kind_of_code(index), code.version)
            for index, code in enumerate(other.model.operatorCodes)
        ]
        for subgraph in other.subgraphs:
            for tensor in subgraph.tensors:
                tensor.buffer += buffers
            for operator in subgraph.operators:
                if other.kind(operator) == "WHILE":
                    operator.builtinOptions.condSubgraphIndex += graphs
                    operator.builtinOptions.bodySubgraphIndex += graphs
                operator.opcodeIndex = codes[operator.opcodeIndex]
        for signature in other.model.signatureDefs:
            signature.subgraphIndex += graphs
        self.model.buffers += other.model.buffers
        self.model.subgraphs += other.subgraphs
        self.model.signatureDefs += other.model.signatureDefs

    def keep_signature(self, name: str) -> None:
        """Leave out every graph but this signature's, which must hold no loop."""
        (kept,) = [one for one in self.model.signatureDefs if one.signatureKey == name.encode()]
        graph = self.subgraphs[kept.subgraphIndex]
        used = sorted({operator.opcodeIndex for operator in graph.operators})
        for operator in graph.operators:
            operator.opcodeIndex = used.index(operator.opcodeIndex)
        self.model.operatorCodes = [self.model.operatorCodes[index] for index in used]
        self.model.subgraphs, self.model.signatureDefs = [graph], [kept]
        kept.subgraphIndex = 0
        self.compact()

    def replace_outputs(self, number: int, by: Mapping[int, int]) -> None:
        """Answer with other tensors of a subgraph, under the names of those they stand for."""
        subgraph = self.subgraphs[number]
        for old, new in by.items():
            subgraph.tensors[new].name = subgraph.tensors[old].name
        subgraph.outputs = np.array([by.get(int(i), int(i)) for i in subgraph.outputs], np.int32)
        for signature in self.model.signatureDefs or []:
            if signature.subgraphIndex == number:
                for output in signature.outputs:
                    output.tensorIndex = by.get(output.tensorIndex, output.tensorIndex)

    def code(self, kind: str, version: int = 1) -> int:
        """The index of an operator code of at least this version; added where there is none."""
        wanted = getattr(schema.BuiltinOperator, kind)
        for index, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == wanted:
                code.version = max(code.version, version)
                return index
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = wanted, version
        code.deprecatedBuiltinCode = min(wanted, _LEAST_OWN_CODE)
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def compact(self) -> None:
        """Leave out what an interpreter does not need, a tenth of a small file.

        These are the names of tensors but those of the interface (a signature names its tensors by
        their places), buffers that nobody reads or that are equal, and descriptions that say
        nothing.
        """
        main = self.subgraphs[0]
        interface = {*map(int, main.inputs), *map(int, main.outputs)}
        stored, place_of = [self.model.buffers[0]], {b"": 0}

        def moved(place: int) -> int:
            data = self.model.buffers[place].data
            key = b"" if data is None else bytes(data)
            if key not in place_of:
                place_of[key] = len(stored)
                stored.append(self.model.buffers[place])
            return place_of[key]

        for subgraph in self.subgraphs:
            for index, tensor in enumerate(subgraph.tensors):
                tensor.buffer = moved(tensor.buffer)
                if subgraph is main and index in interface:
                    continue
                tensor.name = b""
                if tensor.shapeSignature is not None and min(tensor.shapeSignature, default=0) >= 0:
                    tensor.shapeSignature = None
                if tensor.quantization is not None and tensor.quantization.scale is None:
                    tensor.quantization = None
        for entry in self.model.metadata or []:
            entry.buffer = moved(entry.buffer)
        self.model.buffers = stored
