"""Reading .espdl files without the quantizer and without trusting a byte of them.

Container: "EDL2", a 32-bit mode (0 plain, 1 AES-128-CTR), a 32-bit length, four zero bytes, then a FlatBuffer
whose schema ESP-DL publishes (``espdl.fbs``). Field numbers below are that schema's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.errors import ModelError
from uhd.espdl.check import check_nodes
from uhd.espdl.deduce import FilterFacts, deduce_target
from uhd.espdl.flat import Buffer, FlatError, Table, decode_text
from uhd.espdl.layout import LANES, count, filter_dims, unpack_filter
from uhd.espdl.model import EspdlModel, Node, Tensor
from uhd.files import sha256_bytes

_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
           11: "float64", 12: "uint32", 13: "uint64"}  # fmt: skip
#: Where a tensor's values are when they are not in raw_data: data type -> (field, type of its elements).
_TYPED_FIELDS = {"float32": (2, "f4"), "int32": (3, "i4"), "int64": (5, "i8")}
_BITS = {"S8": 8, "S16": 16, "W8A16": 16, "F32": 32}
_MAX_ELEMENTS = 1 << 26
_MAX_EXPONENT = 96
_DAMAGED = "the file is damaged: copy it again, or quantize the model again"


@dataclass(frozen=True)
class _Constant:
    """An initializer as stored: ``dims`` and ``flat`` in the file's order, ``layout`` its note."""

    tensor: Tensor
    layout: str


def read_espdl(path_or_bytes: str | Path | bytes, target: str | None = None) -> EspdlModel:
    """Parse a .espdl file.

    Args:
        path_or_bytes: a file, or its content.
        target: c, esp32s3 or esp32p4; None deduces it from filter layout, weight exponents and bias widths.

    Returns:
        The model, filters unpacked to the logical order that ``Tensor`` documents. Empty optional inputs of a
        node stay in ``Node.inputs`` as ``""``.

    Raises:
        ModelError: the file is missing, damaged, encrypted, a pack of several models, or contradicts ``target``.
    """
    where = "<bytes>" if isinstance(path_or_bytes, bytes) else str(path_or_bytes)
    try:
        data = path_or_bytes if isinstance(path_or_bytes, bytes) else Path(path_or_bytes).read_bytes()
    except OSError as error:
        raise ModelError(f"{where}: cannot read the model ({error.strerror})", hint="check the path") from None
    try:
        return _parse(data, target)
    except FlatError as error:
        raise ModelError(f"{where}: not a sound .espdl: {error}", hint=_DAMAGED) from None
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None


def payload(data: bytes) -> memoryview:
    """The FlatBuffer inside the container. Raises ``ModelError`` or ``FlatError`` for anything else."""
    magic = bytes(data[:4])
    if magic in (b"PDL1", b"PDL2", b"PDL3"):
        raise ModelError("several models packed into one file", hint="give the single .espdl that went into the pack")
    if magic == b"EDL1":
        raise ModelError("container EDL1 of an old esp-ppq", hint="quantize the model again with esp-ppq 1.3.12")
    if magic != b"EDL2" or len(data) < 24:
        raise ModelError("not an .espdl file (no EDL2 header)", hint="give the file that quantize wrote")
    mode, length, reserved = struct.unpack_from("<III", data, 4)
    if mode == 1:
        raise ModelError("encrypted", hint="export the model without encryption (encrypt_data=False)")
    if mode != 0 or reserved != 0:
        raise FlatError(f"header says mode {mode}")
    rest = len(data) - 16
    if length > rest:
        raise FlatError(f"header promises {length} bytes, the file holds {rest}")
    if rest - length >= 16 or any(data[16 + length :]):
        raise FlatError(f"{rest - length} bytes follow the model")
    return memoryview(data)[16 : 16 + length]


