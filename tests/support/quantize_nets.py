"""Small float networks to quantize, and pictures to calibrate them on."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from uhd.manifest import ModelManifest

_FOLDER = tempfile.TemporaryDirectory(prefix="quantize_nets_")

ANCHORS = [(0.1, 0.2), (0.4, 0.7)]


def pictures(count: int, shape: tuple[int, int, int] = (2, 64, 64), seed: int = 0) -> NDArray[np.float32]:
    """Smooth random pictures [count, C, H, W] in 0..1, which use the range as photos do and are no noise."""
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = np.zeros((count, channels, height, width))
    for _ in range(4):
        fy, fx, phase = rng.uniform(-3, 3, (3, count, channels, 1, 1))
        waves += np.sin(2 * np.pi * (fy * y + fx * x) + 6 * phase)
    return (0.5 + 0.5 * np.tanh(waves)).astype(np.float32)


@functools.cache
def detector_onnx() -> tuple[Path, ModelManifest]:
    """UltraTinyOD of variant R's architecture at width 8 with random weights, as the exporter writes it."""
    import torch

    from uhd.export.onnx_export import export_onnx
    from uhd.models.checkpoint import complete_manifest
    from uhd.models.families import family_config
    from uhd.models.ultratinyod import UltraTinyOD

    torch.set_num_threads(1)
    torch.manual_seed(5)
    network = UltraTinyOD(family_config("current_yuv422", 8, anchors=ANCHORS)).eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    manifest = complete_manifest(network, ModelManifest(name="tiny R", variant="R"))
    path = Path(_FOLDER.name) / "tiny_r.onnx"
    export_onnx(network, manifest, path)
    return path, manifest


def checkpoint_of(name: str = "tiny") -> Path:
    """A checkpoint of ours of a small network, with its manifest."""
    from uhd.models.checkpoint import save_checkpoint
    from uhd.models.families import family_config
    from uhd.models.ultratinyod import UltraTinyOD

    network = UltraTinyOD(family_config("readme_train_nolo", 8, anchors=ANCHORS, in_channels=2)).eval()
    path = Path(_FOLDER.name) / f"{name}.safetensors"
    save_checkpoint(path, network, ModelManifest(name=name, variant="R"))
    return path


def manifest_for(size: int = 16, channels: int = 2) -> ModelManifest:
    """A manifest that fits ``Plan`` graphs."""
    return ModelManifest(
        name="plan",
        input_height=size,
        input_width=size,
        input_channels=channels,
        anchors=ANCHORS,
        wh_scale=[(1.0, 1.0)] * len(ANCHORS),
        score_mode="cls",
    )


class Plan:
    """Builds an ONNX graph with the names given; maps ``box`` and ``cls`` come last."""

    def __init__(self, size: int = 16, channels: int = 2, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = (1, channels, size, size)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: NDArray[np.float32]) -> str:
        """An initializer; a name that exists already is shared."""
        if name not in {constant.name for constant in self.constants}:
            self.constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def node(self, kind: str, name: str, *inputs: str, output: str = "", **attributes: object) -> str:
        """Any operator; returns its output."""
        output = output or f"{name}_out"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        return output

    def conv(
        self, name: str, x: str, cin: int, cout: int, *, gain: float = 1.0, shift: float = 0.0, bias: str = "",
        output: str = "",
    ) -> str:  # fmt: skip
        """A 1x1 convolution with weights of the given gain and biases around ``shift``."""
        weight = self.rng.normal(0, gain / cin**0.5, (cout, cin, 1, 1)).astype(np.float32)
        biases = (shift + 0.1 * gain * self.rng.normal(0, 1, cout)).astype(np.float32)
        parts = [self.constant(f"{name}.weight", weight), self.constant(bias or f"{name}.bias", biases)]
        return self.node("Conv", name, x, *parts, output=output, kernel_shape=[1, 1])

    def save(self, path: Path, x: str, cin: int) -> Path:
        """Add the two maps on ``x`` and write the file."""
        self.conv("/box_out/Conv", x, cin, 4 * len(ANCHORS), output="box")
        self.conv("/cls_out/Conv", x, cin, len(ANCHORS), output="cls")
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("box", "cls")]
        given = [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.shape)]
        graph = helper.make_graph(self.nodes, "plan", given, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(onnx.shape_inference.infer_shapes(model), path)
        return path
