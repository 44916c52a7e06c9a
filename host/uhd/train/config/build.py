"""From settings to the options of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from uhd.train.config.defaults import ULTRATINYOD, model_settings
from uhd.train.config.texts import parse_counts

if TYPE_CHECKING:
    from uhd.train.config.schema import TrainConfig

_CNN = (
    "cnn_width", "activation", "use_batchnorm", "use_anchor", "use_skip", "last_se", "last_width_scale", "disable_cls",
    "backbone", "backbone_se", "backbone_skip", "backbone_skip_cat", "backbone_skip_shuffle_cat",
    "backbone_skip_s2d_cat", "backbone_fpn", "backbone_out_stride",
)  # fmt: skip
_TRANSFORMER = (
    "activation", "use_batchnorm", "num_queries", "d_model", "heads", "layers", "dim_feedforward", "use_fpn",
)  # fmt: skip


def architecture_of(config: TrainConfig, anchors: Sequence[Sequence[float]] | None) -> dict[str, Any]:
    """Options of the configured model. ``anchors`` (w, h as fractions of the input) replace the configured ones."""
    from uhd.image.resize import input_channels  # brings OpenCV, which the help does without

    options: dict[str, Any] = {
        "in_channels": input_channels(config.resize_mode),
        "num_classes": len(config.det_ids),
    }
    if config.head == "anchor":
        chosen = config.fixed_anchors if anchors is None else anchors
        options["anchors"] = tuple((float(w), float(h)) for w, h in chosen)
    if config.arch == "ultratinyod":
        options |= {field: getattr(config, name) for field, name in ULTRATINYOD.items()}
        return {**options, "attr_classes": len(config.attr_ids), "out_stride": config.output_stride or 8}
    if config.arch == "transformer":
        return {**options, **{name: getattr(config, name) for name in _TRANSFORMER}}
    options |= {name: getattr(config, name) for name in _CNN}
    options["output_stride"] = config.output_stride or 16
    options["score_mode"] = config.score_mode
    for name in ("backbone_channels", "backbone_blocks"):
        text = getattr(config, name)
        options[name] = None if text is None else parse_counts(text)
    return options


def settings_of(model: Any) -> dict[str, Any]:
    """The settings that make a model of this configuration (``.arch`` says which), its anchors written out."""
    anchors = " ".join(f"{w!r},{h!r}" for w, h in model.anchors) if model.head == "anchor" else ""
    if model.arch == "ultratinyod":
        return {**model_settings(model), "anchors": anchors}
    names = _TRANSFORMER if model.arch == "transformer" else (*_CNN, "score_mode")
    settings: dict[str, Any] = {name: getattr(model, name) for name in names}
    settings["activation"] = "swish" if model.activation == "silu" else model.activation
    settings |= {"arch": model.arch, "anchors": anchors, "num_anchors": len(model.anchors) if anchors else 3}
    if model.arch == "cnn":
        settings["output_stride"] = model.output_stride
        if model.backbone == "ultratinyresnet":
            for name in ("backbone_channels", "backbone_blocks"):
                settings[name] = ",".join(str(number) for number in getattr(model, name))
    return settings
