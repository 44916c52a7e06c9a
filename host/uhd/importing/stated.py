"""What a published file states beside its graph (colours, anchors, score), and what is assumed where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from uhd.errors import ConfigError, ModelError
from uhd.export.metadata import read_manifest
from uhd.importing.findings import DEFAULT, GIVEN, GRAPH, HEAD, NAME, STATED, mode_in_name
from uhd.importing.verify import decodes
from uhd.manifest import ModelManifest, ResizeMode, ScoreMode
from uhd.models.config import UltraTinyODConfig
from uhd.models.reference_checkpoint import class_names_of, default_resize_mode
from uhd.models.weights import channels_of
from uhd.quantize.source import Source

Pairs = NDArray[np.float32]


def carried_manifest(source: Source) -> ModelManifest | None:
    """The manifest in the file's metadata; None in files that are not ours."""
    model = onnx.ModelProto()
    for key, value in source.metadata.items():
        model.metadata_props.add(key=key, value=value)
    return read_manifest(model, str(source.path))


def colours_of(source: Source, given: str | None) -> tuple[ResizeMode, str]:
    """``choose_colours`` for an ONNX file."""
    carried = carried_manifest(source)
    stated = carried.resize_mode if carried else source.metadata.get("resize_mode")
    return choose_colours(source.path, source.shape[1], stated, given)


def choose_colours(path: Path, channels: int, stated: str | None, given: str | None) -> tuple[ResizeMode, str]:
    """The resize mode of a model with so many input channels, and how it is known.

    What the file states comes first, then the mode ``given``, then that in the file's name, then the usual one.
    Raises ``ConfigError`` for an unknown ``given``, ``ModelError`` where two of them contradict each other.
    """
    modes: dict[str, ResizeMode] = {mode: mode for mode in get_args(ResizeMode)}
    if given and given not in modes:
        raise ConfigError(f"unknown resize mode {given!r}", hint=f"choose one of {', '.join(modes)}")
    told = modes.get(stated or "")
    if given and told and given != told:
        raise ModelError(f"{path}: made for resize mode {told}, not {given}", hint="leave --resize-mode out")
    named = mode_in_name(path)
    if named and channels_of(named) != channels:
        named = None
    mode, how = (told, STATED) if told else (modes.get(given or ""), GIVEN) if given else (named, NAME)
    if mode is None:
        return default_resize_mode(channels), DEFAULT
    if channels_of(mode) != channels:
        raise ModelError(f"{path}: resize mode {mode} makes {channels_of(mode)} channels, but its input has {channels}")
    return mode, how


def anchors_of(source: Source, carried: ModelManifest | None) -> tuple[Pairs, Pairs, str]:
    """Anchors and wh_scale [A,2] and how they are known. Raises ``ModelError`` without any."""
    if source.anchors is not None:
        ones = np.ones_like(source.anchors)
        return source.anchors, ones if source.wh_scale is None else source.wh_scale, STATED
    if source.sizes is not None and not (carried and carried.anchors):
        return source.sizes, np.ones_like(source.sizes), f"{GRAPH}: anchors and wh_scale multiplied"
    if carried and carried.anchors:
        scales = carried.wh_scale or [(1.0, 1.0)] * len(carried.anchors)
        return np.array(carried.anchors, np.float32), np.array(scales, np.float32), STATED
    raise ModelError(
        f"{source.path}: carries no anchors, so its boxes cannot be decoded",
        hint="give the file that has outputs named anchors and wh_scale, or the one with post-process",
    )


def score_mode_of(config: UltraTinyODConfig, source: Source, carried: ModelManifest | None) -> tuple[ScoreMode, str]:
    modes: dict[str, ScoreMode] = {mode: mode for mode in get_args(ScoreMode)}
    stated = carried.score_mode if carried else modes.get(source.metadata.get("score_mode", ""))
    if stated:
        return stated, STATED
    kept = modes["_".join(name for name in ("obj", "quality", "cls") if name in source.maps)]
    usual = config.resolved_score_mode
    if not decodes(onnx.load(source.path)) and set(config.maps_for(usual)) < set(source.maps):
        return usual, HEAD
    return kept, f"{GRAPH}: the maps that it has"


def quality_power_of(source: Source, carried: ModelManifest | None) -> tuple[float, str]:
    if carried:
        return carried.quality_power, STATED
    try:
        return float(source.metadata["quality_power"]), STATED
    except (KeyError, ValueError):
        return 1.0, DEFAULT


def class_names(carried: ModelManifest | None, count: int) -> list[str]:
    if carried and len(carried.class_names) == max(1, count):
        return carried.class_names
    return class_names_of(count)
