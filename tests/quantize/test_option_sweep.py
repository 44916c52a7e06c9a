"""Options of the architecture: whatever they add to the graph becomes integers that mean the same everywhere."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from support.quantize_nets import ANCHORS, pictures
from uhd.manifest import ModelManifest
from uhd.quantize.adapter import quantize_with_report
from uhd.quantize.settings import Settings

#: Between them every option that changes the operators: curves by table, dilated and dense convolutions, a norm that no
#: convolution absorbed, boxes in two halves, gates of one number, clipping, several classes, odd sizes. The first has
#: most of them; ``UHD_TEST_COMMANDS=all`` runs the others too.
CASES = {
    "curved": ("esp32p4", (48, 80), dict(activation="swish", context_rfb=True, sppf_scale="bn", num_classes=3,
                                         quant_arch=3)),
    "gated": ("esp32s3", (32, 48), dict(conv="std", context_rfb=True, sppf_scale="conv", quant_arch=6, out_stride=4,
                                        score_mode="obj_cls")),
    "clipped": ("c", (64, 64), dict(quant_arch=4, iou_aware_head=True, disable_cls=True, head_ese=False)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES if os.environ.get("UHD_TEST_COMMANDS") == "all" else ["curved"])
def test_options(name: str, tmp_path: Path) -> None:
    from support.golden import with_recipe_weights
    from uhd.export.onnx_export import export_onnx
    from uhd.models.checkpoint import complete_manifest
    from uhd.models.families import family_config
    from uhd.models.ultratinyod import UltraTinyOD

    target, (height, width), options = CASES[name]
    network = with_recipe_weights(UltraTinyOD(family_config("current_yuv422", 8, anchors=ANCHORS, **options))).eval()
    classes = [f"class {index}" for index in range(network.config.num_classes)]
    manifest = complete_manifest(
        network, ModelManifest(name=name, class_names=classes, input_height=height, input_width=width)
    )
    onnx = tmp_path / f"{name}.onnx"
    export_onnx(network, manifest, onnx, "raw", verify=False)
    calibration = pictures(2, (2, height, width))
    report = quantize_with_report(
        onnx, tmp_path / f"{name}.espdl", calibration, manifest, Settings(target, algorithm="minmax")
    )
    assert report.vectors > 200 and report.mismatches == 0
    assert [finding for finding in report.findings if finding.severity == "error"] == []
    quantization = report.manifest.quantization
    assert quantization is not None
    assert {tensor.name for tensor in quantization.outputs} == set(network.config.maps_for())
    stride = network.config.out_stride
    assert all(tensor.shape[1:3] == [height // stride, width // stride] for tensor in quantization.outputs)
    np.testing.assert_allclose(report.manifest.anchors, ANCHORS, rtol=1e-6)
