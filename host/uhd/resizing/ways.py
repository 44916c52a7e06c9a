"""The ways to make an RGB picture smaller that users may meet: four libraries, and ours."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from uhd.image.resize import resize_image

Size = tuple[int, int]
"""(height, width)."""
Call = Callable[[NDArray[np.uint8], Size], NDArray[Any]]
Library = Literal["opencv", "torch", "pillow", "onnx", "uhd"]


@dataclass(frozen=True)
class Way:
    """``call``: RGB uint8 [H,W,3] to [h,w,3], uint8, or float32 in 0..1. ``package``: the module that it imports."""

    name: str
    library: Library
    text: str
    call: Call
    package: str = "cv2"

    @property
    def installed(self) -> bool:
        """Whether it can run here."""
        return importlib.util.find_spec(self.package) is not None

    def real(self, rgb: NDArray[np.uint8], size: Size) -> NDArray[np.float64]:
        """The result in 0..255, not rounded, [h,w,3]."""
        result = self.call(rgb, size)
        return result.astype(np.float64) * (1.0 if result.dtype == np.uint8 else 255.0)


def to_u8(real: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Values in 0..255 rounded to bytes."""
    return np.asarray(np.clip(np.rint(real), 0, 255), np.uint8)


def _opencv(rgb: NDArray[np.uint8], size: Size, *, method: int) -> NDArray[Any]:
    return cv2.resize(rgb, size[::-1], interpolation=method)


def _opencv_float(rgb: NDArray[np.uint8], size: Size) -> NDArray[Any]:
    real = rgb.astype(np.float32) / np.float32(255)
    return cv2.resize(real, size[::-1], interpolation=cv2.INTER_LINEAR)


def _torch(rgb: NDArray[np.uint8], size: Size, *, mode: str, antialias: bool = False) -> NDArray[Any]:
    import torch

    planes = torch.tensor(rgb).permute(2, 0, 1)[None].float() / 255
    corners = False if mode == "bilinear" else None
    small = torch.nn.functional.interpolate(planes, size, mode=mode, align_corners=corners, antialias=antialias)
    return small[0].permute(1, 2, 0).numpy()


def _pillow(rgb: NDArray[np.uint8], size: Size, *, method: str) -> NDArray[Any]:
    from PIL import Image

    return np.asarray(Image.fromarray(rgb).resize(size[::-1], Image.Resampling[method]))


@cache
def _session(size: Size, attributes: tuple[tuple[str, Any], ...]) -> Any:
    """An ONNX Runtime session that holds one Resize to ``size``."""
    from onnx import TensorProto, helper, numpy_helper

    from uhd.export.verify import open_session

    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **dict(attributes))],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, *size])],
        [numpy_helper.from_array(np.array([1, 3, *size], np.int64), "sizes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return open_session(model.SerializeToString())


def _onnx(rgb: NDArray[np.uint8], size: Size, **attributes: Any) -> NDArray[Any]:
    planes = np.ascontiguousarray(rgb.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
    small = _session(size, tuple(sorted(attributes.items()))).run(None, {"x": planes})[0]
    return np.asarray(small[0].transpose(1, 2, 0))


def _ours(rgb: NDArray[np.uint8], size: Size, *, mode: str) -> NDArray[Any]:
    return resize_image(rgb, size, mode)


_HALF: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}

WAYS: tuple[Way, ...] = (
    Way("opencv nearest", "opencv", "INTER_NEAREST", partial(_opencv, method=cv2.INTER_NEAREST)),
    Way("opencv linear", "opencv", "INTER_LINEAR on bytes", partial(_opencv, method=cv2.INTER_LINEAR)),
    Way("opencv linear float", "opencv", "INTER_LINEAR on float32", _opencv_float),
    Way("opencv area", "opencv", "INTER_AREA", partial(_opencv, method=cv2.INTER_AREA)),
    Way("torch nearest", "torch", "interpolate nearest", partial(_torch, mode="nearest"), "torch"),
    Way("torch nearest-exact", "torch", "interpolate nearest-exact", partial(_torch, mode="nearest-exact"), "torch"),
    Way("torch bilinear", "torch", "interpolate bilinear", partial(_torch, mode="bilinear"), "torch"),
    Way("torch antialias", "torch", "bilinear, antialias on: torchvision's Resize",
        partial(_torch, mode="bilinear", antialias=True), "torch"),
    Way("torch area", "torch", "interpolate area", partial(_torch, mode="area"), "torch"),
    Way("pillow nearest", "pillow", "NEAREST", partial(_pillow, method="NEAREST"), "PIL"),
    Way("pillow bilinear", "pillow", "BILINEAR", partial(_pillow, method="BILINEAR"), "PIL"),
    Way("pillow box", "pillow", "BOX", partial(_pillow, method="BOX"), "PIL"),
    Way("onnx nearest", "onnx", "Resize nearest, asymmetric, floor",
        partial(_onnx, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        "onnxruntime"),
    Way("onnx linear", "onnx", "Resize linear, half_pixel", partial(_onnx, **_HALF), "onnxruntime"),
    Way("onnx antialias", "onnx", "Resize linear, half_pixel, antialias", partial(_onnx, antialias=1, **_HALF),
        "onnxruntime"),
    Way("uhd torch_nearest", "uhd", "the resize mode", partial(_ours, mode="torch_nearest")),
    Way("uhd torch_bilinear", "uhd", "the resize mode", partial(_ours, mode="torch_bilinear")),
    Way("uhd opencv_inter_nearest", "uhd", "the resize mode", partial(_ours, mode="opencv_inter_nearest")),
    Way("uhd opencv_inter_linear", "uhd", "the resize mode", partial(_ours, mode="opencv_inter_linear")),
)  # fmt: skip


BY_NAME = {way.name: way for way in WAYS}
