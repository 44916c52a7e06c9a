"""Every entry of the table of deploy paths, against the library that it names."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from uhd import zoo
from uhd.errors import ConfigError
from uhd.export.dynamic import insert_resize
from uhd.export.verify import run_onnx
from uhd.host.quantize import float_model
from uhd.image.deploy import PLACES, check_deploy, check_mode, deploy_path, deploy_paths
from uhd.image.resize import RESIZE_MODES, input_channels, resize_image
from uhd.image.yuyv import camera_to_network, rgb_to_yuyv

SIZE = (64, 64)
#: Height and width: plain ones, one where OpenCV and one where ONNX Runtime picks a neighbour, one enlarged.
SOURCES = [(480, 640), (186, 240), (131, 98), (40, 52)]
COLOUR = {"_y": 1, "_y_bin": 1, "_y_tri": 1, "_yuv422": 2}


def picture(source: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(source[0]).integers(0, 256, (*source, 3), np.uint8)


def coloured(rgb: NDArray[np.uint8], mode: str) -> NDArray[np.float32]:
    """A small picture in the colour of the mode, as the table says it for OpenCV."""
    if input_channels(mode) == 2:
        return cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_YUYV).astype(np.float32) / 255
    if input_channels(mode) == 3:
        return rgb.astype(np.float32) / 255
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV)[..., :1]
    if mode.endswith("_bin"):
        return (luma >= 128).astype(np.float32)
    if mode.endswith("_tri"):
        return (0.5 * (luma >= 85) + 0.5 * (luma >= 170)).astype(np.float32)
    return luma.astype(np.float32) / 255


def by_opencv(rgb: NDArray[np.uint8], mode: str) -> NDArray[np.float32]:
    if "linear" in mode:
        return cv2.resize(rgb.astype(np.float32) / 255, SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    return coloured(cv2.resize(rgb, SIZE[::-1], interpolation=cv2.INTER_NEAREST), mode)


def by_torch(rgb: NDArray[np.uint8], mode: str) -> NDArray[np.float32]:
    planes = torch.from_numpy(rgb.transpose(2, 0, 1).copy())[None].float() / 255
    how = {"mode": "bilinear", "align_corners": False} if "linear" in mode else {"mode": "nearest"}
    return torch.nn.functional.interpolate(planes, SIZE, **how)[0].numpy().transpose(1, 2, 0)


def by_pillow(rgb: NDArray[np.uint8], mode: str) -> NDArray[np.float32]:
    method = Image.Resampling.BILINEAR if "linear" in mode else Image.Resampling.NEAREST
    return coloured(np.asarray(Image.fromarray(rgb).resize(SIZE[::-1], method)), mode)


def by_graph(rgb: NDArray[np.uint8], mode: str) -> NDArray[np.float32]:
    """The exporter's Resize; the caller converts colour before."""
    shape = [1, input_channels(mode), *SIZE]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"], "last")], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    insert_resize(model, mode)
    planes = coloured(rgb, mode).transpose(2, 0, 1)[None].astype(np.float32)
    return run_onnx(model, planes.copy())[0][0].transpose(1, 2, 0)


def by_camera(rgb: NDArray[np.uint8], mode: str) -> NDArray[np.float32]:
    picked = camera_to_network(rgb_to_yuyv(rgb), rgb.shape[1], rgb.shape[0], out=SIZE)
    return picked.astype(np.float32) / 255


BY = {"camera": by_camera, "opencv": by_opencv, "torch": by_torch, "pillow": by_pillow, "graph": by_graph}


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_the_fit_is_true(mode: str, where: str) -> None:
    fit, gaps = deploy_path(mode, where).fit, []
    for source in SOURCES:
        rgb = picture(source)
        want, found = resize_image(rgb, SIZE, mode), BY[where](rgb, mode)
        gaps.append(float(np.abs(found - want).max()) if found.shape == want.shape else np.inf)
        if fit == "neighbours" and where != "camera":
            assert_picked_nearby(rgb, mode, found)
    if fit == "exact":
        assert max(gaps) == 0
    elif fit == "rounding":
        assert max(gaps) <= 1e-4
    else:
        assert max(gaps) > 0.1, "noise that is picked elsewhere differs, else the entry is too strict"


def assert_picked_nearby(rgb: NDArray[np.uint8], mode: str, found: NDArray[np.float32]) -> None:
    """Each pixel is that of the exact place, or of the one before it in either direction."""
    rows, columns = (np.arange(target) * source // target for source, target in zip(rgb.shape, SIZE, strict=False))
    full = coloured(rgb, mode)
    near = [full[np.maximum(rows - up, 0)][:, np.maximum(columns - left, 0)] for up in (0, 1) for left in (0, 1)]
    assert np.any([np.abs(found - one).max(axis=-1) < 1e-6 for one in near], axis=0).all()


def test_the_camera_gives_every_y_of_the_photo_and_all_of_a_small_frame() -> None:
    rgb = picture((480, 640))
    want = resize_image(rgb, SIZE, "opencv_inter_nearest_yuv422")
    assert np.array_equal(by_camera(rgb, "")[..., 0], want[..., 0])
    small = picture(SIZE)
    assert np.array_equal(by_camera(small, ""), resize_image(small, SIZE, "opencv_inter_nearest_yuv422"))


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_every_mode_has_an_exact_way_or_one_within_rounding(mode: str) -> None:
    paths = deploy_paths(mode)
    assert [path.where for path in paths] == list(PLACES)
    assert any(path.fit in ("exact", "rounding") for path in paths)
    assert deploy_paths(mode.upper().replace("_", "-")) == paths


def test_refusals() -> None:
    with pytest.raises(
        ConfigError, match="r.onnx: trained with opencv_inter_nearest_yuv422; a Resize of packed planes"
    ):
        check_deploy("opencv_inter_nearest_yuv422", "graph", "r.onnx")
    with pytest.raises(ConfigError, match="resize outside: opencv .INTER_NEAREST, then COLOR_RGB2YUV_YUYV"):
        check_deploy("opencv_inter_nearest_yuv422", "graph", "r.onnx")
    with pytest.raises(ConfigError, match="Pillow's BILINEAR averages"):
        check_deploy("torch_bilinear", "pillow", "a")
    assert check_deploy("torch_bilinear", "graph", "a").call == "Resize linear, half_pixel"
    with pytest.raises(ConfigError, match="a.pt: trained with resize mode torch_nearest, not torch_bilinear"):
        check_mode("torch_nearest", "torch-bilinear", "a.pt")
    assert check_mode("Torch-Nearest", None, "a") == check_mode("torch_nearest", "TORCH_NEAREST", "a")
    with pytest.raises(ConfigError, match="unknown resize mode"):
        check_mode("torch_nearest", "area", "a")


def test_quantizing_refuses_another_mode_than_the_checkpoint_was_trained_with(tmp_path: Path) -> None:
    path = zoo.checkpoint_path("R")
    with pytest.raises(ConfigError, match=f"{path}: trained with resize mode opencv_inter_nearest_yuv422, not torch_"):
        float_model(path, tmp_path, "torch-nearest", None)
