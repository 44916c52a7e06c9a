"""The published architecture families as one table, and the variants made of them. Imports no torch."""

from __future__ import annotations

from typing import Any

from uhd.errors import ConfigError
from uhd.models.config import UltraTinyODConfig
from uhd.variants import REFERENCE_ANCHORS, get_variant

_IMPROVED: dict[str, Any] = {"residual": True, "improved_head": True}
_IOU_ESE: dict[str, Any] = {**_IMPROVED, "head_ese": True, "iou_aware_head": True}
_CURRENT: dict[str, Any] = {
    **_IOU_ESE, "activation": "relu", "large_obj_branch": True, "large_obj_depth": 2, "large_obj_ch_scale": 1.25,
}  # fmt: skip
_RECIPE: dict[str, Any] = {
    **_IMPROVED, "activation": "relu", "iou_aware_head": True, "sppf_scale": "conv", "disable_cls": True,
}  # fmt: skip

#: Family name -> options that differ from ``UltraTinyODConfig``'s defaults (width and anchors come on top).
FAMILIES: dict[str, dict[str, Any]] = {
    "legacy_noese_swish": {**_IMPROVED, "activation": "silu"},
    "legacy_ese_swish": {**_IMPROVED, "activation": "silu", "head_ese": True},
    "legacy_ese_iou_swish": {**_IOU_ESE, "activation": "silu"},
    "legacy_ese_iou_relu": {**_IOU_ESE, "activation": "relu"},
    "legacy_loese_relu": _CURRENT,
    "current_rgb": _CURRENT,
    "current_yuv422": {**_CURRENT, "in_channels": 2},
    "current_y": {**_CURRENT, "in_channels": 1},
    "readme_train_lo": {**_RECIPE, "large_obj_branch": True, "large_obj_depth": 1, "large_obj_ch_scale": 1.25},
    "readme_train_nolo": _RECIPE,
}


def family_config(family: str, width: int, **options: Any) -> UltraTinyODConfig:
    """Configuration of a family at a width, with the published anchors; ``options`` override.

    Raises ``ConfigError`` for an unknown family.
    """
    if family not in FAMILIES:
        raise ConfigError(f"unknown family {family!r}", hint=f"choose one of {', '.join(FAMILIES)}")
    return UltraTinyODConfig(**{"width": width, "anchors": REFERENCE_ANCHORS, **FAMILIES[family], **options})


def variants_config(letter: str, **options: Any) -> UltraTinyODConfig:
    """Configuration of a published variant by its letter (any case). Raises ``ConfigError`` for an unknown one."""
    variant = get_variant(letter)
    return family_config(variant.family, variant.width, **options)
