"""The metadata properties of an exported file: the manifest, and the keys that published files carry."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from uhd.manifest import ModelManifest, ResizeMode, parse_manifest
from uhd.models.config import UltraTinyODConfig

MANIFEST_KEY = "uhd_manifest"

_BOX_TEXT = (
    "cx = (sigmoid(tx)+gx)/w, cy = (sigmoid(ty)+gy)/h, bw = anchor_w*softplus(tw)*wh_scale_w, "
    "bh = anchor_h*softplus(th)*wh_scale_h; boxes = (cx±bw/2, cy±bh/2)"
)


def input_name(resize_mode: ResizeMode) -> str:
    """Name of the image input for a colour contract."""
    if resize_mode.endswith("yuv422"):
        return "input_yuv422"
    return "input_y" if resize_mode.endswith(("_y", "_y_bin", "_y_tri")) else "input_rgb"


def score_text(config: UltraTinyODConfig) -> str:
    """The score formula in words of the map names."""
    factors = [f"sigmoid({name})" for name in config.maps_for() if name != "box"]
    if config.quality_power != 1.0:
        factors = [f"{f}^{config.quality_power:g}" if f == "sigmoid(quality)" else f for f in factors]
    return "score = " + " * ".join(factors)


def properties(
    config: UltraTinyODConfig, manifest: ModelManifest, flavour: str, fields: Sequence[str]
) -> dict[str, str]:
    """Key to value of all properties. ``fields`` are the maps that the file is made of."""
    props = {
        "resize_mode": manifest.resize_mode,
        "dynamic_resize": "false",
        "raw_concat": _flag(flavour != "parts"),
        "decode_score": score_text(config),
        "decode_bbox": _BOX_TEXT,
        "quality_power": str(float(config.quality_power)),
        "img_size": f"{manifest.input_height}x{manifest.input_width}",
        "score_mode": config.resolved_score_mode,
        "disable_cls": _flag(config.disable_cls),
        "raw_concat_fields": ",".join(fields),
        "raw_concat_layout": "anchor_interleaved",
        "postprocess_mode": "full" if flavour == "post" else "raw",
        "multi_label_mode": "separate" if config.attr_count else "none",
        "multi_label_det_classes": "[]",
        "multi_label_attr_classes": "[]",
        "multi_label_attr_weight": "1.0",
        MANIFEST_KEY: manifest.dumps(),
    }
    if flavour != "raw":
        del props["raw_concat_fields"], props["raw_concat_layout"]
    return props


def write_properties(model: onnx.ModelProto, props: dict[str, str]) -> None:
    """Replace the file's metadata properties, in key order."""
    del model.metadata_props[:]
    for key in sorted(props):
        model.metadata_props.add(key=key, value=props[key])


def read_manifest(model: onnx.ModelProto, source: str) -> ModelManifest | None:
    """The manifest of an exported file; None if it carries none. Raises ``ModelError`` if it is broken."""
    for prop in model.metadata_props:
        if prop.key == MANIFEST_KEY:
            return parse_manifest(prop.value, source)
    return None


def _flag(value: bool) -> str:
    return "true" if value else "false"
