"""Import of published ``.pt`` checkpoints. Only tensors and plain values are unpickled, nothing is executed."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uhd.errors import ModelError
from uhd.manifest import ModelManifest, ResizeMode
from uhd.models.families import variants_config
from uhd.models.reference import infer_config, parse_size
from uhd.models.ultratinyod import UltraTinyOD
from uhd.models.weights import complete_manifest, first_line, load_weights
from uhd.variants import VARIANTS

_DEFAULT_MODES: dict[int, ResizeMode] = {1: "opencv_inter_nearest_y", 2: "opencv_inter_nearest_yuv422"}


def import_reference(path: Path) -> tuple[UltraTinyOD, ModelManifest]:
    """Read a published ``.pt``: its averaged weights where it asks for them, its settings as a manifest.

    Only tensors and plain values are unpickled. Raises ``ModelError`` (one line) if the file is damaged or of another
    architecture.
    """
    source = str(path)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path}: holds more than weights and settings, not loaded ({first_line(error)})") from None
    except Exception as error:  # A damaged archive raises almost anything.
        raise ModelError(f"{path}: damaged or truncated ({first_line(error)})") from None
    state, settings, averaged = _choose_weights(stored, source)
    anchors = _anchors(state, settings, source)
    config = infer_config({key: tuple(value.shape) for key, value in state.items()}, settings, anchors, source)
    model = UltraTinyOD(config)
    state.setdefault("head.anchors", model.anchors.clone())
    load_weights(model, state, source)
    height, width = parse_size(settings.get("img_size") or "64x64", source)
    mode = str(settings.get("resize_mode") or _DEFAULT_MODES.get(config.in_channels, "opencv_inter_nearest"))
    try:
        manifest = ModelManifest(
            name=path.stem,
            variant=_variant(model),
            class_names=_class_names(config.class_count),
            input_height=height,
            input_width=width,
            resize_mode=mode.lower().replace("-", "_"),  # type: ignore[arg-type]
            training={"imported_from": path.name, "averaged_weights": averaged, "epoch": settings.get("epoch")},
        )
    except ValueError:
        raise ModelError(f"{path}: unknown resize mode {mode!r}") from None
    return model.eval(), complete_manifest(model, manifest, source)


def _choose_weights(stored: Any, source: str) -> tuple[dict[str, Tensor], dict[str, Any], bool]:
    """Weights, settings, and whether the weights are the averaged ones."""
    if not isinstance(stored, dict):
        raise ModelError(f"{source}: not a checkpoint (holds a {type(stored).__name__})")
    settings = {key: value for key, value in stored.items() if isinstance(key, str) and not isinstance(value, Tensor)}
    arch = settings.get("arch")
    if arch not in (None, "ultratinyod"):
        raise ModelError(f"{source}: holds architecture {arch!r}", hint="this reads 'ultratinyod' only")
    averaged = "model" in stored and stored.get("ema") is not None and bool(stored.get("use_ema", True))
    weights = stored["ema"] if averaged else stored.get("model", stored.get("state_dict", stored))
    if not isinstance(weights, dict) or not weights or not all(isinstance(v, Tensor) for v in weights.values()):
        raise ModelError(f"{source}: holds no weights where a checkpoint has them")
    if any("fake_quant" in key or "activation_post_process" in key for key in weights):
        raise ModelError(f"{source}: a quantization-aware checkpoint", hint="import the float one it was made from")
    return dict(weights), settings, averaged


def _anchors(state: Mapping[str, Tensor], settings: Mapping[str, Any], source: str) -> list[list[float]]:
    anchors = state["head.anchors"].tolist() if "head.anchors" in state else settings.get("anchors")
    try:
        pairs = [[float(w), float(h)] for w, h in anchors or ()]
    except (TypeError, ValueError):
        raise ModelError(f"{source}: anchors are not pairs of numbers") from None
    if not pairs:
        raise ModelError(f"{source}: holds no anchors")
    return pairs


def _variant(model: UltraTinyOD) -> str | None:
    """The letter of the published variant with this architecture, whatever its anchors."""
    own = model.config
    return next((x for x in VARIANTS if variants_config(x, anchors=own.anchors) == own), None)


def _class_names(count: int) -> list[str]:
    return ["person"] if count <= 1 else [f"class{index}" for index in range(count)]
