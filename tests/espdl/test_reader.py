"""Reading .espdl files: against esp-ppq's own classes, for every target, and refusals."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.espdl_reference import logical_filter, ppq_graph, ppq_raw
from support.shared import shared_dir
from support.tiny_espdl import make_espdl
from uhd.errors import ModelError
from uhd.espdl.deduce import FilterFacts, deduce_target
from uhd.espdl.layout import LANES
from uhd.espdl.model import Tensor
from uhd.espdl.reader import read_espdl
from uhd.espdl.shapes import is_depthwise
from uhd.targets import TARGETS

KINDS = [(target, bits) for target in TARGETS for bits in (8, 16)]


@pytest.mark.parametrize(("target", "bits"), KINDS)
def test_target_is_deduced_and_may_be_confirmed(target: str, bits: int) -> None:
    path = make_espdl(target, bits)
    assert read_espdl(path).target == target
    assert read_espdl(path, target).target == target
    for other in set(TARGETS) - {target}:
        message = rf"quantized for {target}, not for {other} \(see the filter of node '/\w+/Conv'\); quantize the model"
        with pytest.raises(ModelError, match=message):
            read_espdl(path, other)


def test_unknown_target_is_refused() -> None:
    with pytest.raises(ModelError, match="unknown target 'esp8266'; choose one of c, esp32s3, esp32p4"):
        read_espdl(make_espdl("c"), "esp8266")


def test_a_bias_that_is_no_integer_tells_nothing_of_the_target() -> None:
    weight = Tensor("w", (2, 1, 1, 3), "int8", (-7,), np.ones((2, 1, 1, 3), np.int8))
    bias = Tensor("b", (2,), "float32", (-7,), np.array([np.nan, 0], np.float32))
    layout = next(name for name, lanes in LANES.items() if lanes == 1)
    assert deduce_target([FilterFacts("/c/Conv", layout, weight, bias)], None) == "c"


@pytest.mark.parametrize(("target", "bits"), KINDS)
def test_every_constant_equals_what_esp_ppq_stored(target: str, bits: int) -> None:
    path = make_espdl(target, bits)
    model = read_espdl(path)
    graph = ppq_graph(path.read_bytes())
    users = {name: node for node in model.nodes for name in node.inputs}
    filters = 0
    for index in range(graph.InitializerLength()):
        stored = graph.Initializer(index)
        tensor = model.tensors[stored.Name().decode()]
        dims = tuple(stored.Dims(i) for i in range(stored.DimsLength()))
        assert tensor.exponents == tuple(stored.Exponents(i) for i in range(stored.ExponentsLength()))
        assert tensor.data is not None
        flat = ppq_raw(stored, tensor.dtype)
        node = users.get(tensor.name)
        if node is None or node.op != "Conv" or len(dims) != 4:
            assert tensor.shape == dims
            assert np.array_equal(tensor.data.reshape(-1), flat[: tensor.data.size])
            continue
        filters += 1
        grouped = node.attributes["group"] > 1
        h, w, third, fourth = dims
        n, c = (third, fourth) if grouped else (fourth, third)
        lanes = TARGETS[target].lanes_int8 if bits == 8 else TARGETS[target].lanes_int16
        expected = logical_filter(flat, n, h, w, c, lanes=lanes, plain=lanes == 1, grouped=grouped)
        if is_depthwise(node, tensor):
            expected = expected.transpose(3, 1, 2, 0)
        assert np.array_equal(tensor.data, expected)
    assert filters == 11


@pytest.mark.parametrize(("target", "bits"), KINDS)
def test_nodes_and_activations_equal_what_esp_ppq_stored(target: str, bits: int) -> None:
    path = make_espdl(target, bits)
    model = read_espdl(path)
    graph = ppq_graph(path.read_bytes())
    assert len(model.nodes) == graph.NodeLength()
    for index, node in enumerate(model.nodes):
        stored = graph.Node(index)
        assert (node.name, node.op) == (stored.Name().decode(), stored.OpType().decode())
        assert node.inputs == tuple(stored.Input(i).decode() for i in range(stored.InputLength()))
        assert node.outputs == tuple(stored.Output(i).decode() for i in range(stored.OutputLength()))
        assert set(node.attributes) == {stored.Attribute(i).Name().decode() for i in range(stored.AttributeLength())}
        for i in range(stored.AttributeLength()):
            attribute = stored.Attribute(i)
            if attribute.AttrType() == 7:
                assert node.attributes[attribute.Name().decode()] == attribute.IntsAsNumpy().tolist()
        assert node.bits == bits
    for index in range(graph.ValueInfoLength()):
        info = graph.ValueInfo(index)
        if info.Name():
            tensor = model.tensors[info.Name().decode()]
            assert tensor.exponent == info.Exponents(0)
            assert (tensor.dtype, tensor.data) == (f"int{bits}", None)


@pytest.mark.parametrize("target", TARGETS)
def test_exponents_are_per_channel_where_the_target_has_them(target: str) -> None:
    model = read_espdl(make_espdl(target))
    for node in model.nodes:
        if node.op == "Conv":
            weight, bias = model.tensors[node.inputs[1]], model.tensors[node.inputs[2]]
            channels = model.tensors[node.outputs[0]].shape[3]
            wanted = channels if TARGETS[target].per_channel_weights else 1
            assert len(weight.exponents) == len(bias.exponents) == wanted
            assert bias.shape == (channels,)


def test_hash_size_interface_and_test_vectors() -> None:
    path = make_espdl("c")
    data = path.read_bytes()
    model = read_espdl(data)
    assert model.sha256 == hashlib.sha256(data).hexdigest()
    assert model.size_bytes == len(data)
    assert model.inputs == ("input",)
    assert set(model.outputs) == {"box", "cls"}
    assert model.test_inputs["input"].shape == (1, 16, 16, 2)
    assert set(model.outputs) <= set(model.test_outputs)
    assert len(model.test_outputs) == 19
    assert read_espdl(make_espdl("c", test_values=False)).test_outputs == {}


def test_depthwise_filters_are_stored_as_1_h_w_n() -> None:
    model = read_espdl(make_espdl("esp32s3"))
    shapes = {node.name: model.tensors[node.inputs[1]].shape for node in model.nodes if node.op == "Conv"}
    assert shapes["/dw/Conv"] == (1, 3, 3, 20)
    assert shapes["/stem/Conv"] == (20, 3, 3, 2)


def header(magic: bytes = b"EDL2", mode: int = 0, length: int | None = None, body: bytes = b"\0" * 64) -> bytes:
    return magic + struct.pack("<III", mode, len(body) if length is None else length, 0) + body


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not an .espdl file"),
        (b"EDL2", "not an .espdl file"),
        (b"\x7fELF" + bytes(100), "not an .espdl file .* give the file that quantize wrote"),
        (header(b"EDL1"), "container EDL1 .* quantize the model again"),
        (header(b"PDL2"), "several models packed into one file"),
        (header(b"PDL3"), "several models packed into one file"),
        (header(mode=1), "encrypted; export the model without encryption"),
        (header(mode=7), "header says mode 7"),
        (header(length=65), "header promises 65 bytes, the file holds 64"),
        (header(length=40), "24 bytes follow the model"),
        (header(), "not a sound .espdl"),
    ],
)
def test_what_is_not_a_plain_espdl_is_refused_in_one_line(data: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "model.espdl"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=complaint) as caught:
        read_espdl(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no.espdl: cannot read the model"):
        read_espdl(tmp_path / "no.espdl")


def test_trailing_padding_is_accepted() -> None:
    data = make_espdl("c").read_bytes()
    padded = read_espdl(data + b"\0" * 8)
    assert padded.size_bytes == len(data) + 8
    with pytest.raises(ModelError, match="bytes follow the model"):
        read_espdl(data + b"\0\0\1")


@pytest.mark.parametrize("name", ["c", "esp32s3", "esp32s3_mixhp"])
def test_golden_files(name: str) -> None:
    model = read_espdl(shared_dir("fixtures", "espdl", f"w16_yuv_{name}.espdl"))
    assert model.target == name.removesuffix("_mixhp")
    assert model.inputs == ("input_yuv422",)
    assert set(model.outputs) == {"box", "quality", "cls"}
    assert sum(node.bits == 16 for node in model.nodes) == (8 if "mix" in name else 0)
    assert len(model.nodes) == (53 if "mix" in name else 49)


def test_golden_filters_do_not_depend_on_the_layout() -> None:
    """The two int8 files hold the same network, once plain and once in 16-lane blocks."""
    plain, lanes = (read_espdl(shared_dir("fixtures", "espdl", f"w16_yuv_{n}.espdl")) for n in ("c", "esp32s3"))
    constants = [name for name, tensor in plain.tensors.items() if tensor.data is not None]
    assert len(constants) > 80
    for name in constants:
        assert np.array_equal(plain.tensors[name].data, lanes.tensors[name].data), name  # type: ignore[arg-type]


def test_reading_imports_neither_torch_nor_esp_ppq() -> None:
    code = (
        "import sys; from uhd.espdl import oracle; from uhd.espdl.reader import read_espdl; "
        "from uhd.espdl.inspect import inspect_model; m = read_espdl(sys.argv[1]); inspect_model(m); "
        "oracle.run(m, m.test_inputs); print({'torch', 'esp_ppq', 'onnx', 'cv2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(make_espdl("c"))], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "set()"), done.stderr


def test_all_layouts_are_known() -> None:
    assert {LANES[label] for label in LANES} == {t.lanes_int8 for t in TARGETS.values()} | {8}
