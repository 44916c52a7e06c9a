"""The camera of the linux target: pictures, rate, buffers, faults; and the views that all drivers use."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.camera_lib import VARIABLES, CameraLibrary, Frame, build

Maker = Callable[..., CameraLibrary]
OK, NOT_FOUND, INVALID_ARGUMENT, INVALID_STATE, INVALID_SIZE = 0, 0x105, 0x102, 0x103, 0x104
WIDTH, HEIGHT, COUNT = 16, 8, 3


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    return {square: build(tmp_path_factory.mktemp("camera"), square=square) for square in (False, True)}


@pytest.fixture(scope="module")
def views(libraries: dict[bool, Path]) -> CameraLibrary:
    return CameraLibrary(libraries[False])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures, each byte its own."""
    path = tmp_path / "pictures.raw"
    path.write_bytes(np.random.default_rng(1).integers(0, 256, COUNT * 2 * WIDTH * HEIGHT, dtype=np.uint8).tobytes())
    return path


@pytest.fixture
def make(libraries: dict[bool, Path], pictures: Path) -> Iterator[Maker]:
    def camera(
        format: str | None = f"yuyv:{WIDTH}x{HEIGHT}@500", *, square: bool = False, **more: str
    ) -> CameraLibrary:
        environment = {"UHD_CAMERA_FILE": str(pictures), **({"UHD_CAMERA_FORMAT": format} if format else {}), **more}
        return CameraLibrary(libraries[square], environment)

    yield camera
    for name in VARIABLES:
        os.environ.pop(name, None)


def expected(pictures: Path, number: int) -> bytes:
    size = 2 * WIDTH * HEIGHT
    return pictures.read_bytes()[number % COUNT * size :][:size]


def test_pictures_in_order_and_around(make: Maker, pictures: Path) -> None:
    camera = make()
    assert camera.c.camera_start() == OK
    for number in range(2 * COUNT + 1):
        assert camera.one().tobytes() == expected(pictures, number)


@pytest.mark.parametrize(("name", "number"), [("yuyv", 0), ("rgb565le", 1), ("rgb565be", 2)])
def test_formats(make: Maker, name: str, number: int) -> None:
    camera = make(f"{name}:{WIDTH}x{HEIGHT}@500")
    assert camera.c.camera_start() == OK
    frame = camera.next()
    assert frame is not None
    assert (frame.width, frame.height, frame.stride, frame.format) == (WIDTH, HEIGHT, 2 * WIDTH, number)


def test_square_in_the_middle(make: Maker, pictures: Path) -> None:
    camera = make(square=True)
    assert camera.c.camera_start() == OK
    whole = np.frombuffer(expected(pictures, 0), np.uint8).reshape(HEIGHT, 2 * WIDTH)
    left = 2 * (WIDTH - HEIGHT) // 2
    np.testing.assert_array_equal(camera.one(), whole[:, left : left + 2 * HEIGHT])


def test_rate(make: Maker) -> None:
    """At 50 pictures a second, ten take a fifth of one; a late reader gets no burst."""
    camera = make(f"yuyv:{WIDTH}x{HEIGHT}@50")
    begin = time.monotonic()
    assert camera.c.camera_start() == OK
    for _ in range(10):
        camera.one()
    assert time.monotonic() - begin >= 0.19
    time.sleep(0.2)
    camera.one()
    begin = time.monotonic()
    camera.one()
    camera.one()
    assert time.monotonic() - begin >= 0.03


def test_waiting_ends_on_time(make: Maker) -> None:
    camera = make(f"yuyv:{WIDTH}x{HEIGHT}@1")
    assert camera.c.camera_start() == OK
    for milliseconds in (0, 30):
        begin = time.monotonic()
        assert camera.next(milliseconds) is None
        assert milliseconds / 1000 <= time.monotonic() - begin < 0.5


def test_taken_pictures_stay_and_buffers_come_back(make: Maker, pictures: Path) -> None:
    camera = make()
    assert camera.c.camera_start() == OK
    held: list[Frame] = []
    while (frame := camera.next(50)) is not None:
        held.append(frame)
        assert len(held) < 10, "buffers without end"
    assert len(held) == 4
    for number, frame in enumerate(held):
        assert frame.bytes().tobytes() == expected(pictures, number), "overwritten while it was taken"
    camera.release(held[2])
    assert camera.one().tobytes() == expected(pictures, 4)
    again = camera.next()
    assert again is not None and again.handle == held[2].handle


def test_start_and_stop(make: Maker, pictures: Path) -> None:
    camera = make()
    assert camera.next(0) is None, "not started"
    camera.c.camera_stop()
    for _ in range(3):
        assert camera.c.camera_start() == OK
        assert camera.c.camera_start() == INVALID_STATE
        assert camera.one().tobytes() == expected(pictures, 0)
        assert camera.next() is not None  # still taken when it stops
        camera.c.camera_stop()
        assert camera.next(0) is None


