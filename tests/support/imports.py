"""Models with known weights, exported, to be imported again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch

from support.golden import with_recipe_weights
from uhd.export.onnx_export import build_onnx
from uhd.manifest import ModelManifest
from uhd.models.config import UltraTinyODConfig
from uhd.models.ultratinyod import UltraTinyOD

ANCHORS = [[0.1, 0.2], [0.4, 0.7]]
MODES: dict[int, Any] = {1: "opencv_inter_nearest_y", 2: "opencv_inter_nearest_yuv422", 3: "opencv_inter_nearest"}


def known_model(**options: Any) -> UltraTinyOD:
    """A small network whose weights are a function of their names."""
    config = UltraTinyODConfig.model_validate({"width": 4, "anchors": ANCHORS, "in_channels": 2, **options})
    return with_recipe_weights(UltraTinyOD(config)).eval()


def published(path: Path, model: UltraTinyOD, flavour: Any = "parts", *, properties: bool = True) -> Path:
    """Export ``model`` for 32x32 as published files are: without a manifest; without ``properties`` no metadata."""
    manifest = ModelManifest(name="known", input_height=32, input_width=32, resize_mode=MODES[model.config.in_channels])
    file = build_onnx(model, manifest, flavour, verify=False)
    kept = [prop for prop in file.metadata_props if prop.key != "uhd_manifest" and properties]
    del file.metadata_props[:]
    file.metadata_props.extend(kept)
    onnx.save(file, path)
    return path


def pictures(model: UltraTinyOD, count: int = 2) -> torch.Tensor:
    """Noise [count,C,32,32] in 0..1."""
    return torch.rand(count, model.config.in_channels, 32, 32, generator=torch.Generator().manual_seed(3))
