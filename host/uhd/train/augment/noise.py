"""Noise of the sensor and of compression."""

from __future__ import annotations

import cv2
import numpy as np
from pydantic import Field
from torch import Tensor

from uhd.train.augment.op import Amounts, PictureOp, between
from uhd.train.augment.pictures import Picture, by_picture, normal_noise


class GaussNoise(PictureOp):
    """Normal noise in every channel; ``var_limit`` is its standard deviation, of 255, as in the reference."""

    mean: float = Field(default=0.0, allow_inf_nan=False)
    var_limit: Amounts = (10.0, 50.0)

    @property
    def draws(self) -> int:
        return 3

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        spread = between(u[:, 0], self.var_limit).to(planes.device)[:, None]
        noise = normal_noise(u[:, 1].to(planes.device), planes[0].numel()) * spread + self.mean
        return planes + noise.view(planes.shape) * (white / 255)


class ISONoise(PictureOp):
    """Normal noise of ``intensity``, and a shift of each channel of ``color_shift`` (standard deviations, of white)."""

    intensity: Amounts = (0.05, 0.15)
    color_shift: Amounts = (0.01, 0.05)

    @property
    def draws(self) -> int:
        return 4

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        seed = u[:, 2].to(planes.device)
        spread = between(u[:, 0], self.intensity).to(planes.device)[:, None]
        shift = between(u[:, 1], self.color_shift).to(planes.device)[:, None]
        noise = (normal_noise(seed, planes[0].numel()) * spread).view(planes.shape)
        colour = (normal_noise(seed, 3, stream=1) * shift)[:, :, None, None]
        return planes + (noise + colour) * white


class ImageCompression(PictureOp):
    """Compress as JPEG and decompress (OpenCV, picture by picture)."""

    quality_range: Amounts = (40, 90)

    @property
    def draws(self) -> int:
        return 2

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        quality = between(u[:, 0], self.quality_range).int().clamp(0, 100).tolist()

        def compress(rgb: Picture, number: int) -> Picture:
            bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
            data = cv2.imencode(".jpg", bgr, [int(cv2.IMWRITE_JPEG_QUALITY), quality[number]])[1]
            read = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
            return np.asarray(cv2.cvtColor(read, cv2.COLOR_BGR2RGB), dtype=np.uint8)

        return by_picture(planes, white, compress)
