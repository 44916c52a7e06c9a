"""Whole .espdl files as records and back: against esp-ppq's own classes, alignment, sharing, refusals."""

from __future__ import annotations

import copy
import struct
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.espdl_reference import ppq_graph
from support.tiny_espdl import make_espdl
from uhd import zoo
from uhd.errors import ModelError
from uhd.espdl.document import SCHEMA, read_document, write_document
from uhd.espdl.reader import read_espdl
from uhd.targets import TARGETS

KINDS = [(target, bits) for target in TARGETS for bits in (8, 16)]


def everything(table: Any) -> Any:
    """All that one of esp-ppq's objects gives, method by method, as plain values; blocks by their bytes."""
    if isinstance(table, (int, float, bytes, type(None))):
        return table
    methods = [name for name in dir(type(table)) if name[0].isupper() and not name.startswith(("GetRootAs", "Init"))]
    found: dict[str, Any] = {}
    for name in methods:
        if name.endswith(("AsNumpy", "IsNone", "Length")) or name in ("SizeOf", "Bytes"):
            continue
        method = getattr(table, name)
        length = getattr(table, f"{name}Length", None)
        if length is None:
            value = method()
            if type(table).__name__ == "TypeInfo" and name == "Value":  # a union, here always of this type
                kind = sys.modules["FlatBuffers.Dl.TensorTypeAndShape"].TensorTypeAndShape()
                kind.Init(value.Bytes, value.Pos)
                value = kind
            found[name] = everything(value)
        elif name == "RawData":
            found[name] = b"".join(bytes(table.RawData(i).Bytes()) for i in range(length()))
        else:
            found[name] = [everything(method(i)) for i in range(length())]
    return found


@pytest.mark.parametrize(("target", "bits"), KINDS)
def test_esp_ppq_reads_the_same_from_what_is_written_back(target: str, bits: int) -> None:
    data = make_espdl(target, bits).read_bytes()
    written = write_document(read_document(data))
    wanted = everything(ppq_graph(data))
    assert everything(ppq_graph(written)) == wanted
    value = next(value for value in wanted["ValueInfo"] if value["Name"] == b"stem_act_out")
    assert [dim["Value"]["DimValue"] for dim in value["ValueInfoType"]["Value"]["Shape"]["Dim"]] == [1, 8, 8, 20]
    assert read_document(written) == read_document(data), "nothing is lost, shapes of activations included"
    assert write_document(read_document(written)) == written
    assert len(written) < len(data) - 8000, "names and shapes are written once"


def test_the_header_and_what_esp_dl_wants_aligned() -> None:
    data = write_document(read_document(make_espdl("esp32s3").read_bytes()))
    assert struct.unpack_from("<4sIII", data) == (b"EDL2", 0, len(data) - 16, 0)
    graph = ppq_graph(data)
    starts = [graph.Initializer(i).RawData(0)._tab.Pos for i in range(graph.InitializerLength())
              if graph.Initializer(i).RawDataLength()]  # fmt: skip
    assert len(starts) > 20 and all(start % 16 == 0 for start in starts)
    assert len(set(starts)) == len(starts), "values of tensors are not shared: a runtime may repack them in place"


@pytest.mark.parametrize("path", [zoo.shipped_espdl("R", target, "precision").path for target in TARGETS])  # type: ignore[union-attr]
def test_shipped_files_mean_the_same_when_written_back(path: Any) -> None:
    before = read_espdl(path)
    after = read_espdl(write_document(read_document(path.read_bytes())))
    assert after.nodes == before.nodes and after.metadata == before.metadata and after.outputs == before.outputs
    assert list(after.tensors) == list(before.tensors)
    for name, tensor in before.tensors.items():
        other = after.tensors[name]
        assert (other.shape, other.dtype, other.exponents) == (tensor.shape, tensor.dtype, tensor.exponents)
        if tensor.data is not None:
            np.testing.assert_array_equal(other.data, tensor.data, strict=True)
    assert after.test_outputs.keys() == before.test_outputs.keys()


def test_a_changed_value_is_not_shared_with_its_like() -> None:
    document = read_document(make_espdl("c").read_bytes())
    untouched = copy.deepcopy(document)
    values = document["graph"]["values"]
    name = values[0]["name"]
    values[0]["exponents"] = [values[0]["exponents"][0] + 1]
    back = read_document(write_document(document))
    assert back["graph"]["values"][0]["exponents"] != untouched["graph"]["values"][0]["exponents"]
    back["graph"]["values"][0] = untouched["graph"]["values"][0]
    assert back == untouched and back["graph"]["values"][0]["name"] == name


SMALL = st.text("ab/_", max_size=4)
NUMBERS = st.lists(st.integers(-(1 << 40), 1 << 40), max_size=4)
TENSOR = st.fixed_dictionaries(
    {"name": SMALL},
    optional={"dims": NUMBERS, "dtype": st.integers(0, 13), "doc": SMALL, "exponents": NUMBERS,
              "raw": st.binary(max_size=5).map(lambda b: b + b"\0" * (-len(b) % 16))},
)  # fmt: skip
ATTRIBUTE = st.fixed_dictionaries(
    {"name": SMALL, "kind": st.integers(0, 8)},
    optional={"i": st.integers(-(1 << 60), 1 << 60), "f": st.floats(width=32, allow_nan=False), "s": st.binary(),
              "ints": NUMBERS, "strings": st.lists(SMALL, max_size=3)},
)  # fmt: skip
NODE = st.fixed_dictionaries(
    {"inputs": st.lists(SMALL, max_size=3)},
    optional={"name": SMALL, "op": SMALL, "attributes": st.lists(ATTRIBUTE, max_size=3)},
)


@settings(max_examples=60, deadline=None)
@given(st.lists(TENSOR, max_size=4), st.lists(NODE, max_size=4))
def test_any_record_comes_back(constants: list[Any], nodes: list[Any]) -> None:
    model = {"ir_version": 8, "graph": {"nodes": nodes, "constants": constants, "name": "g"}}
    assert read_document(write_document(model)) == model


@settings(max_examples=150, deadline=None)
@given(st.integers(16, 1 << 30), st.integers(0, 255))
def test_a_damaged_file_is_refused_or_read(position: int, value: int) -> None:
    data = bytearray(make_espdl("esp32s3").read_bytes())
    data[16 + position % (len(data) - 16)] = value
    try:
        document = read_document(bytes(data))
    except ModelError as error:
        assert str(error).isprintable()
    else:
        assert set(document) <= set(SCHEMA["Model"])


def test_what_cannot_be_written_back_is_refused() -> None:
    document = read_document(make_espdl("c").read_bytes())
    assert "Graph" in SCHEMA
    SCHEMA["Graph"]["annotations"] = (7, "[text]")
    try:
        data = write_document(document | {"graph": document["graph"] | {"annotations": ["x"]}})
    finally:
        del SCHEMA["Graph"]["annotations"]
    with pytest.raises(ModelError, match="a Graph with field 7, which cannot be rewritten; use it as it is"):
        read_document(data)
    with pytest.raises(ModelError, match="no EDL2 header"):
        read_document(b"PK" + bytes(40))
