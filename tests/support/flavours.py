"""One small network as ONNX files of every published flavour."""

from __future__ import annotations

import functools
import io
import tempfile
import warnings
from pathlib import Path

import onnx

from support.quantize_nets import ANCHORS
from uhd.manifest import ModelManifest

_FOLDER = tempfile.TemporaryDirectory(prefix="flavours_")

#: What files say of themselves where their score mode was never set, as in published ones.
PROPERTIES = {"resize_mode": "opencv_inter_nearest_yuv422", "score_mode": "", "quality_power": "1.0"}


@functools.cache
def small_network(quant_arch: int = 0, *, colours: int = 2):  # type: ignore[no-untyped-def]
    """UltraTinyOD of variant R's architecture at width 8 with random weights, and its manifest; 3 colours are RGB."""
    from support.golden import with_recipe_weights
    from uhd.models.checkpoint import complete_manifest
    from uhd.models.families import family_config
    from uhd.models.ultratinyod import UltraTinyOD

    options = {"anchors": ANCHORS, "quant_arch": quant_arch, "in_channels": colours}
    network = with_recipe_weights(UltraTinyOD(family_config("current_yuv422", 8, **options))).eval()
    mode = "opencv_inter_nearest" + ("_yuv422" if colours == 2 else "")
    return network, complete_manifest(network, ModelManifest(name="small", variant="R", resize_mode=mode))


@functools.cache
def exported(flavour: str, quant_arch: int = 0, *, colours: int = 2) -> Path:
    """A file of our own exporter."""
    from uhd.export.onnx_export import export_onnx

    network, manifest = small_network(quant_arch, colours=colours)
    path = Path(_FOLDER.name) / f"{flavour}_{quant_arch}_{colours}.onnx"
    export_onnx(network, manifest, path, flavour)  # type: ignore[arg-type]
    return path


@functools.cache
def whole_model() -> Path:
    """A graph of the whole model, whose one map has all fields, with the names and properties of published files."""
    import torch
    from torch import nn

    from uhd.export.graph import rename_depthwise, simplify

    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = small_network()[0]

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return self.model(x), self.model.anchors, self.model.wh_scale

    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter advertises its successor
        torch.onnx.export(
            Raw().eval(), (torch.zeros(1, 2, 64, 64),), stream, opset_version=17, dynamo=False, input_names=["input"],
            output_names=["txtywh_obj_quality_cls_x8", "anchors", "wh_scale"],
        )  # fmt: skip
    model = simplify(onnx.load_from_string(stream.getvalue()))
    rename_depthwise(model.graph)
    del model.metadata_props[:]
    for key, value in PROPERTIES.items():
        model.metadata_props.add(key=key, value=value)
    path = Path(_FOLDER.name) / "whole.onnx"
    onnx.save(model, path)
    return path
