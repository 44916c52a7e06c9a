"""The cnn and transformer architectures against golden outputs and published figures of the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from support.architectures import other_cases, other_model, other_names, with_recipe
from support.shared import shared_dir
from uhd.models import build_model
from uhd.models.checkpoint import load_checkpoint
from uhd.models.detector import Detector

NAMES = other_names()

#: Outputs of the published implementation for weights by key name and one picture, 64x64, RandomState(123).
FIGURES: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "architecture_figures.json").read_text())


def outputs(model: Detector, x: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        found = model(x)
    return found if isinstance(found, dict) else {"raw": found}


def golden(name: str, file: str) -> Path:
    return shared_dir("fixtures", "golden", name, file)


@pytest.mark.parametrize("name", NAMES)
def test_golden_outputs_keys_and_counts(name: str) -> None:
    case, model = other_cases()[name], other_model(name)
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == case["state_dict"]
    assert sum(p.numel() for p in model.parameters()) == case["params"]
    found = outputs(model, torch.from_numpy(np.load(golden(name, "input.npy"))))
    expected = np.load(golden(name, "outputs.npz"))
    assert set(expected) == set(found)
    for key, value in found.items():
        want = expected[key].swapaxes(0, 1) if model.config.head == "detr" else expected[key]
        np.testing.assert_allclose(value.numpy(), want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["cnn_anchor", "cnn_centernet"])
def test_published_checkpoint_loads(name: str) -> None:
    model, manifest = load_checkpoint(golden(name, "checkpoint.pt"))
    case = other_cases()[name]
    assert manifest.architecture == "cnn"
    assert manifest.resize_mode == "opencv_inter_nearest"
    assert manifest.class_names == ["class0", "class1"]
    assert manifest.anchors == [tuple(np.float32(pair).tolist()) for pair in case["config"].get("anchors", [])]
    assert model.config.out_stride == case["out_stride"]
    expected = np.load(golden(name, "outputs.npz"))
    for key, value in outputs(model, torch.from_numpy(np.load(golden(name, "input.npy")))).items():
        np.testing.assert_allclose(value.numpy(), expected[key], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", FIGURES)
def test_published_figures(name: str) -> None:
    """Backbones, skips, pyramids, gates and switches for which no golden file exists."""
    case = FIGURES[name]
    model = with_recipe(build_model(case["arch"], case["options"])).eval()
    assert sum(p.numel() for p in model.parameters()) == case["parameters"]
    assert len(model.state_dict()) == case["keys"]
    random = np.random.RandomState(123)  # noqa: NPY002 - the recipe's generator
    x = random.uniform(0, 1, (1, model.config.in_channels, 64, 64)).astype(np.float32)
    found = outputs(model, torch.from_numpy(x))
    assert set(found) == set(case["maps"])
    for key, want in case["maps"].items():
        value = found[key].double()
        assert list(value.shape) == want["shape"]
        assert value.mean().item() == pytest.approx(want["mean"], abs=1e-5)
        assert value.std().item() == pytest.approx(want["std"], abs=1e-5)
        assert value.flatten()[:3].tolist() == pytest.approx(want["corner"], abs=1e-5)
