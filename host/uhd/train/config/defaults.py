"""Defaults that depend on what is given: a variant's architecture, the reference's loss, the number of anchors."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from uhd.manifest import ResizeMode
from uhd.models.families import variants_config
from uhd.train.config.architecture import Architecture, Backbone
from uhd.train.config.texts import parse_pairs
from uhd.variants import REFERENCE_ANCHORS, VARIANTS

#: Settings of an UltraTinyOD: field of ``UltraTinyODConfig`` -> setting.
ULTRATINYOD: dict[str, str] = {
    "width": "cnn_width",
    "activation": "activation",
    "batchnorm": "use_batchnorm",
    "improved_head": "use_improved_head",
    "iou_aware_head": "use_iou_aware_head",
    "residual": "utod_residual",
    "head_ese": "utod_head_ese",
    "conv": "utod_conv",
    "sppf_scale": "utod_sppf_scale",
    "context_rfb": "utod_context_rfb",
    "context_dilation": "utod_context_dilation",
    "large_obj_branch": "utod_large_obj_branch",
    "large_obj_depth": "utod_large_obj_depth",
    "large_obj_ch_scale": "utod_large_obj_ch_scale",
    "quant_arch": "utod_quant_arch",
    "disable_cls": "disable_cls",
    "score_mode": "score_mode",
    "quality_power": "quality_power",
    "w_bits": "w_bits",
    "a_bits": "a_bits",
    "quant_target": "quant_target",
    "lowbit_quant_target": "lowbit_quant_target",
    "lowbit_w_bits": "lowbit_w_bits",
    "lowbit_a_bits": "lowbit_a_bits",
    "highbit_quant_target": "highbit_quant_target",
    "highbit_w_bits": "highbit_w_bits",
    "highbit_a_bits": "highbit_a_bits",
}

#: Settings that may be changed on a variant without giving up its other defaults.
_MODIFIERS = frozenset({
    "variant", "disable_cls", "score_mode", "quality_power", "w_bits", "a_bits", "quant_target",
    "lowbit_quant_target", "lowbit_w_bits", "lowbit_a_bits", "highbit_quant_target", "highbit_w_bits",
    "highbit_a_bits",
})  # fmt: skip

#: Settings that, when given, say that no variant is meant.
ARCHITECTURE_FLAGS = frozenset(Architecture.model_fields) - _MODIFIERS | frozenset(Backbone.model_fields)

#: Settings that only the losses with the assigners ``legacy`` and ``simota`` read.
REFERENCE_LOSS_FLAGS = ("anchor_cls_loss", "obj_loss", "obj_target", "simota_topk")
#: Peak learning rate of the default loss on an UltraTinyOD (docs/training.md has what it is worth); elsewhere, and on
#: the chip's grid, the field's own default holds.
ALIGNED_RATE = 0.01
_LOSS_WEIGHTS = ("loss_weight_box", "loss_weight_obj", "loss_weight_cls", "loss_weight_quality")

_MODES: dict[int, ResizeMode] = {
    1: "opencv_inter_nearest_y", 2: "opencv_inter_nearest_yuv422", 3: "opencv_inter_nearest",
}  # fmt: skip
_SQUARES = ((0.1, 0.1), (0.2, 0.2), (0.3, 0.3))


def fill_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with the defaults that depend on them. Wrong values are left for the fields to refuse.

    - A ``variant`` fills the architecture, the resize mode and the number of anchors with its own. With neither a
      variant nor any setting of the architecture, that is variant R. Settings given beside a variant win.
    - A setting that only the reference's losses read chooses its assigner; with these the weights are its 1.
    - An UltraTinyOD with our own assigner learns at ``ALIGNED_RATE``.
    - A list of anchors says how many there are.
    """
    filled = {key: value for key, value in values.items() if not (key == "variant" and value is None)}
    given = {key for key, value in filled.items() if value is not None}
    if "variant" not in filled and not given & ARCHITECTURE_FLAGS:
        filled["variant"] = "R"
    if filled.get("anchors"):
        with contextlib.suppress(TypeError, ValueError):
            filled.setdefault("num_anchors", len(parse_pairs(_text_of_pairs(filled["anchors"]))))
    letter = filled.get("variant")
    if isinstance(letter, str) and letter.upper() in VARIANTS:
        for name, value in variant_settings(letter).items():
            filled.setdefault(name, value)
    if "anchor_assigner" not in filled:
        chosen = filled.get("loss_mode") == "reference" or any(name in given for name in REFERENCE_LOSS_FLAGS)
        filled["anchor_assigner"] = "legacy" if chosen else "aligned"
    if filled["anchor_assigner"] in ("legacy", "simota"):
        for name in _LOSS_WEIGHTS:
            filled.setdefault(name, 1.0)
    elif filled.get("arch") == "ultratinyod" and not filled.get("qat"):
        filled.setdefault("lr", ALIGNED_RATE)
    return filled


def variant_settings(letter: str) -> dict[str, Any]:
    """All settings that a published variant fixes. Raises ``ConfigError`` for an unknown letter."""
    return {"resize_mode": _MODES[variants_config(letter).in_channels], **model_settings(variants_config(letter))}


def letter_of(settings: Mapping[str, Any]) -> str | None:
    """The published variant with these settings of the architecture, whatever its anchors; ``None``: it is none."""
    for letter in VARIANTS:
        own = variant_settings(letter)
        if all(settings.get(name) == own[name] for name in own if name not in ("resize_mode", "num_anchors")):
            return letter
    return None


def model_settings(config: Any) -> dict[str, Any]:
    """The settings that make an ``UltraTinyODConfig``; its anchors are only counted."""
    settings = {name: getattr(config, field) for field, name in ULTRATINYOD.items()}
    settings["activation"] = "swish" if config.activation == "silu" else config.activation
    stride = None if config.out_stride == 8 else config.out_stride
    return {"arch": "ultratinyod", "output_stride": stride, "num_anchors": config.anchor_count, **settings}


def default_anchors(number: int, published: bool) -> tuple[tuple[float, float], ...]:
    """Anchors where none are given or searched: the published eight, or as many as wanted between the first and last.

    ``published`` off: three are the reference's plain squares.
    """
    if number == len(_SQUARES) and not published:
        return _SQUARES
    last = len(REFERENCE_ANCHORS) - 1
    places = [last / 2] if number == 1 else [i * last / (number - 1) for i in range(number)]
    return tuple(_between(place) for place in places)


def _between(place: float) -> tuple[float, float]:
    low = min(int(place), len(REFERENCE_ANCHORS) - 2)
    part = place - low
    (w0, h0), (w1, h1) = REFERENCE_ANCHORS[low : low + 2]
    return (w0 + (w1 - w0) * part, h0 + (h1 - h0) * part) if 0 < part < 1 else REFERENCE_ANCHORS[low + round(part)]


def _text_of_pairs(value: Any) -> str:
    return value if isinstance(value, str) else " ".join(",".join(str(number) for number in pair) for pair in value)
