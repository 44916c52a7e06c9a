"""Import of published ``.pt`` checkpoints. Only tensors and plain values are unpickled, nothing is executed."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from uhd.errors import ModelError
from uhd.manifest import ModelManifest, ResizeMode
from uhd.models.architectures import CONFIGS, ModelConfig
from uhd.models.build import model_of
from uhd.models.config import UltraTinyODConfig
from uhd.models.detector import Detector
from uhd.models.families import variants_config
from uhd.models.reference import infer_config, parse_size
from uhd.models.reference_cnn import arch_of, infer_cnn, infer_transformer
from uhd.models.transformer_config import TransformerConfig
from uhd.models.weights import complete_manifest, first_line, load_weights
from uhd.variants import VARIANTS

#: Which weights of a file that holds two sets: those it asks for, the averaged ones, or those the optimiser left.
Which = Literal["auto", "ema", "raw"]

_DEFAULT_MODES: dict[int, ResizeMode] = {1: "opencv_inter_nearest_y", 2: "opencv_inter_nearest_yuv422"}


@dataclass(frozen=True)
class Stored:
    """What a published file holds: weights, settings, and whether the weights are the averaged ones."""

    weights: dict[str, Tensor]
    settings: dict[str, Any]
    averaged: bool


def default_resize_mode(channels: int) -> ResizeMode:
    """The colour contract assumed for a network input of so many channels where nothing tells it."""
    return _DEFAULT_MODES.get(channels, "opencv_inter_nearest")


def read_reference(path: Path, which: Which = "auto") -> Stored:
    """Read a published ``.pt``: one set of weights (auto: the averaged ones where it asks for them) and its settings.

    Only tensors and plain values are unpickled. Raises ``ModelError`` (one line) if the file is damaged, holds
    anything else, or lacks the weights asked for.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path}: holds more than weights and settings, not loaded ({first_line(error)})") from None
    except Exception as error:  # A damaged archive raises almost anything.
        raise ModelError(f"{path}: damaged or truncated ({first_line(error)})") from None
    return _choose_weights(stored, str(path), which)


def import_reference(path: Path, *, heads: int | None = None, strict: bool = True) -> tuple[Detector, ModelManifest]:
    """A published ``.pt`` as a model in evaluation mode and a manifest.

    ``heads``: attention heads of a transformer, which the file does not tell (None: 4, and the manifest's training
    section says that it was assumed). ``strict`` as in ``load_checkpoint``. Raises ``ModelError`` (one line) as
    ``read_reference`` does, and for weights that belong to no known architecture.
    """
    return model_of_stored(read_reference(path), path, heads, strict=strict)


def model_of_stored(
    stored: Stored, path: Path, heads: int | None = None, *, strict: bool = True
) -> tuple[Detector, ModelManifest]:
    """As ``import_reference``, of a file that has been read; ``path`` names it."""
    source, settings = str(path), stored.settings
    model = _model(stored, source, heads, strict)
    config = model.config
    height, width = parse_size(settings.get("img_size") or "64x64", source)
    mode = str(settings.get("resize_mode") or default_resize_mode(config.in_channels))
    training = {"imported_from": path.name, "averaged_weights": stored.averaged, "epoch": settings.get("epoch")}
    if settings.get("multi_label_mode") == "single":  # attributes of their own show in the weights
        training["multi_label_mode"] = "single"
    if isinstance(config, TransformerConfig) and heads is None:
        training["assumed"] = f"{config.heads} attention heads"
    try:
        manifest = ModelManifest(
            name=path.stem,
            variant=variant_of(config),
            class_names=class_names_of(config.class_count),
            input_height=height,
            input_width=width,
            resize_mode=mode.lower().replace("-", "_"),  # type: ignore[arg-type]
            training=training,
        )
    except ValueError:
        raise ModelError(f"{path}: unknown resize mode {mode!r}") from None
    return model.eval(), complete_manifest(model, manifest, source)


def _model(stored: Stored, source: str, heads: int | None, strict: bool) -> Detector:
    """The model that the weights belong to, with them loaded."""
    state, settings = dict(stored.weights), stored.settings
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    arch = settings.get("arch") or arch_of(shapes)
    config: ModelConfig
    if arch == "transformer":
        config = infer_transformer(shapes, settings, source, heads)
    elif arch == "cnn":
        if not {"head.weight", "head_hm.weight"} & shapes.keys():
            raise ModelError(f"{source}: says architecture 'cnn', but holds the weights of none (no head.weight)")
        needed = "head.weight" in shapes
        config = infer_cnn(shapes, settings, _anchors(state, settings, "anchors", source) if needed else [], source)
    elif arch == "ultratinyod" and not any(key.startswith(("backbone.", "head.")) for key in shapes):
        first = next(iter(shapes))
        raise ModelError(
            f"{source}: weights of another project ({first}, ...)", hint=f"this reads {', '.join(CONFIGS)}"
        )
    elif arch == "ultratinyod":
        config = infer_config(shapes, settings, _anchors(state, settings, "head.anchors", source), source)
    else:
        raise ModelError(f"{source}: holds architecture {arch!r}", hint=f"this reads {', '.join(CONFIGS)}")
    model = model_of(config)
    for key in ("anchors", "head.anchors"):
        if key in model.state_dict():
            state.setdefault(key, model.anchors.clone())
    load_weights(model, state, source, strict=strict)
    return model


def _choose_weights(stored: Any, source: str, which: Which) -> Stored:
    if not isinstance(stored, dict):
        raise ModelError(f"{source}: not a checkpoint (holds a {type(stored).__name__})")
    settings = {key: value for key, value in stored.items() if isinstance(key, str) and not isinstance(value, Tensor)}
    there = "model" in stored and stored.get("ema") is not None
    if which == "ema" and not there:
        raise ModelError(f"{source}: holds no averaged weights", hint="take those it has (raw)")
    averaged = there and which != "raw" and (which == "ema" or bool(stored.get("use_ema", True)))
    weights = stored["ema"] if averaged else stored.get("model", stored.get("state_dict", stored))
    if not isinstance(weights, dict) or not weights or not all(isinstance(v, Tensor) for v in weights.values()):
        raise ModelError(f"{source}: holds no weights where a checkpoint has them")
    if any("fake_quant" in key or "activation_post_process" in key for key in weights):
        raise ModelError(f"{source}: a quantization-aware checkpoint", hint="import the float one it was made from")
    return Stored(dict(weights), settings, averaged)


def _anchors(state: Mapping[str, Tensor], settings: Mapping[str, Any], key: str, source: str) -> list[list[float]]:
    anchors = state[key].tolist() if key in state else settings.get("anchors")
    try:
        pairs = [[float(w), float(h)] for w, h in anchors or ()]
    except (TypeError, ValueError):
        raise ModelError(f"{source}: anchors are not pairs of numbers") from None
    if not pairs:
        raise ModelError(f"{source}: holds no anchors")
    return pairs


def variant_of(config: ModelConfig) -> str | None:
    """The letter of the published variant with this architecture, whatever its anchors."""
    if not isinstance(config, UltraTinyODConfig):
        return None
    return next((x for x in VARIANTS if variants_config(x, anchors=config.anchors) == config), None)


def class_names_of(count: int) -> list[str]:
    """Names for so many classes where a file has none."""
    return ["person"] if count <= 1 else [f"class{index}" for index in range(count)]
