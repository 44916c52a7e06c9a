"""The picture that a teacher sees: an RGB teacher may have a student that sees brightness and half the colour."""

from __future__ import annotations

import torch
from torch import Tensor

from uhd.image.colour import luma_u8, yuv422_u8
from uhd.image.resize import network_values

_BY_CHANNELS = {3: "rgb", 2: "yuv422", 1: "y"}


def colour_of(resize_mode: str | None, channels: int) -> str:
    """What the channels of an input mean: rgb, yuv422, y, y_bin or y_tri."""
    for ending in ("yuv422", "y_bin", "y_tri", "y"):
        if resize_mode is not None and resize_mode.endswith(f"_{ending}"):
            return ending
    return _BY_CHANNELS.get(channels, "rgb")


def from_rgb(rgb: Tensor, colour: str) -> Tensor:
    """RGB [B,3,h,w] float 0..1 -> the network input of ``colour`` [B,C,h,w] float 0..1, as the device makes it."""
    if colour == "rgb":
        return rgb
    byte = (rgb.float() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    if colour == "yuv422":
        return (yuv422_u8(byte).float() / 255).permute(0, 3, 1, 2)
    values = torch.from_numpy(network_values(f"opencv_inter_nearest_{colour}")).to(rgb.device)
    return values[luma_u8(byte).long()][:, None]