def _parse(data: bytes, target: str | None) -> EspdlModel:
    root = Buffer(payload(data)).root()
    graph = root.table(7)
    if graph is None:
        raise FlatError("it holds no graph")
    constants = {c.tensor.name: c for c in map(_constant, graph.tables(2))}
    nodes = tuple(_node(table) for table in graph.tables(0))
    tensors = _filters(nodes, constants)
    facts = [
        FilterFacts(node.name, constants[node.inputs[1]].layout, tensors[node.inputs[1]], _bias(node, tensors))
        for node in nodes
        if _has_filter(node, constants)
    ]
    chosen = deduce_target(facts, target)
    for table in graph.tables(6):
        activation = _value_info(table)
        if activation.name:
            tensors.setdefault(activation.name, activation)
    _transposed(nodes, tensors)
    inputs = tuple(table.text(0) for table in graph.tables(4))
    outputs = tuple(table.text(0) for table in graph.tables(5))
    model = EspdlModel(
        name=graph.text(1),
        target=chosen,
        nodes=nodes,
        tensors=tensors,
        inputs=tuple(name for name in inputs if name not in constants),
        outputs=outputs,
        sha256=sha256_bytes(data),
        size_bytes=len(data),
        metadata={entry.text(0): entry.text(1) for entry in root.tables(8)},
        test_inputs=_vectors(graph.tables(8), tensors),
        test_outputs=_vectors(graph.tables(9), tensors),
    )
    check_nodes(model)
    return model


def _attribute(table: Table) -> tuple[str, Any]:
    """(name, value); value is None for kinds that no supported operator uses."""
    kind = table.int32(3)
    value: Any = None
    if kind == 1:
        value = table.float32(4)
    elif kind == 2:
        value = table.int64(5)
    elif kind == 3:
        value = decode_text(table.raw(6))
    elif kind == 7:
        value = [int(v) for v in table.array(11, "i8")]
    elif kind == 8:
        value = table.texts(12)
    return table.text(0), value


def _node(table: Table) -> Node:
    attributes = {name: value for name, value in map(_attribute, table.tables(5)) if value is not None}
    name, op = table.text(2), table.text(3)
    quant_type = attributes.get("quant_type", "F32")
    if not isinstance(quant_type, str) or quant_type not in _BITS:
        raise FlatError(f"node {name!r} has quant_type {str(quant_type)[:20]!r}")
    return Node(name, op, tuple(table.texts(0)), tuple(table.texts(1)), attributes, _BITS[quant_type])


def _dtype(number: int, name: str) -> str:
    if number not in _DTYPES:
        raise FlatError(f"tensor {name!r} has data type {number}")
    return _DTYPES[number]


def _shape(dims: list[int], name: str) -> tuple[int, ...]:
    if len(dims) > 8 or any(not 0 <= d <= _MAX_ELEMENTS for d in dims) or count(tuple(dims)) > _MAX_ELEMENTS:
        raise FlatError(f"tensor {name!r} has impossible dimensions {dims[:8]}")
    return tuple(dims)


def _exponents(values: NDArray[Any], name: str) -> tuple[int, ...]:
    if values.size and (values.min() < -_MAX_EXPONENT or values.max() > _MAX_EXPONENT):
        raise FlatError(f"tensor {name!r} has an impossible exponent")
    return tuple(int(v) for v in values) or (0,)


def _values(table: Table, dtype: str, elements: int, name: str) -> NDArray[Any]:
    """The flat integers (or floats) of a tensor."""
    raw = table.raw(8, 16)
    kind = np.dtype(dtype).newbyteorder("<")
    if len(raw) or elements == 0:
        wanted = elements * kind.itemsize
        if not wanted <= len(raw) < wanted + 16:
            raise FlatError(f"tensor {name!r} needs {wanted} bytes and has {len(raw)}")
        flat = np.frombuffer(raw[:wanted], dtype="u1" if dtype == "bool" else kind)
        return flat.astype(dtype)
    if dtype not in _TYPED_FIELDS:
        raise FlatError(f"tensor {name!r} has no values")
    typed = table.array(*_TYPED_FIELDS[dtype])
    if typed.size != elements:
        raise FlatError(f"tensor {name!r} needs {elements} values and has {typed.size}")
    return typed.astype(dtype)


def _tensor(table: Table) -> Tensor:
    name = table.text(6)
    if table.int32(10) != 0:
        raise FlatError(f"tensor {name!r} is stored outside the file")
    dtype = _dtype(table.int32(1), name)
    shape = _shape([int(d) for d in table.array(0, "i8")], name)
    data = _values(table, dtype, count(shape), name).reshape(shape)
    return Tensor(name, shape, dtype, _exponents(table.array(13, "i8"), name), data)


