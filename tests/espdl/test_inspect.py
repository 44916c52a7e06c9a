"""Figures and warnings about .espdl files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from support.hand_model import activation, conv_model, model, with_node, with_tensor
from support.shared import shared_dir
from support.tiny_espdl import make_espdl
from uhd.espdl.inspect import inspect_model, peak_activation_bytes, weight_bytes
from uhd.espdl.lint import accumulator_bounds, lint
from uhd.espdl.model import EspdlModel, Node
from uhd.espdl.reader import read_espdl
from uhd.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_totals_of_a_small_network(target: str) -> None:
    """Counted by hand from the network's definition, 20 channels on 8x8 and 24 on 4x4."""
    report = inspect_model(read_espdl(make_espdl(target)))
    cells, half = 64, 16
    convolutions = [
        (cells, 20, 2 * 9), (cells, 20, 9), (cells, 20, 20), (cells, 20, 40), (half, 20, 9), (half, 24, 20),
        (cells, 20, 24), (1, 20, 20), (cells, 20, 9), (cells, 12, 20), (cells, 3, 20),
    ]  # fmt: skip
    assert report.macs == sum(n * out * terms for n, out, terms in convolutions)
    assert report.weight_bytes == sum(out * terms + 4 * out for _, out, terms in convolutions) + 256
    assert report.operators["Conv"] == len(convolutions)
    assert report.target == target
    assert report.largest_filter_bytes == 20 * 40
    assert report.largest_filter == "/fuse/Conv"
    assert report.inputs == ({"name": "input", "shape": (1, 16, 16, 2), "dtype": "int8", "exponent": -6},)
    assert report.int16_layers == 0
    assert inspect_model(read_espdl(make_espdl(target, 16))).int16_layers == len(report.layers)


def test_golden_figures() -> None:
    """Weights and activations as measured when the file was made; 7.76 M products."""
    parsed = read_espdl(shared_dir("fixtures", "espdl", "w16_yuv_esp32s3.espdl"))
    report = inspect_model(parsed)
    assert report.peak_activation_bytes == peak_activation_bytes(parsed) == 24576
    assert report.weight_bytes == weight_bytes(parsed) == 134_720 - 32  # less the sizes input of Resize
    assert report.largest_filter_bytes == 16384
    assert report.macs == 7_760_128
    assert report.operators == {"Add": 4, "Concat": 1, "Conv": 42, "MaxPool": 1, "Resize": 1}


def test_report_is_plain_data() -> None:
    document = json.loads(json.dumps(inspect_model(read_espdl(make_espdl("esp32p4"))).as_dict()))
    layer = document["layers"][0]
    assert layer["name"] == "/stem/Conv"
    assert layer["note"] == "3x3 /2 relu"
    low, high = layer["weight_exponents"]
    assert low < high
    assert {"sha256", "warnings", "peak_activation_bytes", "metadata"} <= set(document)


def chain(*sizes: int) -> EspdlModel:
    """x -> t1 -> t2 ...: one Relu after the other, of so many bytes each."""
    names = [f"t{i}" for i in range(len(sizes))]
    nodes = [Node(f"/r{i}", "Relu", (names[i],), (names[i + 1],), {"quant_type": "S8"}) for i in range(len(sizes) - 1)]
    return model(nodes, [activation(n, (1, s), 0) for n, s in zip(names, sizes, strict=True)], ("t0",), (names[-1],))


def test_peak_counts_input_and_output_of_a_node_together() -> None:
    assert peak_activation_bytes(chain(10, 20, 5)) == 30
    assert peak_activation_bytes(chain(10, 5, 20, 1)) == 25
    assert peak_activation_bytes(model([], [activation("x", (1, 7), 0)], ("x",), ("x",))) == 7


def test_a_tensor_lives_until_its_last_reader_and_outputs_live_to_the_end() -> None:
    graph = chain(10, 20, 5)
    nodes = [*graph.nodes, Node("/add", "Concat", ("t2", "t0"), ("sum",), {"axis": 1, "quant_type": "S8"})]
    tensors = [*graph.tensors.values(), activation("sum", (1, 15), 0)]
    assert peak_activation_bytes(model(nodes, tensors, ("t0",), ("sum",))) == 35
    assert peak_activation_bytes(model(nodes, tensors, ("t0",), ("sum", "t1"))) == 50


def test_clean_files_have_no_warning() -> None:
    assert lint(read_espdl(make_espdl("c"))) == []
    assert lint(conv_model(np.ones((16, 1, 1, 16), np.int8), target="esp32s3")) == []


def warning(graph: EspdlModel) -> str:
    """The only warning."""
    found = lint(graph)
    assert len(found) == 1, found
    return found[0]


def test_partial_lanes_are_counted() -> None:
    assert "11 of 11 convolutions" in warning(read_espdl(make_espdl("esp32s3")))
    assert "1 of 1 convolutions" in warning(conv_model(np.ones((12, 1, 1, 1), np.int8), target="esp32p4"))


