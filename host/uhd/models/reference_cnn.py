"""What a published checkpoint of a ``cnn`` or ``transformer`` says about its architecture. Needs no torch.

Names and shapes of the weights decide wherever an option shows in them; the stored settings tell the rest (activation,
output stride, anchors of the head).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from uhd.errors import ModelError
from uhd.models.base import Arch, validate_options
from uhd.models.cnn_config import CnnConfig
from uhd.models.reference import Shapes
from uhd.models.transformer_config import TransformerConfig

#: Attention heads assumed where a file does not tell: the published default.
DEFAULT_HEADS = 4


def arch_of(shapes: Shapes) -> Arch:
    """The architecture that weights of these names belong to (ultratinyod when nothing else fits)."""
    if "query_embed.weight" in shapes:
        return "transformer"
    return "cnn" if "head_hm.weight" in shapes or "head.weight" in shapes else "ultratinyod"


def infer_transformer(
    shapes: Shapes, settings: Mapping[str, Any], source: str, heads: int | None = None
) -> TransformerConfig:
    """The configuration of a transformer's weights.

    ``heads`` leave no trace in weights or settings: None assumes ``DEFAULT_HEADS``. Raises ``ModelError``.
    """
    queries, classes = _matrix(shapes, "query_embed.weight", source), _matrix(shapes, "class_head.weight", source)
    hidden = _matrix(shapes, "encoder.layers.0.linear1.weight", source)
    use_fpn = "stem.weight" in shapes
    entry = shapes.get("stem.weight" if use_fpn else "patch.weight", ())
    if len(entry) != 4:
        raise ModelError(f"{source}: not the weights of a transformer (patch.weight is missing)")
    if heads is None and queries[1] % DEFAULT_HEADS:
        raise ModelError(
            f"{source}: does not tell its number of attention heads, and {DEFAULT_HEADS} do not divide {queries[1]}",
            hint="say how many it was trained with (heads)",
        )
    options = {
        "in_channels": entry[1],
        "num_classes": classes[0] - 1,
        "num_queries": queries[0],
        "d_model": queries[1],
        "heads": heads or DEFAULT_HEADS,
        "layers": _count(shapes, "encoder.layers."),
        "dim_feedforward": hidden[0],
        "activation": _setting(settings, "activation", "silu"),
        "use_fpn": use_fpn,
        "use_batchnorm": not use_fpn or "fpn_high.bn.weight" in shapes,
    }
    return validate_options(TransformerConfig, options, source, ModelError)


def infer_cnn(shapes: Shapes, settings: Mapping[str, Any], anchors: Sequence[Any], source: str) -> CnnConfig:
    """The configuration of a cnn's weights; ``anchors`` are those of an anchor head. Raises ``ModelError``."""
    use_anchor = "head.weight" in shapes
    output = shapes["head.weight" if use_anchor else "head_hm.weight"]
    if len(output) != 4:
        raise ModelError(f"{source}: not the weights of a cnn (its head is no convolution)")
    options: dict[str, Any] = {
        "activation": _setting(settings, "activation", "silu"),
        "use_anchor": use_anchor,
        "last_se": _gate(shapes, ""),
        **(_backbone(shapes, source) if any(key.startswith("backbone.") for key in shapes) else {}),
    }
    if "backbone" not in options:
        options |= _stages(shapes, settings, output[1], source)
    if use_anchor:
        fields, rest = divmod(output[0], len(anchors) or 1)
        if rest or fields < 5:
            raise ModelError(f"{source}: a head of {output[0]} channels does not fit {len(anchors)} anchors")
        options |= {"anchors": list(anchors), "num_classes": max(1, fields - 5), "disable_cls": fields == 5}
        options["score_mode"] = _setting(settings, "score_mode", None)
    else:
        options["num_classes"] = output[0]
    return validate_options(CnnConfig, options, source, ModelError)


