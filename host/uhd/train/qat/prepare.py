"""From a float model to one that trains on the chip's grid, and back."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uhd.errors import ConfigError, ModelError
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.export.graph import DEPTHWISE_PREFIX
from uhd.export.names import conv_nodes
from uhd.export.onnx_export import export_onnx
from uhd.export.wrappers import Parts
from uhd.manifest import ModelManifest, ResizeMode
from uhd.models.ultratinyod import UltraTinyOD
from uhd.quantize.adapter import quantize_with_report
from uhd.quantize.calibration import check_array
from uhd.quantize.trained import FIELD, Trained
from uhd.train.qat.model import QatModel
from uhd.train.qat.plan import Layer, make_plan
from uhd.train.qat.settings import QatSettings

#: A colour contract for each number of channels: the graph is the same for all that make as many.
_CONTRACTS: dict[int, ResizeMode] = {
    1: "opencv_inter_nearest_y", 2: "opencv_inter_nearest_yuv422", 3: "opencv_inter_nearest",
}  # fmt: skip

_BATCH = 32


def prepare(model: UltraTinyOD, settings: QatSettings, calibration: NDArray[np.float32]) -> QatModel:
    """``model``, whose modules are taken over and trained in place, as the chip will compute it.

    ``calibration`` float32 [N, C, H, W] in 0..1: on these pictures the first exponents are found; H and W are those
    of training. The model is quantized once, all its maps included, and what came out says which tensors share a grid
    and where precision changes. Takes seconds.

    Raises ``ConfigError`` for settings or patterns that do not fit, ``ModelError`` naming the operator that cannot be
    trained.
    """
    settings.check()
    if not isinstance(model, UltraTinyOD):
        raise ConfigError("only the ultratinyod architecture can be trained for the chip", hint="leave out --qat")
    config = model.config
    if any(config.bits(region).weight >= 2 or config.bits(region).activation >= 2 for region in ("backbone", "head")):
        raise ConfigError("low-bit options (w_bits, a_bits, ...) and qat exclude each other", hint="drop one of them")
    pictures = check_array(calibration, (1, config.in_channels, *np.shape(calibration)[2:]))
    whole = _with_all_maps(model)
    example = torch.from_numpy(pictures[:1].copy())
    layers, first_of_head = _layers(whole, example)
    espdl = _quantized(whole, settings, pictures)
    plan = make_plan(espdl, layers)
    trained = QatModel(model, plan, settings, plan.reader(first_of_head))
    _observe(trained.to(next(model.parameters()).device), torch.from_numpy(pictures))
    return trained


def finish(model: QatModel) -> tuple[UltraTinyOD, Trained]:
    """The plain float model (the one that was prepared, with its own state-dict names) and its grid."""
    assert isinstance(model.model, UltraTinyOD)
    return model.model, model.trained()


def with_record(manifest: ModelManifest, trained: Trained) -> ModelManifest:
    """``manifest`` with the grid in it, so that quantizing the checkpoint uses it."""
    return manifest.model_copy(update={"training": {**manifest.training, FIELD: trained.dump()}})


def _with_all_maps(model: UltraTinyOD) -> UltraTinyOD:
    """A copy whose export hands out every map: losses look at more maps than the chip computes."""
    whole = copy.deepcopy(model).to("cpu", torch.float32).eval().requires_grad_(False)
    whole.head.config = whole.config.model_copy(update={"score_mode": "obj_quality_cls"})
    return whole


def _quantized(model: UltraTinyOD, settings: QatSettings, pictures: NDArray[np.float32]) -> EspdlModel:
    channels, height, width = pictures.shape[1:]
    manifest = ModelManifest(
        name="qat", input_height=height, input_width=width, input_channels=channels, resize_mode=_CONTRACTS[channels]
    )
    with tempfile.TemporaryDirectory(prefix="uhd-qat-") as name:
        onnx, output = Path(name) / "qat.onnx", Path(name) / "qat.espdl"
        export_onnx(model, manifest, onnx, verify=False)
        report = quantize_with_report(onnx, output, pictures[:2], manifest, settings.quantizer(), structure_only=True)
        return read_espdl(report.espdl.read_bytes(), settings.target)


def _layers(model: UltraTinyOD, example: Tensor) -> tuple[dict[str, Layer], str]:
    """Modules of every convolution by its operator's name, and the first convolution that the head runs.

    A normalisation belongs to a convolution if it is called with what that returned.
    """
    names = {module: name for name, module in model.named_modules()}
    convs: list[nn.Conv2d] = []
    norms: dict[nn.Module, nn.Module] = {}
    made: dict[int, tuple[Tensor, nn.Module]] = {}
    first_of_head = ""

    def after_conv(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        nonlocal first_of_head
        if names[module].startswith("head.") and not first_of_head:
            first_of_head = names[module]
        convs.append(module)
        made[id(output)] = (output, module)  # kept alive, so that its id stays its own

    def before_norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        _, conv = made.get(id(inputs[0]), (None, None))
        if conv is not None:
            norms[conv] = module

    handles = [m.register_forward_hook(after_conv) for m in names if isinstance(m, nn.Conv2d)]
    handles += [m.register_forward_pre_hook(before_norm) for m in names if isinstance(m, nn.BatchNorm2d)]
    try:
        called = conv_nodes(Parts(model), example)
    finally:
        for handle in handles:
            handle.remove()
    if len(set(convs)) != len(convs):
        raise ModelError("a convolution is used twice in the model", hint="train without --qat")
    layers = {}
    for name, conv in zip(called, convs, strict=True):
        norm = norms.get(conv)
        depthwise = conv.groups > 1 and conv.weight.shape[1] == 1
        operator = DEPTHWISE_PREFIX + name.lstrip("/") if depthwise else name
        layers[operator] = Layer(names[conv], None if norm is None else names[norm])
    return layers, first_of_head


@torch.no_grad()
def _observe(model: QatModel, pictures: Tensor) -> None:
    """First exponents, from the float model on ``pictures``."""
    device = model.exponents.device
    model.train()
    model.rounds = False
    for first in range(0, len(pictures), _BATCH):
        model.maps(pictures[first : first + _BATCH].to(device))
    model.rounds = True
    model.settle()
