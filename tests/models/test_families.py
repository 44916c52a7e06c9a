"""The ten families at all widths: parameter counts, keys and shapes; and the variants made of them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch

from support.shared import shared_dir
from uhd.errors import ConfigError
from uhd.models import FAMILIES, family_config, variants_config
from uhd.models.ultratinyod import UltraTinyOD
from uhd.variants import REFERENCE_ANCHORS, VARIANTS


@cache
def published() -> dict[str, Any]:
    return json.loads(shared_dir("spec", "variants.json").read_text())["families"]


def on_meta(family: str, width: int, **options: Any) -> UltraTinyOD:
    with torch.device("meta"):
        return UltraTinyOD(family_config(family, width, **options))


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_and_counts_at_every_width(family: str) -> None:
    rows = published()[family]["per_width"]
    assert len(rows) == 14
    for width, row in rows.items():
        model = on_meta(family, int(width))
        assert {key: list(value.shape) for key, value in model.state_dict().items()} == row["state_dict"], width
        assert sum(p.numel() for p in model.parameters()) == row["trainable_params"], width
        assert sum(b.numel() for b in model.buffers()) == row["buffer_elements"], width
        norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert sum(m.num_features for m in norms) == row["bn_channels"], width


def test_every_published_family_is_in_the_table() -> None:
    assert set(published()) == set(FAMILIES)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"head_ese": False, "iou_aware_head": False, "large_obj_branch": False}, 1_388_360),
        ({"iou_aware_head": False, "large_obj_branch": False}, 1_454_152),
        ({"large_obj_branch": False}, 1_609_928),
        ({}, 1_990_856),
    ],
)
def test_parameter_counts_of_width_64(options: dict[str, bool], count: int) -> None:
    assert sum(p.numel() for p in on_meta("current_rgb", 64, **options).parameters()) == count


@pytest.mark.parametrize("letter", VARIANTS)
def test_variants(letter: str) -> None:
    config = variants_config(letter.lower())
    assert config.width == VARIANTS[letter].width
    assert config.in_channels == 2
    assert config.anchors == REFERENCE_ANCHORS
    assert config.resolved_score_mode == "quality_cls"
    assert (config.large_obj_depth, config.large_obj_ch_scale, config.activation) == (2, 1.25, "relu")


def test_variant_r_is_the_published_size() -> None:
    with torch.device("meta"):
        model = UltraTinyOD(variants_config("R"))
    assert sum(p.numel() for p in model.parameters()) == 138_200


def test_options_override() -> None:
    assert variants_config("R", num_classes=3).raw_channels == 8 * (4 + 1 + 1 + 3)


@pytest.mark.parametrize("call", [lambda: variants_config("Q"), lambda: family_config("nope", 16)])
def test_unknown_names_are_user_errors(call: Any) -> None:
    with pytest.raises(ConfigError, match="choose one of"):
        call()