def _stages(shapes: Shapes, settings: Mapping[str, Any], out: int, source: str) -> dict[str, Any]:
    stem = shapes.get("stem.0.weight", ())
    if len(stem) != 4:
        raise ModelError(f"{source}: not the weights of a cnn (stem.0.weight is missing)")
    width = stem[0]
    stored = _setting(settings, "last_width_scale", 1.0)
    fits = isinstance(stored, int | float) and round(width * max(1.0, stored)) == out
    # A skip of equal channels has no weights.
    skip = "skip_s1.weight" in shapes or (out == width and bool(settings.get("use_skip")))
    return {
        "cnn_width": width,
        "in_channels": stem[1],
        "use_batchnorm": "stem.1.weight" in shapes,
        "use_skip": skip,
        "last_width_scale": stored if fits else out / width,
        "output_stride": _setting(settings, "output_stride", 16),
    }


def _backbone(shapes: Shapes, source: str) -> dict[str, Any]:
    prefix = "backbone.backbone." if any(key.startswith("backbone.backbone.") for key in shapes) else "backbone."
    inner = {key.removeprefix(prefix): shape for key, shape in shapes.items() if key.startswith(prefix)}
    options: dict[str, Any] = {"backbone_se": _gate(shapes, "backbone.")}
    if "csp2.conv1.conv.weight" in inner:
        options["backbone"] = "microcspnet"
    elif "stage2_shortcut.conv.weight" in inner:
        options |= {"backbone": "enhanced-shufflenet", "backbone_skip": "global_proj1.conv.weight" in inner}
    elif "stem.conv.weight" in inner:
        options |= {"backbone": "ultratinyresnet", **_tiny_resnet(inner)}
    else:
        raise ModelError(f"{source}: an unknown backbone")
    entry = inner.get("conv1.conv.weight", inner.get("stem.conv.weight", ()))
    if len(entry) != 4:
        raise ModelError(f"{source}: not the weights of a {options['backbone']}")
    first = "conv1" if "conv1.conv.weight" in inner else "stem"
    return {**options, "in_channels": entry[1], "use_batchnorm": f"{first}.bn.weight" in inner}


def _tiny_resnet(shapes: Shapes) -> dict[str, Any]:
    channels = [shapes["stem.conv.weight"][0]]
    while (key := f"downs.{len(channels)}.conv.weight") in shapes:
        channels.append(shapes[key][0])
    stride = 2 ** (len(channels) - 1 + _count(shapes, "extra_downs."))
    options: dict[str, Any] = {
        "backbone_channels": channels,
        "backbone_blocks": [_count(shapes, f"blocks.{stage}.") for stage in range(len(channels))],
        "backbone_fpn": "fpn_convs.0.conv.weight" in shapes,
        "backbone_out_stride": stride,
    }
    first = shapes.get("skip_proj.0.conv.weight")
    if first is None:
        return options
    options["backbone_skip"] = True
    if "skip_concat_reduce.conv.weight" in shapes:
        shuffled, unfolded = first[2:] == (3, 3), first[1] != channels[0]
        mode = "shuffle_cat" if shuffled else "s2d_cat" if unfolded else "cat"
        options[f"backbone_skip_{mode}"] = True
    return options


def _gate(shapes: Shapes, prefix: str) -> str:
    if f"{prefix}se.fc1.weight" in shapes:
        return "se"
    return "ese" if f"{prefix}se.fc.weight" in shapes else "none"


def _count(shapes: Shapes, prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in shapes if key.startswith(prefix)})


def _matrix(shapes: Shapes, key: str, source: str) -> tuple[int, ...]:
    shape = shapes.get(key, ())
    if len(shape) != 2:
        raise ModelError(f"{source}: not the weights of a transformer ({key} is missing)")
    return shape


def _setting(settings: Mapping[str, Any], name: str, default: Any) -> Any:
    value = settings.get(name)
    return default if value is None else value
