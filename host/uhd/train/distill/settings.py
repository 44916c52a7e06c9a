"""What is distilled, and from whom. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True)
class DistillSettings:
    """Flags of the section Distillation. Weights and temperature are finite numbers from 0."""

    distill_kl: float = 0.0
    distill_box_l1: float = 0.0
    distill_obj: float = 0.0
    distill_quality: float = 0.0
    distill_feat: float = 0.0
    distill_temperature: float = 1.0
    distill_cosine: bool = False
    teacher_arch: str | None = None
    teacher_num_queries: int | None = None
    teacher_d_model: int | None = None
    teacher_heads: int | None = None
    teacher_layers: int | None = None
    teacher_dim_feedforward: int | None = None
    teacher_use_skip: bool = False
    teacher_activation: str | None = None
    teacher_use_fpn: bool = False
    teacher_backbone_arch: str | None = None
    teacher_backbone_norm: Literal["imagenet", "none"] = "imagenet"
    #: Enlarge the picture for the backbone until it has a patch for each cell of the student's map.
    teacher_backbone_upsample: bool = False
    override_from_teacher_anchors: bool = False
    loss_mode: Literal["default", "reference"] = "default"

    @classmethod
    def from_config(cls, config: Any) -> DistillSettings:
        """Those of a training configuration, by name; what it does not have keeps its default."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls) if hasattr(config, field.name)})

    @property
    def output_weights(self) -> dict[str, float]:
        """Weights of the terms on the head's outputs that are in use, by the term's name."""
        names = ("distill_kl", "distill_box_l1", "distill_obj", "distill_quality")
        return {name: getattr(self, name) for name in names if getattr(self, name) > 0}

    @property
    def active(self) -> bool:
        """Whether anything is learnt from a teacher."""
        return bool(self.output_weights) or self.distill_feat > 0

    def scale(self, epoch: int, epochs: int) -> float:
        """Factor on all weights in ``epoch`` (from 0): 1, or half a cosine that reaches 1 in the last epoch."""
        return 0.5 * (1 - math.cos(math.pi * (epoch + 1) / epochs)) if self.distill_cosine else 1.0
