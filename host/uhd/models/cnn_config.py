"""CnnConfig: every option of the ``cnn`` architecture, as data. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from uhd.manifest import ScoreMode
from uhd.models.base import AS_TUPLE, Activation, Anchor, Anchors, Arch, HeadKind, ModelOptions, alias, check_anchors

BackboneName = Literal["microcspnet", "ultratinyresnet", "enhanced-shufflenet"]
Gate = Literal["none", "se", "ese"]
SkipMode = Literal["none", "add", "cat", "shuffle_cat", "s2d_cat"]

#: Anchors (w, h as fractions of the input) of an anchor head when nothing else is said.
DEFAULT_CNN_ANCHORS: tuple[Anchor, ...] = ((0.1, 0.1), (0.2, 0.2), (0.3, 0.3))

_BACKBONE_ALIASES: dict[str, str | None] = {
    "none": None, "null": None, "": None,
    "micro-cspnet": "microcspnet", "micro_cspnet": "microcspnet", "microcspnet": "microcspnet",
    "ultra-tiny-resnet": "ultratinyresnet", "ultra_tiny_resnet": "ultratinyresnet",
    "enhanced_shufflenet": "enhanced-shufflenet", "enhancedshufflenet": "enhanced-shufflenet",
}  # fmt: skip

_Stages = Annotated[tuple[int, ...], AS_TUPLE]
_FIXED_CHANNELS = {"microcspnet": 64, "enhanced-shufflenet": 128}


class CnnConfig(ModelOptions):
    """A plain convolutional detector: three built-in stages or a ``backbone``, and a centre-point or anchor head.

    With a ``backbone``, ``cnn_width``, ``use_skip``, ``last_width_scale`` and ``output_stride`` have no effect.
    """

    cnn_width: int = Field(default=32, ge=1, description="channels of the stem")
    disable_cls: bool = Field(default=False, description="anchor head without classes")
    activation: Activation = "silu"
    use_batchnorm: bool = True
    use_skip: bool = Field(default=False, description="add the pooled first two stages to the third")
    last_se: Gate = "none"
    last_width_scale: float = Field(default=1.0, allow_inf_nan=False, description="channels of the last stage, >= 1")
    output_stride: Literal[4, 8, 16] = 16
    backbone: Annotated[BackboneName | None, alias(_BACKBONE_ALIASES)] = None
    backbone_channels: _Stages = Field(default=(16, 24, 32, 48), description="ultratinyresnet: channels of its stages")
    backbone_blocks: _Stages = Field(default=(1, 1, 2, 1), description="ultratinyresnet: residual blocks of its stages")
    backbone_se: Gate = "none"
    backbone_skip: bool = False
    backbone_skip_cat: bool = False
    backbone_skip_shuffle_cat: bool = False
    backbone_skip_s2d_cat: bool = False
    backbone_fpn: bool = False
    backbone_out_stride: int | None = Field(default=None, ge=1, description="ultratinyresnet: at least this stride")
    use_anchor: bool = False
    anchors: Anchors = Field(default=(), description="anchor head only; empty: three squares")
    score_mode: ScoreMode | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        values = {key: value for key, value in data.items() if not (value is None and key.startswith("backbone_"))}
        if not values.get("use_anchor"):
            values["anchors"] = ()
        elif not values.get("anchors"):
            values["anchors"] = DEFAULT_CNN_ANCHORS
        return values

    @model_validator(mode="after")
    def _check(self) -> CnnConfig:
        check_anchors(self.anchors)
        if len(self.backbone_channels) != len(self.backbone_blocks) or not self.backbone_channels:
            raise ValueError(
                f"backbone_channels names {len(self.backbone_channels)} stages, backbone_blocks"
                f" {len(self.backbone_blocks)}"
            )
        if min(self.backbone_channels) < 1 or min(self.backbone_blocks) < 0:
            raise ValueError("backbone_channels must be positive and backbone_blocks not negative")
        if self.disable_cls and not self.use_anchor:
            raise ValueError("disable_cls needs an anchor head (use_anchor)")
        return self

    @property
    def arch(self) -> Arch:
        return "cnn"

    @property
    def head(self) -> HeadKind:
        return "anchor" if self.use_anchor else "centernet"

    @property
    def anchor_count(self) -> int:
        return len(self.anchors)

    @property
    def class_count(self) -> int:
        """Classes of the output; 0 when the anchor head has none."""
        return 0 if self.disable_cls else self.num_classes

    @property
    def has_quality(self) -> bool:
        return False

    @property
    def quality_power(self) -> float:
        return 1.0

    @property
    def skip_mode(self) -> SkipMode:
        """The long skips of the backbone: the last named of add, cat, shuffle_cat, s2d_cat; each implies skips."""
        if self.backbone_skip_s2d_cat:
            return "s2d_cat"
        if self.backbone_skip_shuffle_cat:
            return "shuffle_cat"
        if self.backbone_skip_cat:
            return "cat"
        return "add" if self.backbone_skip else "none"

    @property
    def feature_channels(self) -> int:
        """Channels of the feature map that the head reads."""
        if self.backbone == "ultratinyresnet":
            return self.backbone_channels[-1]
        if self.backbone is not None:
            return _FIXED_CHANNELS[self.backbone]
        return round(self.cnn_width * max(1.0, self.last_width_scale))

    @property
    def out_stride(self) -> int:
        """Pixels of the input per cell of the output map."""
        if self.backbone is None:
            return self.output_stride
        if self.backbone != "ultratinyresnet":
            return 8
        return int(2 ** (len(self.backbone_channels) - 1 + self.extra_downs))

    @property
    def extra_downs(self) -> int:
        """Halvings that an ultratinyresnet adds to its own stride to reach ``backbone_out_stride``."""
        own = 2 ** (len(self.backbone_channels) - 1)
        count = 0
        while own << count < (self.backbone_out_stride or 0):
            count += 1
        return count

    @property
    def map_names(self) -> tuple[str, ...]:
        """Output maps in order: box, obj, cls (if there are classes), or hm, off, wh."""
        if not self.use_anchor:
            return ("hm", "off", "wh")
        return ("box", "obj", "cls") if self.class_count else ("box", "obj")

    @property
    def raw_channels(self) -> int:
        """Channels of the anchor head's raw map: per anchor 4 + obj + classes."""
        return self.anchor_count * (5 + self.class_count)

    @property
    def resolved_score_mode(self) -> ScoreMode:
        """The score mode in effect; a centre-point head's score is its heat map (``cls``)."""
        if not self.use_anchor:
            return "cls"
        if not self.class_count:
            return "obj"
        return self.score_mode or "obj_cls"

    def maps_for(self, score_mode: ScoreMode | None = None) -> tuple[str, ...]:
        """The maps that decoding in ``score_mode`` (None: the resolved one) needs, in ``map_names`` order."""
        if not self.use_anchor:
            return self.map_names
        mode = score_mode or self.resolved_score_mode
        needed = {"box"}
        if mode != "cls" or not self.class_count:
            needed.add("obj")
        if mode.endswith("cls"):
            needed.add("cls")
        return tuple(name for name in self.map_names if name in needed)

    def with_anchors(self, anchors: Sequence[Sequence[float]]) -> CnnConfig:
        """The same architecture with other anchors."""
        return self.model_validate({**self.model_dump(), "anchors": [list(pair) for pair in anchors]})
