"""Raw maps, features, keys and published checkpoints against the golden cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from support.golden import golden_array, golden_file, golden_index, golden_model, golden_names
from uhd.models.checkpoint import load_checkpoint

NAMES = golden_names()


@pytest.mark.parametrize("name", NAMES)
def test_raw_map_and_features(name: str) -> None:
    case = golden_index()[name]
    model = golden_model(name)
    with torch.no_grad():
        features = model.backbone(torch.from_numpy(golden_array(name, "input.npy")))
        raw = model.head(features)
    assert list(raw.shape) == case["raw_shape"]
    assert raw.shape[1] == model.config.raw_channels
    np.testing.assert_allclose(raw.numpy(), golden_array(name, "raw.npy"), atol=1e-5, rtol=0)
    np.testing.assert_allclose(features.mean((2, 3)).numpy(), golden_array(name, "feat_mean.npy"), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_keys_counts_and_score_mode(name: str) -> None:
    case = golden_index()[name]
    model = golden_model(name)
    if "state_dict" in case:
        assert {key: list(value.shape) for key, value in model.state_dict().items()} == case["state_dict"]
    assert sum(parameter.numel() for parameter in model.parameters()) == case["params"]
    assert model.config.resolved_score_mode == case["score_mode"]
    assert model.config.has_quality == case["has_quality"]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("w")] or NAMES[:1])
def test_published_checkpoint_loads(name: str) -> None:
    case = golden_index()[name]
    model, manifest = load_checkpoint(golden_file(name, "checkpoint.pt"))
    assert model.config.width == case["width"]
    assert manifest.input_channels == case["input_channels"]
    assert manifest.score_mode == case["score_mode"]
    assert [list(pair) for pair in manifest.anchors] == case["anchors"]
    assert (manifest.input_height, manifest.input_width) == tuple(case["img_size"])
    assert manifest.variant == ("R" if name == "w16_yuv422" else None)
    with torch.no_grad():
        raw = model(torch.from_numpy(golden_array(name, "input.npy")))
    np.testing.assert_allclose(raw.numpy(), golden_array(name, "raw.npy"), atol=1e-5, rtol=0)