def test_a_camera_that_stops_and_can_be_started_again(make: Maker) -> None:
    camera = make(UHD_CAMERA_FAULT="stops:2")
    for _ in range(3):
        assert camera.c.camera_start() == OK
        camera.one()
        camera.one()
        assert camera.next(50) is None
        camera.c.camera_stop()


def test_no_camera(libraries: dict[bool, Path], make: Maker) -> None:
    assert not CameraLibrary(libraries[False]).c.camera_exists()
    assert make().c.camera_exists()
    missing = make(UHD_CAMERA_FAULT="missing")
    assert missing.c.camera_exists()
    assert [missing.c.camera_start() for _ in range(2)] == [NOT_FOUND, NOT_FOUND]


@pytest.mark.parametrize(
    "text",
    [None, "", "yuyv", "yuyv:16x8", "yuyv:15x8@5", "yuyv:16x0@5", "yuyv:16x8@0", "yuyv:16x8@5s", "rgb24:16x8@5",
     "yuyv:5000x8@5", "yuyv:16x8@1001", "YUYV:16x8@5"],
)  # fmt: skip
def test_wrong_formats_are_named(make: Maker, capfd: pytest.CaptureFixture[str], text: str | None) -> None:
    camera = make(text)
    assert camera.c.camera_start() == INVALID_ARGUMENT
    said = capfd.readouterr().out
    assert said == f'E camera: UHD_CAMERA_FORMAT is "{text or ""}"; expected, for example, "yuyv:320x240@15"\n'
    assert camera.next(0) is None


def test_wrong_files_are_named(make: Maker, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    absent = make(UHD_CAMERA_FILE=str(tmp_path / "gone.raw"))
    assert absent.c.camera_start() == NOT_FOUND
    assert capfd.readouterr().out == f"E camera: UHD_CAMERA_FILE {tmp_path / 'gone.raw'}: No such file or directory\n"
    short = tmp_path / "short.raw"
    short.write_bytes(bytes(2 * WIDTH * HEIGHT - 1))
    camera = make(UHD_CAMERA_FILE=str(short))
    assert camera.c.camera_start() == INVALID_SIZE
    assert "holds no picture of 256 bytes" in capfd.readouterr().out
    assert camera.next(0) is None


sizes = st.tuples(st.integers(1, 40).map(lambda n: 2 * n), st.integers(1, 60), st.integers(0, 7))


@settings(max_examples=80, deadline=None)
@given(size=sizes, seed=st.integers(0, 1000))
def test_a_square_is_the_middle_of_the_picture(views: CameraLibrary, size: tuple[int, int, int], seed: int) -> None:
    width, height, padding = size
    stride = 2 * width + padding
    memory = np.random.default_rng(seed).integers(0, 256, height * stride - padding, dtype=np.uint8)
    frame = Frame.over(memory, width, height, stride)
    before = frame.bytes()
    views.c.view_square(ctypes.byref(frame))
    side = min(width, height) // 2 * 2
    if side == 0:
        assert (frame.width, frame.height) == (width, height)
        return
    assert (frame.width, frame.height, frame.stride) == (side, side, stride)
    assert views.c.view_ok(ctypes.byref(frame))
    row, column = (height - side) // 2, (width - side) // 2 // 2 * 2
    np.testing.assert_array_equal(frame.bytes(), before[row : row + side, 2 * column : 2 * (column + side)])


@settings(max_examples=80, deadline=None)
@given(size=sizes, seed=st.integers(0, 1000))
def test_uyvy_read_as_yuyv(views: CameraLibrary, size: tuple[int, int, int], seed: int) -> None:
    """Every pixel keeps its Y; its colour is that of its own pair or of the next one."""
    width, height, padding = size
    stride = 2 * width + padding
    memory = np.random.default_rng(seed).integers(0, 256, height * stride - padding, dtype=np.uint8)
    frame = Frame.over(memory, width, height, stride)
    uyvy = frame.bytes()
    if width < 4:
        assert not views.c.view_uyvy(ctypes.byref(frame))
        assert frame.width == width and frame.data == memory.ctypes.data
        return
    assert views.c.view_uyvy(ctypes.byref(frame))
    assert (frame.width, frame.height) == (width - 2, height)
    assert views.c.view_ok(ctypes.byref(frame))
    yuyv = frame.bytes()
    for x in range(width - 2):
        source = x + 1
        np.testing.assert_array_equal(yuyv[:, 2 * x], uyvy[:, 2 * source + 1])
        pair = x // 2 + 1  # pixels 2 and 3 of the source for 1 and 2
        np.testing.assert_array_equal(yuyv[:, 4 * (x // 2) + 1], uyvy[:, 4 * pair])
        np.testing.assert_array_equal(yuyv[:, 4 * (x // 2) + 3], uyvy[:, 4 * pair + 2])
