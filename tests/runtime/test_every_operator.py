"""Every operator that the models use, in every precision, for every target: one truth.

For each pair of precision and target, one network with a row an operator goes through esp-ppq into a real .espdl. The
vectors that esp-ppq embeds, the integer oracle and the compiled runtime then hold the same integers, and the emulated
runtime for two pairs that between them have both precisions, both roundings and both layouts of a filter.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from support.components import made_component, need_compiler
from support.tiny_espdl import Net, quantize_graph
from uhd.device import runtime_bench as bench
from uhd.device.cross import emulator_missing
from uhd.device.twin import Twin
from uhd.espdl import oracle
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl

PAIRS = [(bits, target) for bits in (8, 16) for target in ("c", "esp32s3", "esp32p4")]
EMULATED = [(8, "esp32s3"), (16, "esp32p4")]

#: Row of the network: the operators of the file that it is there for. ``LUT`` is int16's word for a curve by table.
ROWS = {
    "dense": {"Conv"}, "pointwise": {"Conv"}, "depthwise": {"Conv"}, "dilated": {"Conv"}, "dilated_dense": {"Conv"},
    "grouped": {"Conv"}, "sum": {"Add", "Relu"}, "joined": {"Concat"}, "pooled": {"MaxPool"},
    "requantized": {"RequantizeLinear"}, "clipped": {"Clip"}, "sigmoid": {"Sigmoid", "LUT"}, "swish": {"Swish", "LUT"},
    "gated": {"ReduceMean", "Sigmoid", "LUT", "Mul"}, "scaled": {"Mul"}, "sliced": {"Slice"}, "split": {"Split"},
    "enlarged": {"Resize"},
}  # fmt: skip


def network(bits: int) -> onnx.ModelProto:
    """One row an operator, on maps of 7x9 with whole lane blocks and without. int16 has no Resize on the chips."""
    net = Net(bits, 3, (14, 18))
    x = net.conv("root", "input", 24, 3, stride=2)
    y = net.conv("signed", x, 21, relu=False)
    z = net.conv("other", x, 21, relu=False)
    swish = net.conv("bent", x, 10, relu=False)
    limits = [net.constant(f"at{i}", np.array(v, np.int64)) for i, v in enumerate(([4, 1], [20, 8], [1, 2], [1, 2]))]
    net.nodes.append(helper.make_node("Split", [y, net.constant("sizes", np.array([9, 12], np.int64))],
                                      ["first", "second"], name="/split", axis=1))  # fmt: skip
    net.channels["second"] = 12
    rows = {
        "dense": net.conv("a", y, 20, 3),
        "pointwise": net.conv("b", x, 16, relu=False),
        "depthwise": net.conv("c", x, 24, 3, group=24),
        "dilated": net.conv("d", y, 21, 3, group=21, dilation=2),
        "dilated_dense": net.conv("e", y, 17, 3, dilation=2, pads=[2, 1, 0, 3], stride=2, bias=False, relu=False),
        "grouped": net.conv("f", x, 36, 3, group=4),
        "sum": net.op("Relu", "sum_act", [net.op("Add", "add", [y, z])]),
        "joined": net.op("Concat", "cat", [net.conv("i", x, 5), net.conv("j", y, 3), x], 32, axis=1),
        "pooled": net.op("MaxPool", "pool", [y], kernel_shape=[5, 5], strides=[1, 1], pads=[2, 2, 2, 2]),
        "clipped": net.op("Clip", "clip", [z, net.constant("lo", np.array(0.0, np.float32)),
                                           net.constant("hi", np.array(1.5, np.float32))]),
        "sigmoid": net.op("Sigmoid", "sig", [net.conv("k", x, 9, relu=False)]),
        "swish": net.op("Mul", "sw", [swish, net.op("Sigmoid", "sw_sig", [swish])]),
        "gated": net.ese("ese", x),
        "scaled": net.op("Mul", "times", [net.conv("l", x, 8), net.constant("gain", np.array(0.37, np.float32))]),
        "sliced": net.op("Slice", "slice", [net.conv("n", x, 20, relu=False), *limits], 16),
        "split": net.conv("o", "second", 4),
    }  # fmt: skip
    if bits == 8:
        rows["enlarged"] = net.upsample("up", net.conv("p", x, 6, 3, stride=2), 3)
    # Summed with z and with values many times larger, y cannot have the scale of both sums.
    net.weights.append(numpy_helper.from_array(net.rng.normal(0, 4, (21, 24, 1, 1)).astype(np.float32), "q.weight"))
    large = net.op("Conv", "q", [x, "q.weight"], 21, kernel_shape=[1, 1])
    rows["requantized"] = net.op("Add", "steps", [y, large])
    return net.model(rows)


class Subject:
    """A quantized network with what each implementation makes of its embedded input."""

    def __init__(self, bits: int, target: str, folder: Path) -> None:
        self.path = quantize_graph(network(bits), folder / "rows.espdl", target=target, bits=bits)
        self.model = read_espdl(self.path)
        self.oracle = oracle.run(self.model, self.model.test_inputs, keep_all=True)
        self.component = made_component(folder / "uhd_model", self.model, self.path.read_bytes())
        self.twin = Twin(self.component).run(self.model.test_inputs)

    def operators_of(self, row: str) -> set[str]:
        """Operators between ``row`` and the inputs of the network."""
        makers = {name: node for node in self.model.nodes for name in node.outputs}
        waiting, found = [row], set()
        while waiting:
            node = makers.get(waiting.pop())
            if node is not None:
                found.add(node.op)
                waiting.extend(node.inputs)
        return found


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    need_compiler()
    return cache(lambda bits, target: Subject(bits, target, tmp_path_factory.mktemp(f"{target}_{bits}")))


def assert_same(made: np.ndarray, wanted: np.ndarray) -> None:
    assert made.dtype == wanted.dtype
    np.testing.assert_array_equal(made.reshape(-1), wanted.reshape(-1))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(("bits", "target"), PAIRS)
def test_one_truth(subject, bits: int, target: str, row: str) -> None:  # type: ignore[no-untyped-def]
    if (row, bits) == ("enlarged", 16):
        pytest.skip("int16 Resize is refused when quantizing (tests/quantize/test_patterns.py): ESP-DL's is empty")
    s = subject(bits, target)
    model: EspdlModel = s.model
    assert s.operators_of(row) & ROWS[row], "the file does not have the operator that the row is for"
    assert model.tensors[row].dtype == f"int{bits}" and np.unique(model.test_outputs[row]).size > 4
    assert_same(s.oracle[row], model.test_outputs[row])
    assert_same(s.twin[row], model.test_outputs[row])


@pytest.mark.parametrize(("bits", "target"), PAIRS)
def test_every_tensor_in_between(subject, bits: int, target: str) -> None:  # type: ignore[no-untyped-def]
    """The oracle equals esp-ppq inside the rows too; and the file has all the operators, of that precision."""
    model: EspdlModel = subject(bits, target).model
    wanted = set().union(*(ops for row, ops in ROWS.items() if row != "enlarged" or bits == 8))
    missing = wanted - {node.op for node in model.nodes}
    assert missing == ({"LUT"} if bits == 8 else {"Sigmoid", "Swish"})
    assert {node.bits for node in model.nodes} == {bits}
    assert len(model.test_outputs) > 30
    for name, vector in model.test_outputs.items():
        assert_same(subject(bits, target).oracle[name], vector)


@pytest.mark.emu
@pytest.mark.parametrize(("bits", "target"), EMULATED)
def test_emulated(subject, bits: int, target: str) -> None:  # type: ignore[no-untyped-def]
    """All rows in one start of the machine, by a checksum over their integers."""
    if missing := emulator_missing():
        pytest.skip(missing)
    s = subject(bits, target)
    source = s.model.tensors[s.model.inputs[0]]
    given = bench.input_bytes(int(np.prod(source.shape)) * bits // 8).view(source.dtype).reshape(source.shape)
    made = oracle.run(s.model, {source.name: given})
    wanted = bench.checksum([made[name] for name in s.model.outputs])
    assert bench.run_emulated(s.component).checksum == wanted