def test_int16_resize_and_curves() -> None:
    found = lint(read_espdl(make_espdl("c", 16)))
    assert found == ["/up/Resize: ESP-DL's int16 Resize leaves its output unwritten; keep Resize in int8"]
    graph = model([Node("/s", "Sigmoid", ("a",), ("b",), {"quant_type": "S16"}, 16)],
                  [activation("a", (1, 2), 0, 16), activation("b", (1, 2), 0, 16)], ("a",), ("b",))  # fmt: skip
    assert "int16 Sigmoid is computed in floating point" in warning(graph)


def test_accumulator_range() -> None:
    weight = np.full((16, 1, 1, 32), 127, np.int8)
    graph = conv_model(weight, target="esp32s3")
    assert accumulator_bounds(graph.nodes[0], graph) == (-128 * 127 * 32, 127 * 127 * 32)
    assert lint(graph) == []  # 520,192 < 2**19
    wider = conv_model(np.full((16, 1, 1, 33), 127, np.int8), target="esp32s3")
    assert "/conv/Conv: sums may reach 536,448, beyond the 20-bit accumulator" in warning(wider)
    assert lint(conv_model(np.full((16, 1, 1, 33), 127, np.int8), target="esp32p4")) == []
    biased = conv_model(weight, np.array([10_000] * 16, np.int32), target="esp32s3")
    assert "sums may reach 526,128" in warning(biased)  # 127 * 127 * 32 + 10,000
    negative = conv_model(-weight, np.array([6_000] * 16, np.int32), target="esp32s3")
    assert "sums may reach 526,192" in warning(negative)  # 128 * 127 * 32 + 6,000


def test_accumulator_range_after_relu_is_one_sided() -> None:
    inner = conv_model(np.ones((1, 1, 1, 1), np.int8), activation_name="Relu")
    node = Node("/two/Conv", "Conv", ("y", "w"), ("z",), inner.nodes[0].attributes)
    graph = model([*inner.nodes, node], [*inner.tensors.values(), activation("z", (1, 4, 4, 1), 0)], ("x",), ("z",))
    assert accumulator_bounds(graph.nodes[0], graph) == (-128, 127)
    assert accumulator_bounds(graph.nodes[1], graph) == (0, 127)


def test_depthwise_bounds_are_per_channel() -> None:
    weight = np.zeros((1, 3, 3, 2), np.int8)
    weight[..., 0], weight[..., 1] = 1, -2
    graph = conv_model(weight, group=2)
    assert accumulator_bounds(graph.nodes[0], graph) == (-127 * 18, 128 * 18)


def binary(op: str, *exponents: int) -> EspdlModel:
    """One node of two inputs; exponents of a, b and the output."""
    tensors = [activation(name, (1, 1), e) for name, e in zip("abr", exponents, strict=True)]
    return model([Node("/n", op, ("a", "b"), ("r",), {"quant_type": "S8"})], tensors, ("a", "b"), ("r",))


def test_exponents_that_the_chip_would_ignore() -> None:
    askew = with_tensor(conv_model(np.ones((1, 1, 1, 1), np.int8), np.zeros(1, np.int32)), "b", exponents=(0,))
    assert "the bias is not at the exponent of the products" in warning(askew)
    assert "/n: Add with unaligned exponents [0, -1, 0]" in warning(binary("Add", 0, -1, 0))


def test_left_shifts() -> None:
    assert "shifts its sums left by 1" in warning(conv_model(np.ones((1, 1, 1, 1), np.int8), exponents=(-3, -3, -7)))
    assert "shifts its products left by 2" in warning(binary("Mul", 0, 0, -2))


def test_filters_beyond_the_cache() -> None:
    graph = conv_model(np.ones((16, 3, 3, 400), np.int8), target="esp32s3", size=(3, 3))
    assert "a filter of 57,600 B falls out of the data cache" in lint(graph)[-1]
    assert not [w for w in lint(conv_model(np.ones((16, 3, 3, 400), np.int8), size=(3, 3))) if "cache" in w]


def test_what_has_no_kernel() -> None:
    graph = conv_model(np.ones((1, 1, 1, 1), np.int8))
    assert (
        "Conv (F32) has no integer kernel here"
        in lint(with_node(graph, 0, bits=32, attributes={"quant_type": "F32"}))[0]
    )
    floating = with_node(with_tensor(graph, "x", dtype="float32"), 0, bits=32, attributes={"quant_type": "F32"})
    assert len(lint(floating)) == 1  # integer bounds are not asked of it
    assert "W8A16 has no kernel in ESP-DL" in lint(with_node(graph, 0, attributes={"quant_type": "W8A16"}))[0]
    relu = chain(2, 2)
    assert "/r0: Softmax (S8) has no integer kernel" in warning(with_node(relu, 0, op="Softmax"))
