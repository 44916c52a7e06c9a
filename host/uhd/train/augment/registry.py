"""All augmentations by the name that a YAML file gives them."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from uhd.train.augment import blur, colour, geometry, mixing, noise, weather
from uhd.train.augment.canvas import Canvas
from uhd.train.augment.op import CanvasOp, Op


class RemoveOutliers(CanvasOp):
    """Drop boxes whose area, as a part of the picture, is below ``min_area``."""

    number: ClassVar[str] = "min_area"

    prob: float = Field(default=1.0, ge=0.0, le=1.0, allow_inf_nan=False)
    min_area: float = Field(default=0.0, ge=0.0, le=1.0, allow_inf_nan=False)

    def plan(self, canvas: Canvas, u: Tensor) -> None:
        large = canvas.box_areas() >= self.min_area
        canvas.keep_boxes(large | (u[:, 0] >= self.prob)[canvas.box_row])


_ALL: tuple[type[Op], ...] = (
    geometry.HorizontalFlip, geometry.VerticalFlip, geometry.RandomScale, geometry.Translation, geometry.RandomCrop,
    geometry.RandomResizedCrop, geometry.ZoomCrop, mixing.Mosaic, mixing.MixUp, mixing.CopyPaste, RemoveOutliers,
    colour.RandomHSV, colour.RandomPhotometricDistort, colour.RandomBrightness, colour.RandomContrast,
    colour.RandomSaturation, colour.ToGray, colour.ColourJitter, colour.SingleChroma,
    blur.Blur, blur.MedianBlur, blur.MotionBlur, blur.GaussianBlur, blur.CLAHE,
    noise.GaussNoise, noise.ISONoise, noise.ImageCompression,
    weather.RandomRain, weather.RandomFog, weather.RandomSunFlare,
)  # fmt: skip

OPS: dict[str, type[Op]] = {kind.__name__: kind for kind in _ALL}
