"""The smallest .tflite files: they only reshape and cut the picture that they are given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def reshaping_model(
    shape: Sequence[int], output: Sequence[int], slices: Sequence[int] = (), *, integers: bool = False
) -> bytes:
    """A file with the input [1,H,W,C] ``shape``, whose last output is the picture in the shape ``output``.

    ``slices``: outputs before it with so many of its first channels. ``integers``: tensors are uint8, real value =
    (integer - 3) / 200. Needs ai-edge-litert.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    buffers = [schema.BufferT()]
    tensors, operators = [], []

    def tensor(name: str, dims: Sequence[int], kind: int, data: bytes | None = None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, list(dims), kind, 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data, np.uint8)
            buffers.append(buffer)
            made.buffer = len(buffers) - 1
        elif integers:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [1 / 200], [3]
        tensors.append(made)
        return len(tensors) - 1

    kind = schema.TensorType.UINT8 if integers else schema.TensorType.FLOAT32

    def numbers(values: Sequence[int]) -> int:
        return tensor(
            f"numbers_{len(tensors)}", [len(values)], schema.TensorType.INT32, np.array(values, "<i4").tobytes()
        )

    def operator(code: int, inputs: Sequence[int], made: int) -> None:
        one = schema.OperatorT()
        one.opcodeIndex, one.inputs, one.outputs = code, list(inputs), [made]
        operators.append(one)

    source, whole = tensor("picture", shape, kind), tensor("Identity", output, kind)
    operator(0, [source, numbers(output)], whole)
    made = []
    for depth in slices:
        dims = [*output[:-1], depth]
        made.append(tensor(f"Identity_{len(made) + 1}", dims, kind))
        operator(1, [whole, numbers([0] * len(dims)), numbers(dims)], made[-1])
    codes = []
    for builtin in (schema.BuiltinOperator.RESHAPE, schema.BuiltinOperator.SLICE):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = 1
        codes.append(code)
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, operators, [source], [*made, whole]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, codes, [graph], buffers
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
