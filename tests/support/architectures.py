"""Models of the ``cnn`` and ``transformer`` architectures for tests, and their golden cases."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, TypeVar

import pytest
import torch
from torch import nn

from support.golden import _recipe
from support.shared import shared_dir
from uhd.models import build_model
from uhd.models.detector import Detector

torch.set_num_threads(1)

Model = TypeVar("Model", bound=nn.Module)

#: One small model of every architecture and head.
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "utod": ("ultratinyod", {"width": 2, "improved_head": True}),
    "cnn": ("cnn", {"cnn_width": 4, "use_skip": True, "last_se": "ese", "last_width_scale": 1.5, "num_classes": 2}),
    "anchor": ("cnn", {"cnn_width": 4, "use_anchor": True, "output_stride": 8, "last_se": "se"}),
    "resnet": (
        "cnn",
        {
            "backbone": "ultratinyresnet",
            "backbone_channels": [3, 4, 6],
            "backbone_blocks": [1, 0, 1],
            "backbone_skip_s2d_cat": True,
            "in_channels": 2,
        },
    ),
    "detr": ("transformer", {"d_model": 8, "heads": 2, "layers": 1, "dim_feedforward": 8, "num_queries": 3}),
    "fpn": (
        "transformer",
        {"d_model": 8, "heads": 2, "layers": 2, "dim_feedforward": 8, "use_fpn": True, "in_channels": 1},
    ),
}


def small(name: str, **options: Any) -> Detector:
    """The small model of that name with reproducible weights, in evaluation mode."""
    arch, defaults = SMALL[name]
    return with_recipe(build_model(arch, {**defaults, **options})).eval()


def with_recipe(model: Model) -> Model:
    """Fill a model with weights that are a function of the key's name; anchors are kept."""
    for key, tensor in model.state_dict().items():
        if not key.endswith(("num_batches_tracked", "anchors")):
            tensor.copy_(torch.from_numpy(_recipe(key, tuple(tensor.shape))))
    return model


@cache
def other_cases() -> dict[str, dict[str, Any]]:
    """Golden cases of architectures other than UltraTinyOD; skips the test where the fixtures are absent."""
    cases = json.loads(shared_dir("fixtures", "golden", "index.json").read_text())
    return {name: case for name, case in cases.items() if case["kind"] != "ultratinyod"}


def other_names() -> list[str]:
    """Case names for parametrize; one placeholder, which skips when used, where the fixtures are absent."""
    try:
        return list(other_cases())
    except pytest.skip.Exception:
        return ["fixtures-absent"]


def other_options(name: str) -> dict[str, Any]:
    """A golden case's configuration as options of ours."""
    case = other_cases()[name]
    options = {{"width": "cnn_width"}.get(key, key): value for key, value in case["config"].items()}
    options.pop("num_anchors", None)
    return options


def other_model(name: str) -> Detector:
    return with_recipe(build_model(other_cases()[name]["kind"], other_options(name))).eval()
