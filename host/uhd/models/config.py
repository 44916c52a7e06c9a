"""UltraTinyODConfig: every option of the architecture, as data. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from uhd.errors import ConfigError, UhdError
from uhd.manifest import ScoreMode
from uhd.models.base import (
    Activation,
    Anchor,
    Anchors,
    Arch,
    HeadKind,
    ModelOptions,
    alias,
    check_anchors,
    validate_options,
)

Region = Literal["backbone", "head", "both", "none"]

#: Anchors (w, h as fractions of the input) used when nothing else is said.
DEFAULT_ANCHORS: tuple[Anchor, ...] = ((8 / 64, 16 / 64), (12 / 64, 28 / 64), (20 / 64, 40 / 64))

_SPPF_ALIASES: dict[str, str | None] = {"conv1x1": "conv", "1x1": "conv"}
_CLASSLESS_MODE: dict[ScoreMode, ScoreMode] = {
    "obj_quality_cls": "obj_quality", "obj_quality": "obj_quality", "quality_cls": "quality", "quality": "quality",
    "obj_cls": "obj", "obj": "obj", "cls": "obj",
}  # fmt: skip


@dataclass(frozen=True)
class Bits:
    """Fake-quantization widths of a region; below 2 means off."""

    weight: int = 0
    activation: int = 0


class UltraTinyODConfig(ModelOptions):
    """Architecture of one UltraTinyOD. Unknown keys and wrong types are errors; instances are immutable.

    ``width`` w is the stem's channel count; the backbone ends with 4w channels at ``out_stride``.
    """

    width: int = Field(default=64, ge=1, description="channels of the stem")
    disable_cls: bool = Field(default=False, description="no class and attribute branches")
    attr_classes: int = Field(default=0, ge=0, description="classes of the separate attribute head")
    out_stride: Literal[4, 8, 16] = 8
    anchors: Anchors = Field(default=DEFAULT_ANCHORS, min_length=1)
    activation: Activation = "silu"
    conv: Literal["dw", "std"] = Field(default="dw", description="depthwise-separable or dense 3x3 blocks")
    batchnorm: bool = True
    residual: bool = Field(default=False, description="skips around block3 and block4")
    sppf_scale: Annotated[Literal["none", "bn", "conv"], alias(_SPPF_ALIASES)] = "none"
    improved_head: bool = Field(default=False, description="context residual, quality branch, learnt wh_scale")
    iou_aware_head: bool = Field(default=False, description="two-block towers, quality branch")
    head_ese: bool = Field(default=False, description="effective squeeze-and-excitation on the shared trunk")
    context_rfb: bool = False
    context_dilation: int = 2
    large_obj_branch: bool = False
    large_obj_depth: int = 2
    large_obj_ch_scale: float = Field(default=1.0, allow_inf_nan=False)
    cls_bottleneck_ratio: float = Field(default=0.5, allow_inf_nan=False)
    quant_arch: int = Field(default=0, ge=0, le=11, description="quantization-friendly rewiring, 0 is off")
    score_mode: ScoreMode | None = Field(default=None, description="None: by the head, see resolved_score_mode")
    quality_power: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    w_bits: int = Field(default=0, ge=0, le=16)
    a_bits: int = Field(default=0, ge=0, le=16)
    quant_target: Region = "both"
    lowbit_quant_target: Region | None = None
    lowbit_w_bits: int | None = Field(default=None, ge=0, le=16)
    lowbit_a_bits: int | None = Field(default=None, ge=0, le=16)
    highbit_quant_target: Region = "none"
    highbit_w_bits: int = Field(default=8, ge=0, le=16)
    highbit_a_bits: int = Field(default=8, ge=0, le=16)

    @model_validator(mode="after")
    def _check(self) -> UltraTinyODConfig:
        check_anchors(self.anchors)
        overlap = _regions(self.lowbit_quant_target or self.quant_target) & _regions(self.highbit_quant_target)
        if overlap:
            raise ValueError(f"low-bit and high-bit quantization both name {' and '.join(sorted(overlap))}")
        return self

    @property
    def arch(self) -> Arch:
        return "ultratinyod"

    @property
    def head(self) -> HeadKind:
        return "anchor"

    @property
    def anchor_count(self) -> int:
        return len(self.anchors)

    @property
    def class_count(self) -> int:
        """Classes of the class branch; 0 when it is disabled."""
        return 0 if self.disable_cls else self.num_classes

    @property
    def attr_count(self) -> int:
        return 0 if self.disable_cls else self.attr_classes

    @property
    def has_quality(self) -> bool:
        return self.improved_head or self.iou_aware_head

    @property
    def feature_channels(self) -> int:
        """Channels of the backbone's output and of the head's trunk."""
        return 4 * self.width

    @property
    def cls_channels(self) -> int:
        """Channels of the class branch, never below 8 and never above the trunk's unless that is below 8."""
        c = self.feature_channels
        ratio = min(max(self.cls_bottleneck_ratio, 0.05), 1.0)
        return max(8, min(c, round(c * ratio)))

    @property
    def large_obj_channels(self) -> int:
        return round(self.feature_channels * max(0.25, self.large_obj_ch_scale))

    @property
    def resolved_score_mode(self) -> ScoreMode:
        """The score mode in effect: the explicit one or the head's default, reduced if there are no classes."""
        mode: ScoreMode = self.score_mode or ("quality_cls" if self.iou_aware_head else "obj_quality_cls")
        return _CLASSLESS_MODE[mode] if self.disable_cls else mode

    @property
    def map_names(self) -> tuple[str, ...]:
        """All output maps of the head, in order: box, obj, then those of quality, cls, attr that exist."""
        optional = (("quality", self.has_quality), ("cls", self.class_count > 0), ("attr", self.attr_count > 0))
        return ("box", "obj", *(name for name, there in optional if there))

    @property
    def raw_channels(self) -> int:
        """Channels of the raw map: per anchor 4 + obj + (quality) + classes."""
        return self.anchor_count * (5 + self.has_quality + self.class_count)

    def maps_for(self, score_mode: ScoreMode | None = None) -> tuple[str, ...]:
        """The maps that decoding in ``score_mode`` (None: the resolved one) needs, in ``map_names`` order.

        A mode that asks for quality of a head without it falls back to objectness. The attribute map belongs to no
        score and is never included.
        """
        mode = score_mode or self.resolved_score_mode
        needed = {"box"}
        if mode.startswith("obj") or ("quality" in mode and not self.has_quality):
            needed.add("obj")
        if "quality" in mode:
            needed.add("quality")
        if mode.endswith("cls"):
            needed.add("cls")
        return tuple(name for name in self.map_names if name in needed)

    def bits(self, region: Literal["backbone", "head"]) -> Bits:
        """Fake-quantization widths of a region."""
        if region in _regions(self.highbit_quant_target):
            return Bits(self.highbit_w_bits, self.highbit_a_bits)
        if region not in _regions(self.lowbit_quant_target or self.quant_target):
            return Bits()
        weight = self.w_bits if self.lowbit_w_bits is None else self.lowbit_w_bits
        activation = self.a_bits if self.lowbit_a_bits is None else self.lowbit_a_bits
        return Bits(weight, activation)

    @property
    def rounds_activations(self) -> bool:
        """Whether any region rounds its activations, so that tiny differences may come out as whole steps."""
        return any(self.bits(region).activation >= 2 for region in ("backbone", "head"))

    def with_anchors(self, anchors: Sequence[Sequence[float]]) -> UltraTinyODConfig:
        """The same architecture with other anchors."""
        return self.model_validate({**self.model_dump(), "anchors": [list(pair) for pair in anchors]})


def _regions(target: Region) -> frozenset[str]:
    return frozenset(("backbone", "head") if target == "both" else () if target == "none" else (target,))


def parse_config(options: Mapping[str, Any], source: str, error: type[UhdError] = ConfigError) -> UltraTinyODConfig:
    """An UltraTinyOD's configuration from plain values; see ``validate_options``."""
    return validate_options(UltraTinyODConfig, options, source, error)
