"""A network small enough to be quantized and compiled over and over, as an ONNX file that carries its manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from support.quantize_nets import Plan, manifest_for
from uhd.manifest import ModelManifest


def small_onnx(path: Path) -> tuple[Path, ModelManifest]:
    """Five convolutions with a Concat and an Add, ranges that differ a lot, 16x16 input."""
    plan = Plan(seed=3)
    first = plan.node("Relu", "/first/Relu", plan.conv("/first/Conv", "input", 2, 8, gain=3.0))
    left = plan.node("Relu", "/left/Relu", plan.conv("/left/Conv", first, 8, 8, shift=0.3))
    added = plan.node("Add", "/sum/Add", plan.conv("/right/Conv", first, 8, 8, gain=0.2), left)
    small = plan.node("MaxPool", "/pool/MaxPool", added, kernel_shape=[2, 2], strides=[2, 2])
    other = plan.node("MaxPool", "/pool/MaxPool_1", first, kernel_shape=[2, 2], strides=[2, 2])
    plan.save(path, plan.node("Concat", "/join/Concat", small, other, axis=1), 16)
    model = onnx.load(path)
    manifest = manifest_for().model_copy(update={"options": {"out_stride": 2}})
    onnx.helper.set_model_props(model, {"uhd_manifest": manifest.dumps()})
    onnx.save(model, path)
    return path, manifest


def small_pictures(count: int, seed: int = 1) -> np.ndarray:
    """Network inputs for it, float32 [count, 2, 16, 16]."""
    from support.quantize_nets import pictures

    return pictures(count, (2, 16, 16), seed)
