"""Tiny random networks, quantized by esp-ppq into .espdl files with every tensor's test vector embedded.

``make_espdl`` is the short way: a small detector-like network of 16x16 inputs, quantized once a session for each
set of arguments (about half a second each). ``quantize_graph`` takes any ONNX graph. esp-ppq runs in this process.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

_FOLDER = tempfile.TemporaryDirectory(prefix="tiny_espdl_")
_SILENCE = Path(os.devnull).open("w")  # noqa: SIM115 - open as long as esp-ppq's loggers live


class Net:
    """Builds an ONNX graph (opset 17, NCHW) with random weights; each method adds a node and returns its output."""

    def __init__(self, seed: int, channels: int, size: int | tuple[int, int] = 16) -> None:
        height, width = (size, size) if isinstance(size, int) else size
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.channels: dict[str, int] = {"input": channels}
        self.shape = (1, channels, height, width)

    def constant(self, name: str, value: np.ndarray) -> str:
        """An initializer."""
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def op(self, kind: str, name: str, inputs: Sequence[str], channels: int | None = None, **attributes: object) -> str:
        """Any operator; ``channels`` of its output default to those of its first input."""
        self.nodes.append(helper.make_node(kind, list(inputs), [f"{name}_out"], name=f"/{name}/{kind}", **attributes))
        self.channels[f"{name}_out"] = self.channels[inputs[0]] if channels is None else channels
        return f"{name}_out"

    def conv(
        self, name: str, x: str, channels: int, k: int = 1, *, stride: int = 1, group: int = 1, dilation: int = 1,
        pads: Sequence[int] | None = None, relu: bool = True, bias: bool = True,
    ) -> str:  # fmt: skip
        """A convolution with weights of about unit gain (log-normal over the channels), and a Relu after it."""
        cin = self.channels[x] // group
        weight = self.rng.normal(0, (2.0 / (cin * k * k)) ** 0.5, (channels, cin, k, k)).astype(np.float32)
        weight *= np.exp(self.rng.normal(0, 0.7, (channels, 1, 1, 1))).astype(np.float32)
        inputs = [x, self.constant(f"{name}.weight", weight)]
        if bias:
            inputs.append(self.constant(f"{name}.bias", self.rng.normal(0, 0.3, channels).astype(np.float32)))
        pad = list(pads) if pads is not None else [dilation * (k // 2)] * 4
        y = self.op("Conv", name, inputs, channels, kernel_shape=[k, k], strides=[stride] * 2, pads=pad, group=group,
                    dilations=[dilation] * 2)  # fmt: skip
        return self.op("Relu", f"{name}_act", [y]) if relu else y

    def ese(self, name: str, x: str) -> str:
        """Effective squeeze and excitation: x * sigmoid(conv1x1(mean(x)))."""
        mean = self.op("ReduceMean", f"{name}_mean", [x], axes=[2, 3], keepdims=1)
        gate = self.op("Sigmoid", f"{name}_gate", [self.conv(f"{name}_fc", mean, self.channels[x], relu=False)])
        return self.op("Mul", name, [x, gate])

    def upsample(self, name: str, x: str, factor: int) -> str:
        """Nearest-neighbour enlargement, as the TorchScript exporter writes it."""
        scales = self.constant(f"{name}.scales", np.array([1, 1, factor, factor], np.float32))
        return self.op("Resize", name, [x, "", scales], mode="nearest", nearest_mode="floor",
                       coordinate_transformation_mode="asymmetric")  # fmt: skip

    def model(self, outputs: dict[str, str]) -> onnx.ModelProto:
        """The finished model; ``outputs`` maps output names to tensors (copied out by renaming)."""
        rename = {tensor: name for name, tensor in outputs.items()}
        for node in self.nodes:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    names[index] = rename.get(name, name)
        graph = helper.make_graph(
            self.nodes, "tiny", [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs], self.weights,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model)


def detector(seed: int, *, with_ese: bool, channels: int, size: int, input_channels: int = 2) -> onnx.ModelProto:
    """A network with every operator that the shipped variants use; ``channels`` is its width."""
    net = Net(seed, input_channels, size)
    x = net.conv("stem", "input", channels, 3, stride=2)
    y = net.conv("pw", net.conv("dw", x, channels, 3, group=channels), channels)
    x = net.op("Add", "skip", [x, y])
    pool = net.op("MaxPool", "pool", [x], kernel_shape=[5, 5], strides=[1, 1], pads=[2, 2, 2, 2])
    cat = net.op("Concat", "cat", [x, pool], 2 * channels, axis=1)
    x = net.conv("fuse", cat, channels)
    large = net.conv("large", net.conv("down", x, channels, 3, stride=2, group=channels), channels + 4)
    x = net.op("Add", "merge", [x, net.conv("back", net.upsample("up", large, 2), channels)])
    if with_ese:
        x = net.ese("ese", x)
    box = net.conv("box_out", net.conv("box_tower", x, channels, 3, group=channels), 12, relu=False)
    cls = net.conv("cls_out", x, 3, relu=False)
    return net.model({"box": box, "cls": cls})


def quantize_graph(
    model: onnx.ModelProto, output: Path, *, target: str, bits: int = 8, int16: Sequence[str] = (), seed: int = 0,
    test_values: bool = True, calibration_images: int = 4, embed: Sequence[str] | None = None,
    algorithm: str = "minmax", gain: float = 1.4,
) -> Path:  # fmt: skip
    """Quantize ``model`` with esp-ppq; int16 operators by exact node name, in the float64 mode.

    Args:
        bits: of the rest of the model.
        embed: the tensors whose test vectors are stored (None: all).
        algorithm: of the calibration; "kl" takes five times as long.
        gain: the test picture is a calibration picture times this, so that activations saturate here and there.
    """
    if importlib.util.find_spec("esp_ppq") is None:
        pytest.skip("esp-ppq is not installed")
    output.parent.mkdir(parents=True, exist_ok=True)
    source = output.with_suffix(".onnx")
    onnx.save(model, source)
    # The simplifier inside esp-ppq may rename or drop tensors, so name the vectors after running it once ourselves.
    tensors = _tensor_names(source) if embed is None else list(embed)
    with contextlib.redirect_stdout(_SILENCE), contextlib.redirect_stderr(_SILENCE):
        _quantize(source, output, target, bits, int16, np.random.default_rng(seed + 1000), test_values,
                  calibration_images, tensors, algorithm, gain)  # fmt: skip
    return output


def _quantize(
    source: Path, output: Path, target: str, bits: int, int16: Sequence[str], rng: np.random.Generator,
    test_values: bool, count: int, tensors: list[str], algorithm: str, gain: float,
) -> None:  # fmt: skip
    import torch
    from esp_ppq.api import espdl_quantize_onnx, get_target_platform
    from esp_ppq.api.setting import QuantizationSettingFactory
    from esp_ppq.log.logger import initialized_loggers

    from uhd.quantize.haste import hasten

    for logger in initialized_loggers.values():  # they keep the stdout of their birth, which pytest may have closed
        for handler in logger._handlers.values():
            handler._fd = _SILENCE
    hasten()
    torch.set_num_threads(1)
    shape = [d.dim_value for d in onnx.load(source).graph.input[0].type.tensor_type.shape.dim]
    images = [torch.from_numpy(rng.random(shape, dtype=np.float32)) for _ in range(count)]
    setting = QuantizationSettingFactory.espdl_setting(num_of_bits=bits)
    setting.quantize_activation_setting.calib_algorithm = algorithm
    for name in int16:
        setting.dispatching_table.append(name, get_target_platform(target, "w16a16", debug=True))
    espdl_quantize_onnx(
        onnx_import_file=str(source), espdl_export_file=str(output), calib_dataloader=images,
        calib_steps=count, input_shape=shape, inputs=[images[0] * gain], target=target, setting=setting,
        quant_type="w16a16" if bits == 16 else "w8a8", debug=True, device="cpu", error_report=False,
        export_test_values=test_values, test_output_names=tensors, verbose=0, export_config=False,
    )  # fmt: skip


def _tensor_names(source: Path) -> list[str]:
    from onnxsim import simplify

    simplified, _ = simplify(onnx.load(source))
    names = [name for node in simplified.graph.node for name in node.output if node.op_type != "Constant"]
    gone = {tensor.name for tensor in simplified.graph.initializer}
    for node in simplified.graph.node:  # esp-ppq makes one Swish of x * Sigmoid(x)
        if node.op_type == "Sigmoid":
            users = [other for other in simplified.graph.node if node.output[0] in other.input]
            if users and all(user.op_type == "Mul" and node.input[0] in user.input for user in users):
                gone.add(node.output[0])
    return [name for name in names if name not in gone]


@functools.cache
def make_espdl(
    target: str, bits: int = 8, with_ese: bool = True, *, channels: int = 20, size: int = 16, mixed: bool = False,
    seed: int = 0, test_values: bool = True,
) -> Path:  # fmt: skip
    """A tiny quantized detector on disk, made once a session for each set of arguments.

    Args:
        target: c, esp32s3 or esp32p4.
        bits: 8 or 16 for all operators (a 16-bit one has no Resize: ESP-DL cannot run it).
        channels: width; 20 leaves partial lane blocks, 16 and 32 do not.
        mixed: the box tower in int16, the rest as ``bits`` says.
        test_values: embed the vectors of all tensors.
    """
    name = f"tiny_{target}_{bits}_{int(with_ese)}_{channels}_{size}_{int(mixed)}_{seed}_{int(test_values)}"
    model = detector(seed, with_ese=with_ese, channels=channels, size=size)
    tower = [node.name for node in model.graph.node if mixed and node.name.startswith("/box_")]
    path = Path(_FOLDER.name) / name / f"{name}.espdl"
    return quantize_graph(model, path, target=target, bits=bits, int16=tower, seed=seed, test_values=test_values)
