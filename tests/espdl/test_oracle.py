"""The oracle equals the vectors that esp-ppq embeds: every tensor, every target, no tolerance."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from support.shared import shared_dir
from support.tiny_espdl import Net, detector, make_espdl, quantize_graph
from uhd.errors import DataError
from uhd.espdl import oracle
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.targets import TARGETS


def assert_equals_vectors(model: EspdlModel, at_least: int) -> dict[str, np.ndarray]:
    """Every embedded vector equals the oracle's value; at least so many are embedded."""
    values = oracle.run(model, model.test_inputs, keep_all=True)
    for name, expected in model.test_outputs.items():
        assert values[name].dtype == expected.dtype
        wrong = int((values[name] != expected).sum())
        assert wrong == 0, f"{name}: {wrong} of {expected.size} differ"
    assert len(model.test_outputs) >= at_least
    return values


@pytest.mark.parametrize("with_ese", [True, False])
@pytest.mark.parametrize("target", TARGETS)
def test_int8(target: str, with_ese: bool) -> None:
    model = read_espdl(make_espdl(target, 8, with_ese))
    assert {"ReduceMean", "Sigmoid", "Mul"} <= {n.op for n in model.nodes} or not with_ese
    assert_equals_vectors(model, 19 if with_ese else 15)


@pytest.mark.parametrize("target", TARGETS)
def test_int16(target: str) -> None:
    assert_equals_vectors(read_espdl(make_espdl(target, 16)), 19)


@pytest.mark.parametrize("target", TARGETS)
def test_mixed_precision(target: str) -> None:
    model = read_espdl(make_espdl(target, 8, mixed=True))
    values = assert_equals_vectors(model, 19)
    assert values["box"].dtype == np.int16
    assert values["cls"].dtype == np.int8


