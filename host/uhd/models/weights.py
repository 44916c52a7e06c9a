"""Fitting weights into a model, and a model's facts into a manifest."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from uhd import __version__
from uhd.errors import ModelError
from uhd.manifest import ModelManifest
from uhd.models.ultratinyod import UltraTinyOD


def load_weights(model: UltraTinyOD, state: Mapping[str, Tensor], source: str) -> None:
    """Copy ``state`` into ``model``. Raises ``ModelError`` unless names and shapes match and values are finite."""
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shaped = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing or unknown or shaped:
        groups = (("missing", missing), ("unknown", unknown), ("of another shape", shaped))
        text = ", ".join(f"{len(keys)} {what} (e.g. {keys[0]})" for what, keys in groups if keys)
        raise ModelError(f"{source}: weights do not fit the architecture: {text}")
    for key, value in state.items():
        if not torch.isfinite(value).all():
            raise ModelError(f"{source}: {key} holds values that are not finite")
    model.load_state_dict(dict(state))


def complete_manifest(model: UltraTinyOD, manifest: ModelManifest, source: str = "") -> ModelManifest:
    """``manifest`` with everything that the model itself decides: options, channels, anchors, wh_scale, scores.

    Raises ``ModelError``, naming ``source`` (default: the manifest's name), if the manifest's colour contract has
    another number of channels than the model.
    """
    config = model.config
    channels = channels_of(manifest.resize_mode)
    if channels != config.in_channels:
        raise ModelError(
            f"{source or manifest.name}: resize mode {manifest.resize_mode} makes {channels} channels, "
            f"but the model takes {config.in_channels}"
        )
    return manifest.model_copy(
        update={
            "options": config.options(),
            "input_channels": config.in_channels,
            "anchors": _pairs(model.anchors),
            "wh_scale": _pairs(model.wh_scale),
            "score_mode": config.resolved_score_mode,
            "quality_power": float(config.quality_power),
            "tool_version": __version__,
        }
    )


def channels_of(mode: str) -> int:
    """Channels of the network input that a resize mode makes."""
    if mode.endswith("yuv422"):
        return 2
    return 1 if mode.endswith(("_y", "_y_bin", "_y_tri")) else 3


def _pairs(tensor: Tensor) -> list[tuple[float, float]]:
    return [(float(w), float(h)) for w, h in tensor.detach().cpu().tolist()]


def first_line(error: Exception) -> str:
    """Kind and first line of a library's error, cut to a size that fits a message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__
