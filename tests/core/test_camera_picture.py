"""Whole camera pictures in C++: every format, size and stride equals the host's functions to the bit (T13)."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.camera import slow_rgb565_to_network
from support.fakemodel import FakeModel
from support.twinlib import SANITIZE, library
from uhd.image.rgb565 import rgb565_to_network
from uhd.image.yuyv import camera_to_network

#: Width, height: what cameras have, and what makes the arithmetic uneven. Widths are even in all formats.
SIZES = [(240, 240), (320, 240), (640, 480), (160, 121), (62, 63), (2, 1), (186, 149), (386, 61), (128, 3), (1602, 7)]
FORMATS = {"yuyv": 0, "rgb565 le": 1, "rgb565 be": 2}
PICTURES = 200 if SANITIZE else 1000


@dataclass(frozen=True)
class OtherTable(FakeModel):
    """An int8 model whose input is not simply half of the network's byte."""

    last: int = 126

    def input_table(self) -> NDArray[Any]:
        table = super().input_table()
        table[255] = self.last
        return table


MODELS = {"int8": FakeModel(), "int16": FakeModel(bits=16), "other": OtherTable(), "reversed": OtherTable(last=-128)}


@dataclass(frozen=True)
class Frame:
    data: NDArray[np.uint8]
    width: int
    height: int
    stride: int

    def expected(self, name: str, out: tuple[int, int]) -> NDArray[np.uint8]:
        if name == "yuyv":
            return camera_to_network(self.data, self.width, self.height, self.stride, out)
        big = name.endswith("be")
        return rgb565_to_network(self.data, self.width, self.height, self.stride, out, big_endian=big)


def random_frame(generator: np.random.Generator, size: tuple[int, int], extra: int) -> Frame:
    """Noise of every byte value; not one byte more than the picture needs."""
    width, height = size
    stride = 2 * width + extra
    data = np.frombuffer(generator.bytes(stride * (height - 1) + 2 * width), np.uint8)
    return Frame(data, width, height, stride)


def cpp(
    frame: Frame, name: str, out: tuple[int, int], *, model: FakeModel = MODELS["int8"], integers: int | None = 0,
    copy: int | None = 0,
) -> tuple[NDArray[Any] | None, NDArray[np.uint8] | None]:  # fmt: skip
    """(integers, copy); each starts that many bytes after a 16-byte boundary, or is not asked for if None."""

    def place(offset: int | None, dtype: Any) -> tuple[NDArray[np.uint8], NDArray[Any] | None]:
        raw = np.full(out[0] * out[1] * 2 * np.dtype(dtype).itemsize + 64, 77, np.uint8)
        if offset is None:
            return raw, None
        start = 16 + (-raw.ctypes.data) % 16 + offset
        return raw, raw[start : start + raw.size - 64].view(dtype)

    (raw_a, a), (raw_b, b) = place(integers, model.dtype), place(copy, np.uint8)
    pointers = [ctypes.c_void_p(v.ctypes.data if v is not None else None) for v in (a, b)]
    status = library(model).c.uhd_twin_camera_picture(
        ctypes.c_void_p(frame.data.ctypes.data), ctypes.c_uint32(frame.data.size), ctypes.c_uint32(frame.width),
        ctypes.c_uint32(frame.height), ctypes.c_uint32(frame.stride), ctypes.c_uint8(FORMATS[name]),
        ctypes.c_uint16(out[1]), ctypes.c_uint16(out[0]), *pointers,
    )  # fmt: skip
    assert status == 0
    for raw, view in ((raw_a, a), (raw_b, b)):
        outside = raw.tobytes()
        if view is not None:
            start = view.ctypes.data - raw.ctypes.data
            outside = outside[:start] + outside[start + view.nbytes :]
        assert set(outside) == {77}, "written outside"
    shape = (*out, 2)
    return None if a is None else a.reshape(shape), None if b is None else b.reshape(shape)


