"""Golden UltraTinyOD cases: models with weights that are a function of the key name alone."""

from __future__ import annotations

import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.shared import shared_dir
from uhd.models.config import UltraTinyODConfig, parse_config
from uhd.models.reference import SETTINGS
from uhd.models.ultratinyod import UltraTinyOD

torch.set_num_threads(1)

#: Names of the golden files' options that differ from those in checkpoints.
_BUILDER_NAMES = {"utod_use_residual": "residual", "use_head_ese": "head_ese"}


@cache
def golden_index() -> dict[str, dict[str, Any]]:
    """All UltraTinyOD cases by name; skips the test where the fixtures are absent."""
    cases = json.loads(shared_dir("fixtures", "golden", "index.json").read_text())
    return {name: case for name, case in cases.items() if case["kind"] == "ultratinyod"}


def golden_names() -> list[str]:
    """Case names for parametrize; one placeholder, which skips when used, where the fixtures are absent."""
    try:
        return list(golden_index())
    except pytest.skip.Exception:
        return ["fixtures-absent"]


def golden_array(name: str, file: str) -> np.ndarray:
    return np.load(shared_dir("fixtures", "golden", name, file))


def golden_file(name: str, file: str) -> Path:
    return shared_dir("fixtures", "golden", name, file)


def golden_config(name: str) -> UltraTinyODConfig:
    case = golden_index()[name]
    options = {_BUILDER_NAMES.get(key, SETTINGS.get(key, key)): value for key, value in case["config"].items()}
    return parse_config(
        {
            "width": case["width"],
            "in_channels": case["input_channels"],
            "num_classes": case["num_classes"],
            "anchors": case["anchors"],
            **options,
        },
        name,
    )


def golden_model(name: str) -> UltraTinyOD:
    """The case's model with its weights, in evaluation mode."""
    return with_recipe_weights(UltraTinyOD(golden_config(name))).eval()


def with_recipe_weights(model: UltraTinyOD) -> UltraTinyOD:
    """Fill a model with reproducible weights, seeded by each key's name; anchors are kept."""
    for key, tensor in model.state_dict().items():
        if not key.endswith(("num_batches_tracked", "anchors")):
            tensor.copy_(torch.from_numpy(_recipe(key, tuple(tensor.shape))))
    return model


def _recipe(key: str, shape: tuple[int, ...]) -> np.ndarray:
    random = np.random.RandomState(zlib.crc32(key.encode()))  # noqa: NPY002 - the recipe's generator
    if key.endswith("running_var"):
        value = random.uniform(0.5, 1.5, shape)
    elif key.endswith("running_mean"):
        value = random.normal(0, 0.1, shape)
    elif key.endswith("wh_scale"):
        value = random.uniform(0.8, 1.2, shape)
    elif key.endswith("_raw"):
        value = random.normal(0, 0.5, shape)
    elif len(shape) == 4:
        value = random.normal(0, np.sqrt(1 / (shape[1] * shape[2] * shape[3])), shape)
    elif len(shape) == 2:
        value = random.normal(0, np.sqrt(1 / shape[1]), shape)
    elif key.endswith(".weight"):
        value = random.uniform(0.5, 1.5, shape)
    else:
        value = random.normal(0, 0.1, shape)
    return np.asarray(value, np.float32)
