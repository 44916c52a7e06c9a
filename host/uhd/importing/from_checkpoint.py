"""A published ``.pt`` as a model of ours, with where each of its facts comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from uhd.errors import ModelError
from uhd.importing.findings import DEFAULT, GIVEN, HEAD, NAME, STATED, WEIGHTS, Finding, size_in_name
from uhd.importing.from_onnx import options_told
from uhd.importing.stated import choose_colours
from uhd.manifest import ModelManifest
from uhd.models.config import UltraTinyODConfig
from uhd.models.detector import Detector
from uhd.models.reference import SETTINGS, parse_size
from uhd.models.reference_checkpoint import Stored, Which, model_of_stored, read_reference

#: Options that leave no trace in weights: what the file does not state of them is assumed.
_TRACELESS = frozenset({"activation", "out_stride", "output_stride", "context_dilation", "quality_power", "dropout"})
_SETTING = {option: setting for setting, option in SETTINGS.items()}


@dataclass
class CheckpointModel:
    """A model made of a file, with what is known of it and how; ``weights`` counts the tensors taken over."""

    model: Detector
    manifest: ModelManifest
    weights: int
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def model_from_checkpoint(
    path: Path, *, which: Which = "auto", resize_mode: str | None = None, heads: int | None = None
) -> CheckpointModel:
    """The model of a published ``.pt``; nothing in the file is executed.

    ``heads`` are the attention heads of a transformer, whose file does not tell them. Raises ``ModelError`` (one line)
    for damaged files, for code, and for weights of an unknown architecture; ``ConfigError`` for an unknown mode.
    """
    stored = read_reference(path, which)
    model, manifest = model_of_stored(stored, path, heads)
    mode, mode_how = choose_colours(path, model.config.in_channels, stored.settings.get("resize_mode"), resize_mode)
    size, size_how = (manifest.input_height, manifest.input_width), STATED
    if not stored.settings.get("img_size"):
        named = size_in_name(path)
        size, size_how = (parse_size(named, str(path)), NAME) if named else (size, DEFAULT)
    manifest = manifest.model_copy(
        update={"resize_mode": mode, "input_height": size[0], "input_width": size[1], "name": path.stem}
    )
    findings = [
        Finding("weights", "averaged (EMA)" if stored.averaged else "as trained (raw)", _weights_how(stored, which)),
        Finding("input", f"{model.config.in_channels} x {size[0]} x {size[1]}", f"size {size_how}"),
        Finding("resize mode", mode, mode_how),
        Finding("classes", f"{model.config.class_count} ({', '.join(manifest.class_names)})", WEIGHTS),
        *_anchors(model, stored),
        *_options(model, stored, heads),
    ]
    _check(model, stored, path)
    return CheckpointModel(model, manifest, len(stored.weights), findings)


def _check(model: Detector, stored: Stored, path: Path) -> None:
    """Raises ``ModelError`` unless the model holds every tensor of the file."""
    own = model.state_dict()
    lost = [key for key, value in stored.weights.items() if not torch.equal(own[key], value.to(own[key].dtype))]
    if lost:
        raise ModelError(f"{path}: {len(lost)} tensors were not taken over (e.g. {lost[0]})")


def _weights_how(stored: Stored, which: Which) -> str:
    if which != "auto":
        return GIVEN
    return "the file's choice" if stored.settings.get("ema") is not None else "the only ones in the file"


def _anchors(model: Detector, stored: Stored) -> Iterator[Finding]:
    if len(model.anchors):
        in_weights = any(key.endswith("anchors") for key in stored.weights)
        yield Finding("anchors", len(model.anchors), WEIGHTS if in_weights else STATED)


def _options(model: Detector, stored: Stored, heads: int | None) -> Iterator[Finding]:
    config = model.config
    if isinstance(config, UltraTinyODConfig):
        told = options_told(config)
        told += [("score_mode", config.resolved_score_mode), ("quality_power", config.quality_power)]
    else:
        rest = {"in_channels", "num_classes", "anchors"}
        told = [
            (key, value) for key, value in config.options().items() if key not in rest and value not in (None, False)
        ]
        told = [(key, value) for key, value in told if "backbone" in dict(told) or not key.startswith("backbone")]
    for key, value in told:
        setting = stored.settings.get(_SETTING.get(key, key))
        if key == "heads":
            how = GIVEN if heads else DEFAULT
        elif setting is not None and not (setting is False and value):
            how = STATED
        else:
            how = HEAD if key == "score_mode" else DEFAULT if key in _TRACELESS else WEIGHTS
        yield Finding(key, value, how)
