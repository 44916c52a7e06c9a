"""Fitting weights into a model, and a model's facts into a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uhd import __version__
from uhd.errors import ModelError
from uhd.manifest import ModelManifest
from uhd.models.detector import Detector


@dataclass(frozen=True)
class WeightReport:
    """How the names and shapes of some weights compare with a model's; each list is sorted."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        groups = (("missing", self.missing), ("unknown", self.unexpected), ("of another shape", self.mismatched))
        return ", ".join(f"{len(keys)} {what} (e.g. {keys[0]})" for what, keys in groups if keys) or "all fit"


def compare_weights(model: nn.Module, state: Mapping[str, Tensor]) -> WeightReport:
    """What of ``state`` is missing from ``model``'s weights, unknown to it, or of another shape."""
    own = model.state_dict()
    return WeightReport(
        missing=tuple(sorted(own.keys() - state.keys())),
        unexpected=tuple(sorted(state.keys() - own.keys())),
        mismatched=tuple(sorted(key for key in own if key in state and own[key].shape != state[key].shape)),
    )


def load_weights(
    model: nn.Module, state: Mapping[str, Tensor], source: str = "weights", *, strict: bool = True
) -> WeightReport:
    """Copy ``state`` into ``model``; returns how they compared. All checks come before the first change.

    Not ``strict``, missing weights keep their values and unknown ones are left out, but shapes must match and at least
    one weight must fit. Raises ``ModelError`` for weights that do not fit and for values that are not finite.
    """
    report = compare_weights(model, state)
    if report.mismatched or (strict and not report.fits):
        raise ModelError(f"{source}: weights do not fit the architecture: {report}")
    chosen = {key: value for key, value in state.items() if key not in report.unexpected}
    if not chosen:
        raise ModelError(f"{source}: none of its {len(state)} weights belongs to this architecture")
    for key, value in chosen.items():
        if not torch.isfinite(value).all():
            raise ModelError(f"{source}: {key} holds values that are not finite")
    model.load_state_dict(chosen, strict=False)
    return report


def complete_manifest(model: Detector, manifest: ModelManifest, source: str = "") -> ModelManifest:
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
            "architecture": config.arch,
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
