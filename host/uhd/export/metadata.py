"""The metadata properties of an exported file: manifest, record, and the keys that published files carry."""

from __future__ import annotations

import onnx

from uhd.export.record import RECORD_KEY, ExportRecord
from uhd.manifest import ModelManifest, ResizeMode, parse_manifest
from uhd.models import ModelConfig

MANIFEST_KEY = "uhd_manifest"

_BOX_TEXT = {
    "anchor": "cx = (sigmoid(tx)+gx)/w, cy = (sigmoid(ty)+gy)/h, bw = anchor_w*softplus(tw)*wh_scale_w, "
    "bh = anchor_h*softplus(th)*wh_scale_h; boxes = (cx±bw/2, cy±bh/2)",
    "centernet": "cx = (gx+off_x)/w, cy = (gy+off_y)/h, bw = wh_x/w, bh = wh_y/h; boxes = (cx±bw/2, cy±bh/2)",
    "detr": "boxes are cx, cy, bw, bh; boxes = (cx±bw/2, cy±bh/2)",
}
_POSTPROCESS = {"parts": "raw", "raw": "raw", "whole": "raw", "primitive": "primitive", "post": "full", "fast": "full"}


def input_name(resize_mode: ResizeMode) -> str:
    """Name of the image input for a colour contract."""
    if resize_mode.endswith("yuv422"):
        return "input_yuv422"
    return "input_y" if resize_mode.endswith(("_y", "_y_bin", "_y_tri")) else "input_rgb"


def channel_names(resize_mode: ResizeMode) -> list[str]:
    """What the channels of the image input hold."""
    if resize_mode.endswith("yuv422"):
        return ["y", "uv"]
    return ["y"] if resize_mode.endswith(("_y", "_y_bin", "_y_tri")) else ["red", "green", "blue"]


def score_maps(config: ModelConfig) -> list[str]:
    """The maps that an anchor head's score is the product of, for a centre-point and a DETR head those with scores."""
    if config.head != "anchor":
        return ["hm" if config.head == "centernet" else "logits"]
    return [name for name in config.maps_for() if name != "box"]


def score_text(config: ModelConfig) -> str:
    """The score formula in words of the map names."""
    if config.head != "anchor":
        return "score = hm" if config.head == "centernet" else "score = softmax(logits), the last class is background"
    factors = [f"sigmoid({name})" for name in score_maps(config)]
    if config.quality_power != 1.0:
        factors = [f"{f}^{config.quality_power:g}" if f == "sigmoid(quality)" else f for f in factors]
    return "score = " + " * ".join(factors)


def properties(config: ModelConfig, manifest: ModelManifest, record: ExportRecord) -> dict[str, str]:
    """Key to value of all properties."""
    attributes = getattr(config, "attr_count", 0)
    several = record.multi_label != "none" or attributes
    classes = list(range(config.class_count)) if several else []
    props = {
        "resize_mode": manifest.resize_mode,
        "dynamic_resize": _flag(record.dynamic_resize),
        "raw_concat": _flag(record.flavour != "parts"),
        "decode_score": score_text(config),
        "decode_bbox": _BOX_TEXT[config.head],
        "quality_power": str(float(config.quality_power)),
        "img_size": f"{manifest.input_height}x{manifest.input_width}",
        "score_mode": config.resolved_score_mode,
        "disable_cls": _flag(config.class_count == 0),
        "postprocess_mode": _POSTPROCESS[record.flavour],
        "multi_label_mode": "separate" if attributes else record.multi_label,
        "multi_label_det_classes": str(classes),
        "multi_label_attr_classes": str([config.class_count + index for index in range(attributes)]),
        "multi_label_attr_weight": "1.0",
        MANIFEST_KEY: manifest.dumps(),
        RECORD_KEY: record.dumps(),
    }
    if record.flavour in ("raw", "whole"):
        props |= {"raw_concat_fields": ",".join(record.fields), "raw_concat_layout": "anchor_interleaved"}
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
