"""What a checkpoint that a run starts from decides: its weights fit only its own architecture."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from uhd.errors import ConfigError
from uhd.manifest import ModelManifest
from uhd.train.config.build import settings_of
from uhd.train.config.defaults import ARCHITECTURE_FLAGS, letter_of
from uhd.train.config.parse import parse_train_config
from uhd.train.config.schema import TrainConfig
from uhd.train.config.texts import parse_size

#: Settings, and options of the models by the same names, that leave the weights and their meaning alone; given ones
#: win over the checkpoint's.
FREE = frozenset({
    "score_mode", "quality_power", "w_bits", "a_bits", "quant_target", "lowbit_quant_target", "lowbit_w_bits",
    "lowbit_a_bits", "highbit_quant_target", "highbit_w_bits", "highbit_a_bits", "anchors",
})  # fmt: skip
_CLASSES = ("classes", "multi_label_mode", "multi_label_det_classes", "multi_label_attr_classes")


def adopt_checkpoint(
    config: TrainConfig,
    given: Collection[str],
    model: Any,
    manifest: ModelManifest,
    source: str,
    *,
    flags: Collection[str] | None = None,
) -> tuple[TrainConfig, list[str]]:
    """``config`` with the architecture of a checkpoint's ``model`` (its configuration), and what to tell the user.

    ``given`` are the settings that the user chose: they win where the weights allow it, and are told where they do
    not. Of a whole file of settings, only ``flags`` (default: all) win where either would do. Raises ``ConfigError``
    for another variant than the one asked for, other input channels or classes.
    """
    from uhd.image.resize import input_channels

    settings = settings_of(model)
    notes = [
        f"{name}: {settings[name]}, as in {source}, not {getattr(config, name)}"
        for name in settings
        if name in given and name not in FREE and settings[name] != getattr(config, name)
        and name not in ("num_anchors", "variant")
    ]  # fmt: skip
    letter = letter_of(settings)
    if "variant" in given and config.variant is not None and config.variant != letter:
        raise ConfigError(
            f"ckpt: {source} is no variant {config.variant}",
            hint="leave --variant out, or start from those weights that fit with --ckpt-non-strict",
        )
    fresh = {name: TrainConfig.model_fields[name].default for name in ARCHITECTURE_FLAGS | FREE}
    values = {**config.model_dump(), **fresh, **settings, "variant": letter}
    values |= {name: getattr(config, name) for name in FREE if name in (given if flags is None else flags)}
    if "resize_mode" not in given:
        values["resize_mode"] = manifest.resize_mode
    if input_channels(values["resize_mode"]) != model.in_channels:
        raise ConfigError(
            f"resize_mode: {values['resize_mode']} gives {input_channels(values['resize_mode'])} channels,"
            f" {source} reads {model.in_channels}",
            hint=f"leave it out: the checkpoint's is {manifest.resize_mode}",
        )
    if "img_size" not in given:
        values["img_size"] = _size(manifest, config.img_size)
    values |= _classes(given, manifest.training)
    adopted = parse_train_config(values, "train")
    wanted = 0 if adopted.disable_cls else len(adopted.det_ids)
    if (wanted, len(adopted.attr_ids)) != (model.class_count, getattr(model, "attr_count", 0)):
        raise ConfigError(
            f"classes: {adopted.classes} names {len(adopted.class_ids)}, {source} has {model.class_count}",
            hint="give as many ids in --classes, or start from those weights that fit with --ckpt-non-strict",
        )
    return adopted, notes


def _size(manifest: ModelManifest, default: int | str) -> int | str:
    text = f"{manifest.input_height}x{manifest.input_width}"
    try:
        parse_size(text)
    except ValueError:
        return default
    return text


def _classes(given: Collection[str], training: Mapping[str, Any]) -> dict[str, Any]:
    """The classes that the checkpoint was trained for, where it says so and the user does not."""
    recorded = training.get("config")
    if not isinstance(recorded, dict) or any(name in given for name in _CLASSES):
        return {}
    return {name: recorded[name] for name in _CLASSES if name in recorded}
