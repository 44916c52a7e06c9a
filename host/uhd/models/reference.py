"""What a published ``.pt`` checkpoint says about its architecture, as ``UltraTinyODConfig`` options. Needs no torch.

The stored settings decide where they are present, otherwise the names and shapes of the weights; a branch whose weights
are there is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uhd.errors import ModelError
from uhd.models.config import UltraTinyODConfig, parse_config

Shapes = Mapping[str, tuple[int, ...]]

#: Setting in the checkpoint -> field of ``UltraTinyODConfig``.
SETTINGS: dict[str, str] = {
    "cnn_width": "width",
    "output_stride": "out_stride",
    "disable_cls": "disable_cls",
    "activation": "activation",
    "use_batchnorm": "batchnorm",
    "use_improved_head": "improved_head",
    "use_iou_aware_head": "iou_aware_head",
    "utod_residual": "residual",
    "utod_head_ese": "head_ese",
    "utod_conv": "conv",
    "utod_sppf_scale": "sppf_scale",
    "utod_context_rfb": "context_rfb",
    "utod_context_dilation": "context_dilation",
    "utod_large_obj_branch": "large_obj_branch",
    "utod_large_obj_depth": "large_obj_depth",
    "utod_large_obj_ch_scale": "large_obj_ch_scale",
    "utod_quant_arch": "quant_arch",
    "quality_power": "quality_power",
    "score_mode": "score_mode",
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

#: Options whose weights, where they exist, overrule a setting that says no.
_SHOWN_BY_KEYS = frozenset({
    "residual", "improved_head", "iou_aware_head", "head_ese", "context_rfb", "large_obj_branch", "disable_cls",
})  # fmt: skip

_STEM = "backbone.stem.conv.weight"

#: Which extra weights a ``quant_arch`` leaves behind. 4 leaves none and cannot be told from 0.
_QUANT_ARCH_KEYS = {
    "alpha": "head.box_tower_res_alpha_raw",
    "low_rank": "head.box_tower.1.pw_reduce.conv.weight",
    "split": "head.box_out_xy.weight",
    "gate": "head.large_obj_gate_raw",
    "two": "head.box_tower_res1_alpha_raw",
    "stages": "backbone.block1_skip.conv.weight",
}
_QUANT_ARCHES: dict[frozenset[str], int] = {
    frozenset(): 0, frozenset({"alpha"}): 1, frozenset({"low_rank"}): 2, frozenset({"split"}): 3,
    frozenset({"gate"}): 5, frozenset({"alpha", "gate"}): 6, frozenset({"alpha", "split"}): 7,
    frozenset({"low_rank", "split"}): 8, frozenset({"two"}): 9, frozenset({"stages"}): 10,
    frozenset({"alpha", "stages"}): 11,
}  # fmt: skip


def infer_config(shapes: Shapes, settings: Mapping[str, Any], anchors: list[Any], source: str) -> UltraTinyODConfig:
    """The configuration of weights with ``shapes`` and stored ``settings``. Raises ``ModelError`` naming ``source``."""
    options = infer_from_weights(shapes, len(anchors), source)
    for setting, field in SETTINGS.items():
        stored = settings.get(setting)
        if stored is not None and (stored is not False or field not in _SHOWN_BY_KEYS):
            options[field] = _number(stored)
    options["anchors"] = anchors
    if options["quant_arch"] not in range(12):
        options["quant_arch"] = 0
    return parse_config(options, source, ModelError)


def infer_from_weights(shapes: Shapes, anchor_count: int, source: str) -> dict[str, Any]:
    """What names and shapes alone tell. Raises ``ModelError`` if these are not the weights of an UltraTinyOD."""
    if _STEM not in shapes or "head.obj_out.weight" not in shapes or len(shapes[_STEM]) != 4:
        raise ModelError(f"{source}: not the weights of an UltraTinyOD ({_STEM} is missing)")
    width, in_channels = shapes[_STEM][:2]
    trunk = 4 * width

    def there(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in shapes)

    features = frozenset(name for name, key in _QUANT_ARCH_KEYS.items() if key in shapes)
    if features not in _QUANT_ARCHES:
        raise ModelError(f"{source}: no known architecture combines {', '.join(sorted(features))}")
    options: dict[str, Any] = {
        "width": width,
        "in_channels": in_channels,
        "num_classes": 1,
        "disable_cls": "head.cls_out.weight" not in shapes,
        "activation": "silu",
        "batchnorm": "backbone.stem.bn.weight" in shapes,
        "conv": "dw" if "backbone.block1.dw.conv.weight" in shapes else "std",
        "residual": there("backbone.block3_skip.") and "stages" not in features,
        "improved_head": there("head.context_res."),
        "iou_aware_head": there("head.box_tower."),
        "head_ese": there("head.head_se."),
        "context_rfb": there("head.head_rfb."),
        "large_obj_branch": there("head.large_obj_down."),
        "sppf_scale": _sppf_scale(shapes),
        "quant_arch": _QUANT_ARCHES[features],
    }
    if options["large_obj_branch"]:
        blocks = {key.split(".")[2] for key in shapes if key.startswith("head.large_obj_blocks.")}
        options["large_obj_depth"] = len(blocks)
        options["large_obj_ch_scale"] = shapes.get("head.large_obj_fuse.conv.weight", (0, trunk))[1] / trunk
    for name, field in (("cls", "num_classes"), ("attr", "attr_classes")):
        rows, columns = shapes.get(f"head.{name}_out.weight", (0, 0))[:2]
        if rows:
            options[field] = max(1, rows // anchor_count)
            if columns != max(8, min(trunk, round(trunk * 0.5))):
                options["cls_bottleneck_ratio"] = columns / trunk
    return options


def _sppf_scale(shapes: Shapes) -> str:
    if "backbone.sppf.scale_x.conv.weight" in shapes:
        return "conv"
    return "bn" if "backbone.sppf.scale_x.weight" in shapes else "none"


def _number(value: Any) -> Any:
    """A stored int that a float field may take, and a float that is an int, are both as good as the other."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def parse_size(value: Any, source: str) -> tuple[int, int]:
    """Height and width of a stored image size: ``"HxW"``, ``"S"``, an int or a pair. Raises ``ModelError``."""
    parts = str(value).lower().split("x") if isinstance(value, str | int) else value
    try:
        numbers = [int(part) for part in parts]
        height, width = numbers if len(numbers) == 2 else (numbers[0], numbers[0])
    except (TypeError, ValueError, IndexError):
        raise ModelError(f"{source}: image size {value!r} is not HxW") from None
    if len(numbers) > 2 or height < 1 or width < 1:
        raise ModelError(f"{source}: image size {value!r} is not HxW")
    return height, width