def test_a_thousand_random_pictures() -> None:
    """T13: sizes x formats x strides, with the model's integers and the copy."""
    generator = np.random.default_rng(13)
    seen = set()
    for i in range(PICTURES):
        size, name = SIZES[i % len(SIZES)], list(FORMATS)[i // len(SIZES) % 3]
        extra = (0, 1, 7, 64)[i // (3 * len(SIZES)) % 4]
        frame = random_frame(generator, size, extra)
        model = MODELS["int8" if i % 4 else "int16"]
        expected = frame.expected(name, (64, 64))
        integers, copy = cpp(frame, name, (64, 64), model=model)
        np.testing.assert_array_equal(copy, expected)
        np.testing.assert_array_equal(integers, model.input_table()[expected])
        seen.add((size, name, extra % 2))
    assert len(seen) == 2 * 3 * len(SIZES)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", [(240, 240), (160, 121)])
def test_every_way_out_is_the_same(name: str, model: str, size: tuple[int, int]) -> None:
    """Both results, one of them, or none; aligned for word access or not."""
    frame = random_frame(np.random.default_rng(1), size, 3)
    expected = frame.expected(name, (64, 64))
    integers = MODELS[model].input_table()[expected]
    for places in ((0, 0), (0, None), (None, 0), (2, 0), (0, 1), (2, None), (None, 3), (None, None)):
        made = cpp(frame, name, (64, 64), model=MODELS[model], integers=places[0], copy=places[1])
        for result, wanted in zip(made, (integers, expected), strict=True):
            assert result is None or np.array_equal(result, wanted), places


@pytest.mark.parametrize("out", [(1, 2), (5, 6), (8, 8), (17, 24), (96, 96), (48, 160), (240, 240), (300, 480)])
@pytest.mark.parametrize("name", FORMATS)
def test_other_network_sizes(name: str, out: tuple[int, int]) -> None:
    """Also larger than the picture; 8, 24 and 480 columns are what the fast path divides by."""
    for size in ((240, 240), (320, 10), (30, 4), (96, 97)):
        frame = random_frame(np.random.default_rng(2), size, 1)
        np.testing.assert_array_equal(cpp(frame, name, out)[1], frame.expected(name, out))


def test_odd_network_width_of_yuyv() -> None:
    frame = random_frame(np.random.default_rng(3), (96, 40), 0)
    for out in ((7, 9), (64, 1), (3, 63)):
        np.testing.assert_array_equal(cpp(frame, "yuyv", out)[1], camera_to_network(frame.data, 96, 40, None, out))


@pytest.mark.parametrize("name", ["rgb565 le", "rgb565 be"])
def test_every_rgb565_value_against_the_wording(name: str) -> None:
    """All 65536 pixel values, each with a random neighbour, one pixel at a time."""
    words = np.arange(65536, dtype=np.uint16)
    pairs = np.stack([words, np.random.default_rng(4).permutation(words)], axis=1)
    data = pairs.astype("<u2").reshape(256, 512).view(np.uint8)
    made = cpp(Frame(data.reshape(-1), 512, 256, 1024), name, (256, 512))[1]
    assert made is not None
    expected = slow_rgb565_to_network(data.tobytes(), 512, 256, 1024, (256, 512), name.endswith("be"))
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("width", "height", "stride", "size"),
    [(63, 64, 126, 9000), (0, 64, 128, 9000), (64, 0, 128, 9000), (64, 64, 127, 9000), (64, 64, 128, 8191)],
)
def test_pictures_that_do_not_fit_are_refused(name: str, width: int, height: int, stride: int, size: int) -> None:
    out = np.zeros(8192, np.uint8)
    status = library().c.uhd_twin_camera_picture(
        bytes(size), ctypes.c_uint32(size), ctypes.c_uint32(width), ctypes.c_uint32(height), ctypes.c_uint32(stride),
        ctypes.c_uint8(FORMATS[name]), ctypes.c_uint16(64), ctypes.c_uint16(64), None,
        ctypes.c_void_p(out.ctypes.data),
    )  # fmt: skip
    assert status == -1
    assert not out.any()
