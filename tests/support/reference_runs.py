"""Files that the reference's training commands name, made small: scenes, and checkpoints of the architecture meant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from uhd.models import UltraTinyODConfig, family_config
from uhd.models.ultratinyod import UltraTinyOD

_ANCHORS = tuple((0.05 * i, 0.1 * i) for i in range(1, 9))


def config_of_name(name: str) -> UltraTinyODConfig:
    """The architecture that a run's name tells, such as ``ultratinyod_res_anc8_w64_se_iou_64x64_quality_lr0.005``."""
    found = re.search(r"_w(\d+)_", name)
    assert found is not None, name
    family = "legacy_noese_swish"
    for part, which in (
        ("_se_", "legacy_ese_swish"),
        ("_iou_", "legacy_ese_iou_swish"),
        ("_loese_", "legacy_loese_relu"),
    ):
        family = which if part in name else family
    if family == "legacy_ese_iou_swish" and name.endswith("_relu"):
        family = "legacy_ese_iou_relu"
    return family_config(family, int(found[1]), anchors=_ANCHORS)


def write_reference_checkpoint(path: Path) -> UltraTinyODConfig:
    """A checkpoint in the reference's form with fresh weights of the architecture that its folder's name tells."""
    config = config_of_name(path.parent.name)
    model = UltraTinyOD(config)
    stored: dict[str, Any] = {
        "model": model.state_dict(), "ema": None, "use_ema": False, "arch": "ultratinyod", "epoch": 1,
        "img_size": "64x64", "resize_mode": "torch_bilinear", "activation": config.activation,
        "cnn_width": config.width, "use_improved_head": True, "use_batchnorm": True, "classes": [0],
        "use_iou_aware_head": config.iou_aware_head, "utod_residual": True, "utod_head_ese": config.head_ese,
        "utod_large_obj_branch": config.large_obj_branch, "utod_large_obj_depth": config.large_obj_depth,
        "utod_large_obj_ch_scale": config.large_obj_ch_scale,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(stored, path)
    return config
