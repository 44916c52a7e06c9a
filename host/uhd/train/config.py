"""TrainConfig: every setting of a training run. A field is the flag, the checkpoint entry and the help line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from uhd.errors import ConfigError
from uhd.image.resize import INTEGER_MODES
from uhd.manifest import ResizeMode


def _unit(default: float, text: str) -> Any:
    return Field(default=default, description=text, ge=0.0, le=1.0, allow_inf_nan=False)


def _weight(default: float, text: str) -> Any:
    return Field(default=default, description=text, ge=0.0, allow_inf_nan=False)


class TrainConfig(BaseModel):
    """Settings that decide the result of a run. Unknown keys and wrong types are errors; instances are immutable.

    Where a run reads from, writes to and on what device is no part of it: a run may move and still be resumed.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    variant: str = Field(default="R", description="letter of the published size: R Y Z A F P N T S C M L")
    resize_mode: ResizeMode = Field(
        default="opencv_inter_nearest_yuv422", description="how a photo becomes the network input"
    )
    img_size: int = Field(default=64, ge=32, le=1024, multiple_of=8, description="side of the network input, pixels")
    classes: str = Field(default="0", description="comma-separated class ids of the label files to detect")

    epochs: int = Field(default=120, ge=1, description="passes over the training photos; length of the cosine")
    batch_size: int = Field(default=64, ge=1, description="photos a step")
    optimizer: Literal["adamw", "sgd"] = Field(default="adamw", description="update rule")
    lr: float = Field(default=4e-3, description="peak learning rate", gt=0.0, allow_inf_nan=False)
    weight_decay: float = _weight(0.02, "decay of convolution weights (never of biases and normalisation)")
    warmup_steps: int = Field(default=300, ge=0, description="steps of linear warm-up")
    final_lr: float = _unit(0.01, "learning rate at the end, as a fraction of the peak")
    grad_clip_norm: float = _weight(10.0, "largest gradient norm; 0 switches clipping off")
    use_ema: bool = Field(default=True, description="evaluate and keep an average of the weights")
    ema_decay: float = Field(default=0.9995, ge=0, lt=1, description="memory of that average")
    use_amp: bool = Field(default=False, description="bfloat16 activations")
    seed: int = Field(default=42, ge=0, description="decides initialisation, order and augmentation")
    eval_interval: int = Field(default=5, ge=1, description="epochs between evaluations; the last is always evaluated")

    auto_anchors: bool = Field(default=True, description="anchors from the training boxes; off: the published ones")
    auto_anchors_alg: Literal["kmeans", "logkmeans", "stratified", "stratified_large", "sml_fixed"] = Field(
        default="logkmeans", description="how anchors are found"
    )
    num_anchors: int = Field(default=8, ge=1, le=64, description="anchors a cell")

    score_loss: Literal["product", "separate"] = Field(
        default="product", description="train the deployed product of scores as one, or each factor on its own"
    )
    iou_loss: Literal["iou", "giou", "ciou"] = Field(default="ciou", description="box loss")
    loss_weight_box: float = _weight(2.5, "weight of the box loss")
    loss_weight_obj: float = _weight(0.1, "weight of the objectness loss, where the score does not use it")
    loss_weight_cls: float = _weight(1.0, "weight of the score loss (separate: of its class part)")
    loss_weight_quality: float = _weight(1.0, "weight of the quality loss (separate only)")
    loss_weight_range: float = _weight(1.0, "weight of the squares by which head outputs exceed logit_limit")
    logit_limit: float = Field(default=8.0, description="outputs beyond it cost int8 resolution", gt=0.0)
    assign_topk: int = Field(default=6, ge=1, description="candidates an object takes at most")
    assign_radius: int = Field(default=1, ge=0, le=8, description="cells round an object's centre that may take it")
    assign_score_power: float = _weight(0.5, "exponent of the score in the alignment")
    assign_iou_power: float = _weight(4.0, "exponent of the IoU in the alignment")
    positive_weighting: bool = Field(default=True, description="weight a positive's score loss by its target")
    background_weight: float = _weight(0.75, "weight of the background in the score loss, times score squared")

    crop_prob: float = _unit(0.9, "share of photos that are cropped or zoomed out")
    crop_min: float = Field(default=0.45, description="smallest crop, as a fraction of the side", gt=0, le=1)
    crop_max: float = Field(default=1.15, description="largest crop; above 1 adds a grey margin", ge=1, le=4)
    crop_aspect: float = _weight(0.25, "aspect of a crop varies by e to the plus or minus this")
    mild_epochs: int = Field(default=0, ge=0, description="last epochs, in which augmentation varies half as much")
    min_visible: float = _unit(0.3, "least visible part of a box for it to stay a target")
    flip_prob: float = _unit(0.5, "share of photos mirrored")
    brightness: float = _unit(0.08, "largest shift of all channels, of full scale")
    contrast: float = _unit(0.2, "largest relative change of contrast")
    saturation: float = _unit(0.3, "largest relative change of saturation")
    hue: float = _unit(0.02, "largest turn of hue, of a full circle")
    channel_gain: float = _unit(0.05, "largest relative change of each channel's gain (white balance)")
    grey_prob: float = _unit(0.03, "share of photos without colour")
    single_chroma: float = _unit(0.25, "share of photos with one pixel's chroma instead of a pair's mean (yuv422)")

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.resize_mode not in INTEGER_MODES:
            raise ValueError(f"training samples by index, so resize_mode must be one of {', '.join(INTEGER_MODES)}")
        parse_class_ids(self.classes)
        return self

    def mild(self) -> TrainConfig:
        """The same with half the range of every random change, for the last epochs."""
        halves = ("crop_aspect", "brightness", "contrast", "saturation", "hue", "channel_gain", "grey_prob")
        update: dict[str, float] = {name: getattr(self, name) / 2 for name in halves}
        update |= {name: (1 + getattr(self, name)) / 2 for name in ("crop_min", "crop_max")}
        return self.model_copy(update=update)

    @property
    def class_ids(self) -> tuple[int, ...]:
        """Ids of the label files, in the order of the network's classes."""
        return parse_class_ids(self.classes)


def parse_class_ids(text: str) -> tuple[int, ...]:
    """``"0,2"`` -> (0, 2). Raises ``ValueError`` unless they are distinct non-negative integers."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(map(int, parts))) != len(parts):
        raise ValueError(f"classes {text!r} is not a comma-separated list of distinct class ids, such as 0 or 0,2")
    return tuple(int(part) for part in parts)


def parse_train_config(values: Mapping[str, Any], source: str) -> TrainConfig:
    """Build a configuration from plain values. Raises ``ConfigError``, one line that names ``source`` and the key."""
    try:
        return TrainConfig.model_validate(dict(values))
    except ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        given = f" (given: {first['input']!r})" if where else ""
        raise ConfigError(f"{source}: {f'{where}: ' if where else ''}{message}{given}") from None
