"""Reading teachers: detectors of any architecture, and vision transformers whose features are learnt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uhd.errors import ConfigError, ModelError
from uhd.models import build_model
from uhd.models.architectures import ModelConfig
from uhd.models.checkpoint import load_checkpoint, load_weights
from uhd.models.detector import Detector
from uhd.models.dinov3 import Style, VisionTransformer
from uhd.models.dinov3_weights import load_dinov3
from uhd.train.distill.pair import check_pair
from uhd.train.distill.settings import DistillSettings

#: Setting -> option of the teacher's architecture, and the architectures that have it.
_OVERRIDES: dict[str, tuple[str, tuple[str, ...]]] = {
    "teacher_num_queries": ("num_queries", ("transformer",)),
    "teacher_d_model": ("d_model", ("transformer",)),
    "teacher_heads": ("heads", ("transformer",)),
    "teacher_layers": ("layers", ("transformer",)),
    "teacher_dim_feedforward": ("dim_feedforward", ("transformer",)),
    "teacher_use_fpn": ("use_fpn", ("transformer",)),
    "teacher_use_skip": ("use_skip", ("cnn",)),
    "teacher_activation": ("activation", ("ultratinyod", "cnn", "transformer")),
}


@dataclass(frozen=True)
class Teacher:
    """A detector to learn from, ``resize_mode`` being what it was trained to see (None: told by its channels)."""

    model: Detector
    resize_mode: str | None = None
    name: str = "the teacher"

    @property
    def anchors(self) -> Tensor:
        """Its anchors [A,2], for ``override_from_teacher_anchors``. Raises ``ConfigError`` if it has none."""
        if self.model.config.head != "anchor":
            raise ConfigError(f"override_from_teacher_anchors: {self.name} has no anchors", hint="leave it out")
        return self.model.anchors.detach().clone()


def load_teacher(path: Path, settings: DistillSettings, student: ModelConfig | None = None) -> Teacher:
    """Read a checkpoint of ours or a published ``.pt``; its averaged weights where it has them.

    The architecture is the checkpoint's; what the file cannot tell (attention heads, activation) may be given in
    ``settings``. With ``student``, the pair is checked at once. Raises ``ModelError`` for a bad file and
    ``ConfigError`` for a setting that contradicts it, each one line.
    """
    model, manifest = load_checkpoint(path, heads=settings.teacher_heads)
    arch = model.config.arch
    if settings.teacher_arch not in (None, arch):
        raise ConfigError(f"teacher_arch: {path} holds a {arch}, not a {settings.teacher_arch}", hint="leave it out")
    model = _overridden(model, settings, str(path))
    if student is not None:
        check_pair(settings, model.config, student, str(path))
    return Teacher(model, manifest.resize_mode, str(path))


def _overridden(model: Detector, settings: DistillSettings, source: str) -> Detector:
    """The model with the options that ``settings`` give; its weights must fit them."""
    changes: dict[str, Any] = {}
    for setting, (option, families) in _OVERRIDES.items():
        value = getattr(settings, setting)
        if value in (None, False):
            continue
        if model.config.arch not in families:
            raise ConfigError(f"{setting}: {source} is a {model.config.arch}, which has no such option")
        value = "silu" if value == "swish" else value
        if getattr(model.config, option) != value:
            changes[option] = value
    if not changes:
        return model
    fresh = build_model(model.config.arch, {**model.config.options(), **changes})
    try:
        load_weights(fresh, model.state_dict(), source)
    except ModelError as error:
        given = ", ".join(setting for setting, (option, _) in _OVERRIDES.items() if option in changes)
        raise ConfigError(f"{given}: {error}", hint="leave out what the checkpoint tells") from None
    return fresh.eval()


def load_backbone(path: Path, settings: DistillSettings) -> VisionTransformer:
    """A DINOv3 vision transformer to learn features from. Raises ``ModelError``; see ``uhd.models.dinov3``."""
    style: Style = "additive" if settings.loss_mode == "reference" else "rotary"
    return load_dinov3(path, settings.teacher_backbone_arch, style=style, norm=settings.teacher_backbone_norm)


def frozen(module: torch.nn.Module) -> None:
    """Evaluation mode for good, no gradients."""
    module.eval().requires_grad_(False)