def _constant(table: Table) -> _Constant:
    return _Constant(_tensor(table), table.text(7).removeprefix("layout ==> "))


def _value_info(table: Table) -> Tensor:
    """An activation: name, NHWC shape, data type, exponent."""
    name = table.text(0)
    info = table.table(1)
    kind = info.table(1) if info is not None else None
    if info is None or kind is None or info.int8(0) != 1:
        raise FlatError(f"tensor {name!r} has no type")
    shape = kind.table(1)
    dims = [_dimension(d, name) for d in shape.tables(0)] if shape is not None else []
    exponents = _exponents(table.array(3, "i8"), name)
    return Tensor(name, _shape(dims, name), _dtype(kind.int32(0), name), exponents)


def _dimension(table: Table, name: str) -> int:
    value = table.table(0)
    if value is None or value.int8(0) != 1:
        raise ModelError(f"tensor {name!r} has a dynamic dimension", hint="export the model with a fixed input size")
    return value.int64(1)


def _has_filter(node: Node, constants: dict[str, _Constant]) -> bool:
    return node.op in ("Conv", "Gemm") and len(node.inputs) > 1 and node.inputs[1] in constants


def _bias(node: Node, tensors: dict[str, Tensor]) -> Tensor | None:
    return tensors.get(node.inputs[2]) if len(node.inputs) > 2 else None


def _filters(nodes: tuple[Node, ...], constants: dict[str, _Constant]) -> dict[str, Tensor]:
    """All constants by name, those that are filters of a Conv or Gemm in logical order."""
    tensors = {name: constant.tensor for name, constant in constants.items()}
    seen: set[str] = set()
    for node in nodes:
        if not _has_filter(node, constants):
            continue
        name = node.inputs[1]
        if name in seen:
            raise FlatError(f"filter {name!r} belongs to two nodes")
        seen.add(name)
        stored, layout = constants[name].tensor, constants[name].layout
        group = node.attributes.get("group", 1)
        if len(stored.shape) != 4 or 0 in stored.shape or not isinstance(group, int) or stored.data is None:
            raise ModelError(
                f"node {node.name!r}: the filter has dimensions {stored.shape}", hint="use 2-D convolutions"
            )
        nhwc = filter_dims(stored.shape, group > 1)
        if LANES.get(layout, 1) == 16 and stored.dtype != "int8":
            raise FlatError(f"filter {name!r} is {stored.dtype} in layout {layout}")
        data = unpack_filter(stored.data.reshape(-1), nhwc, layout, group > 1)
        if len(stored.exponents) not in (1, nhwc[0]):
            raise FlatError(f"filter {name!r} has {len(stored.exponents)} exponents for {nhwc[0]} channels")
        if group > 1 and nhwc[3] == 1 and nhwc[0] == group:
            data = np.ascontiguousarray(data.transpose(3, 1, 2, 0))
        tensors[name] = Tensor(name, data.shape, stored.dtype, stored.exponents, data)
    return tensors


def _transposed(nodes: tuple[Node, ...], tensors: dict[str, Tensor]) -> None:
    """Set the shapes that Transpose nodes make: of those it inserts itself, esp-ppq 1.3.12 writes a wrong one."""
    for node in nodes:
        if node.op != "Transpose" or not node.inputs or not node.outputs:
            continue
        x, y, order = tensors.get(node.inputs[0]), tensors.get(node.outputs[0]), node.attributes.get("perm")
        if x is None or y is None or not isinstance(order, list) or sorted(order) != list(range(len(x.shape))):
            raise FlatError(f"node {node.name!r} permutes what it cannot")
        tensors[y.name] = replace(y, shape=tuple(x.shape[axis] for axis in order))


def _vectors(tables: list[Table], tensors: dict[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Embedded test vectors of tensors that exist in the graph; those of fused-away tensors are float, and dropped."""
    vectors: dict[str, NDArray[Any]] = {}
    for tensor in map(_tensor, tables):
        known = tensors.get(tensor.name)
        if known is None or tensor.data is None or not tensor.dtype.startswith("int"):
            continue
        if known.shape != tensor.shape or known.dtype != tensor.dtype:
            raise FlatError(f"the test vector of {tensor.name!r} is {tensor.dtype} {tensor.shape}")
        vectors[tensor.name] = tensor.data
    return vectors