def everything(seed: int) -> onnx.ModelProto:
    """One network with the operators and geometries that the detectors leave out; 12x18 pixels."""
    net = Net(seed, 3, (12, 18))
    x = net.conv("root", "input", 24, 3)
    y = net.conv("signed", x, 24, relu=False)
    outputs = {
        "grouped": net.conv("g", x, 36, 3, group=4),
        "dilated": net.conv("d", y, 17, 3, dilation=2, pads=[2, 1, 0, 3], stride=2, bias=False, relu=False),
        "wide": net.conv("w", x, 9, 5, stride=3),
        "difference": net.op("Sub", "sub", [x, y]),
        "scaled": net.op("Mul", "times", [net.conv("t", x, 8), net.constant("k", np.array(0.37, np.float32))]),
        "raised": net.op("Add", "plus", [net.conv("p", x, 8), net.constant("j", np.array(0.37, np.float32))]),
        "clipped": net.op("Clip", "clip", [y, net.constant("lo", np.array(-0.5, np.float32)),
                                           net.constant("hi", np.array(1.5, np.float32))]),
        "tanh": net.op("Tanh", "th", [y]),
        "hard": net.op("HardSigmoid", "hs", [y], alpha=0.2, beta=0.5),
        "leaky": net.op("LeakyRelu", "lr", [y], alpha=0.1),
        "sum": net.op("Relu", "sr", [net.op("Add", "add", [y, net.conv("a", x, 24, relu=False)])]),
        "joined": net.op("Concat", "cat", [net.conv("c1", x, 5), net.conv("c2", y, 3), x], 32, axis=1),
        "ceil": net.op("MaxPool", "mp", [x], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        "tripled": net.upsample("up", net.conv("s", x, 6, 3, stride=2), 3),
        "average": net.op("GlobalAveragePool", "gap", [y]),
        "over_channels": net.op("ReduceMean", "mc", [y], 1, axes=[1], keepdims=1),
        "flat_mean": net.op("ReduceMean", "mk", [y], axes=[2, 3], keepdims=0),
    }  # fmt: skip
    swish = net.conv("z", x, 10, relu=False)
    outputs["swish"] = net.op("Mul", "sw", [swish, net.op("Sigmoid", "sg", [swish])])
    limits = [net.constant(f"at{i}", np.array(v, np.int64)) for i, v in enumerate(([4, 1], [20, 9], [1, 2], [1, 2]))]
    outputs["sliced"] = net.op("Slice", "sl", [y, *limits], 16)
    sizes = net.constant("sizes", np.array([7, 17], np.int64))
    net.nodes.append(helper.make_node("Split", [y, sizes], ["first", "second"], name="/split", axis=1))
    net.channels["second"] = 17
    outputs["part"] = net.conv("after", "second", 4)
    shape = net.constant("shape", np.array([1, 6, 4, 216], np.int64))
    outputs["turned"] = net.op("Transpose", "tr", [net.op("Reshape", "rs", [y, shape])], perm=[0, 3, 2, 1])
    return net.model(outputs)


@pytest.mark.parametrize(("target", "bits"), [("c", 8), ("esp32s3", 8), ("esp32p4", 8), ("esp32p4", 16)])
def test_every_other_operator(target: str, bits: int, tmp_path: Path) -> None:
    path = quantize_graph(everything(bits), tmp_path / "all.espdl", target=target, bits=bits)
    model = read_espdl(path)
    assert model.target == target
    operators = {node.op for node in model.nodes}
    table = {"LUT"} if bits == 16 else {"Swish", "Tanh", "HardSigmoid", "LeakyRelu"}
    assert operators >= table | {
        "Conv", "Sub", "Mul", "Add", "Clip", "Relu", "Concat", "MaxPool", "Resize", "GlobalAveragePool", "ReduceMean",
        "Slice", "Split", "Reshape", "Transpose", "RequantizeLinear",
    }  # fmt: skip
    assert_equals_vectors(model, 30)


def test_saturating_calibration(tmp_path: Path) -> None:
    """The KL observer clips the range, so that values saturate inside the network."""
    network = detector(5, with_ese=True, channels=16, size=16)
    path = quantize_graph(network, tmp_path / "kl.espdl", target="esp32p4", algorithm="kl", gain=1.8)
    model = read_espdl(path)
    assert_equals_vectors(model, 19)
    assert sum(int((v == 127).sum()) for v in model.test_outputs.values()) > 20


def test_int16_biases_that_the_simulation_rounds_up(tmp_path: Path) -> None:
    """esp-ppq computes floor(bias + 0.5) in float32, which lifts odd integers beyond 2**23; the file has them right."""
    net = Net(3, 1, 96)
    y = net.conv("c", "input", 16, relu=False)
    weight, bias = net.rng.uniform(-0.9, 0.9, (16, 1, 1, 1)), net.rng.uniform(0.6, 0.95, 16) * 2.0**-5
    net.weights = [
        numpy_helper.from_array(v.astype(np.float32), n) for v, n in ((weight, "c.weight"), (bias, "c.bias"))
    ]
    path = quantize_graph(net.model({"o": y}), tmp_path / "bias.espdl", target="c", bits=16, gain=1.0)
    model = read_espdl(path)
    stored = model.tensors["c.bias"]
    assert stored.data is not None
    simulated = np.floor(stored.data.astype(np.float32) + np.float32(0.5)).astype(np.int64)
    assert set((simulated - stored.data).tolist()) == {0, 1}
    lifted = dataclasses.replace(
        model, tensors={**model.tensors, "c.bias": dataclasses.replace(stored, data=simulated)}
    )
    assert_equals_vectors(lifted, 1)
    difference = model.test_outputs["o"].astype(int) - oracle.run(model, model.test_inputs)["o"]
    assert set(np.unique(difference)) == {0, 1}


@pytest.mark.parametrize("name", ["c", "esp32s3", "esp32s3_mixhp"])
def test_golden_vectors(name: str) -> None:
    model = read_espdl(shared_dir("fixtures", "espdl", f"w16_yuv_{name}.espdl"))
    arrays = np.load(shared_dir("fixtures", "espdl", f"w16_yuv_{name}.npz"))
    outputs = oracle.run(model, {"input_yuv422": arrays["in_input_yuv422"]})
    assert set(outputs) == {"box", "quality", "cls"}
    for output, values in outputs.items():
        assert np.array_equal(values, arrays[f"out_{output}"])
        assert model.tensors[output].exponent == int(arrays[f"exp_{output}"][0])
    assert_equals_vectors(model, 3)


def test_a_full_size_network_is_fast_enough() -> None:
    model = read_espdl(shared_dir("fixtures", "espdl", "w16_yuv_esp32s3_mixhp.espdl"))
    seconds = []
    for _ in range(3):
        started = time.thread_time()
        oracle.run(model, model.test_inputs)
        seconds.append(time.thread_time() - started)
    assert min(seconds) < 0.5


def test_other_rounding_gives_other_integers() -> None:
    """The vectors can tell the roundings apart, so equality above means something."""
    model = read_espdl(make_espdl("esp32p4"))
    wrong = oracle.run(dataclasses.replace(model, target="c"), model.test_inputs)
    assert any((wrong[name] != model.test_outputs[name]).any() for name in model.outputs)


def test_inputs_may_lack_the_batch_and_have_any_integer_type() -> None:
    model = read_espdl(make_espdl("c"))
    x = model.test_inputs["input"]
    expected = oracle.run(model, {"input": x})
    for variant in (x[0], x.astype(np.int64), x[0].astype(np.int16)):
        assert all(np.array_equal(v, expected[n]) for n, v in oracle.run(model, {"input": variant}).items())


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ({}, "no input array 'input'; the model wants input \\[1, 16, 16, 2\\] int8"),
        ({"in_input": np.zeros((1, 16, 16, 2), np.int8)}, "no input array 'input'"),
        ({"input": np.zeros((16, 16, 2), np.int8), "more": np.zeros(1, np.int8)}, "unknown input array 'more'"),
        ({"input": np.zeros((1, 2, 16, 16), np.int8)}, "has shape \\[1, 2, 16, 16\\]; the model wants"),
        ({"input": np.zeros((1, 16, 16, 2))}, "is float64, not integers"),
        ({"input": np.full((1, 16, 16, 2), 128, np.uint8)}, "holds values from 128 to 128"),
        ({"input": np.full((1, 16, 16, 2), 2**64 - 1, np.uint64)}, "holds values from 18446744073709551615"),
    ],
)
def test_unfit_inputs_are_refused(inputs: dict[str, np.ndarray], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        oracle.run(read_espdl(make_espdl("c")), inputs)
