"""The drivers of both boards' cameras against stand-ins that keep the rules of ESP-IDF's components."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest

from support.camera_lib import CameraLibrary, Frame
from support.idf_project import COMPONENTS, compile_host
from support.shared import ROOT

SHIM = ROOT / "tests" / "support" / "board_shim"
OK, NO_MEMORY, NOT_FOUND, NOT_SUPPORTED = 0, 0x101, 0x105, 0x106
YUYV, RGB565_LE, RGB565_BE = 0, 1, 2
UYVY, RGBP = (int.from_bytes(code, "little") for code in (b"UYVY", b"RGBP"))

OV2640_SETTINGS = ("init_error", "refused_format", "period_ms", "short_by", "initialised", "place", "buffers", "vflip",
                   "mirror", "get_waits", "format")  # fmt: skip
MIPI_SETTINGS = ("init_error", "no_sensor", "refused_format", "period_ms", "broken", "initialised", "open", "streaming",
                 "format", "range", "flips", "too_little_memory")  # fmt: skip


class Driver(CameraLibrary):
    """A driver with the camera that it drives."""

    def __init__(self, library: Path, names: tuple[str, ...]) -> None:
        super().__init__(library)
        self._names = names
        self.c.shim_clock_ms.restype = ctypes.c_uint32

    def set(self, **values: int) -> None:
        for name, value in values.items():
            self.c.shim_set(self._names.index(name), ctypes.c_int(value))

    def get(self, name: str) -> int:
        return int(self.c.shim_get(self._names.index(name)))

    def start(self) -> int:
        return int(self.c.camera_start())

    def clock(self) -> int:
        return int(self.c.shim_clock_ms())


def compile_driver(folder: Path, name: str, *flags: str) -> Path:
    files = [
        COMPONENTS / "uhd_board" / "src" / f"camera_{name}.cpp",
        COMPONENTS / "uhd_core" / "src" / "preprocess.cpp",
        SHIM / f"{name}.cpp",
        ROOT / "tests" / "support" / "camera_api.cpp",
    ]
    return compile_host(folder / f"{name}.so", files, ["-shared", "-fPIC", f"-I{SHIM}", *flags])


@pytest.fixture(scope="module")
def ov2640(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Driver]:
    options = ("CAMERA_240X240", "CAMERA_YUV422", "CAMERA_SQUARE", "CAMERA_VFLIP", "DISPLAY")
    flags = [f"-DCONFIG_UHD_{name}=1" for name in options]
    library = compile_driver(tmp_path_factory.mktemp("ov2640"), "ov2640", *flags)
    return lambda: Driver(library, OV2640_SETTINGS)


@pytest.fixture(scope="module")
def mipi(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Driver]:
    flags = ["-DCONFIG_UHD_CAMERA_YUV422=1", "-DCONFIG_UHD_CAMERA_SQUARE=1", "-DCONFIG_UHD_CAMERA_HMIRROR=1"]
    flags += [f"-D{name}=shim_{name}" for name in ("open", "close", "ioctl", "mmap")]
    library = compile_driver(tmp_path_factory.mktemp("mipi"), "mipi", *flags)
    return lambda: Driver(library, MIPI_SETTINGS)


@pytest.fixture(params=["ov2640", "mipi"])
def camera(request: pytest.FixtureRequest) -> Driver:
    make: Callable[[], Driver] = request.getfixturevalue(request.param)
    return make()


def first_byte(frame: Frame) -> int:
    return int(frame.bytes()[0, 0])


def test_pictures_come_and_their_buffers_go_back(camera: Driver) -> None:
    assert camera.next(100) is None, "not started"
    assert camera.start() == OK
    for number in range(1, 30):
        frame = camera.next(200)
        assert frame is not None and first_byte(frame) == number
        assert frame.width == frame.height and frame.stride > 0
        camera.release(frame)


def test_waiting_ends_on_time(camera: Driver) -> None:
    """Also for a camera that has died: the driver's own waiting is far longer."""
    camera.set(period_ms=0)
    assert camera.start() == OK
    for milliseconds in (0, 1, 20, 500):
        begin = camera.clock()
        assert camera.next(milliseconds) is None
        assert milliseconds <= camera.clock() - begin <= milliseconds + 1


def test_held_pictures_are_not_overwritten(camera: Driver) -> None:
    assert camera.start() == OK
    held = []
    while (frame := camera.next(100)) is not None:
        held.append(frame)
        assert len(held) < 8
    assert len(held) >= 3, "detector, display and the newest one"
    assert [first_byte(frame) for frame in held] == list(range(1, len(held) + 1))
    camera.release(held.pop(0))
    assert camera.next(100) is not None


def test_stop_and_start_again(camera: Driver) -> None:
    camera.c.camera_stop()
    for _ in range(3):
        assert camera.start() == OK
        assert camera.get("initialised") == 1
        assert camera.next(100) is not None
        camera.c.camera_stop()
        assert camera.get("initialised") == 0
        assert camera.next(10) is None


def test_a_start_that_fails_leaves_nothing(camera: Driver) -> None:
    camera.set(init_error=NO_MEMORY)
    assert camera.start() == NO_MEMORY
    assert camera.get("initialised") == 0
    camera.set(init_error=0)
    assert camera.start() == OK, "tried again"


def test_ov2640_order_buffers_and_direction(ov2640: Callable[[], Driver]) -> None:
    driver = ov2640()
    assert driver.start() == OK
    assert [driver.get(name) for name in ("buffers", "vflip", "mirror", "place")] == [4, 1, 0, 0]
    frame = driver.next(100)
    assert frame is not None and (frame.width, frame.stride, frame.format) == (240, 480, YUYV)
    driver = ov2640()
    driver.c.shim_set_psram(0)
    assert driver.start() == OK and driver.get("place") == 1, "internal memory"


def test_ov2640_falls_back_to_rgb565(ov2640: Callable[[], Driver], capfd: pytest.CaptureFixture[str]) -> None:
    driver = ov2640()
    driver.set(refused_format=1)  # PIXFORMAT_YUV422
    assert driver.start() == OK
    assert "using RGB565" in capfd.readouterr().out
    frame = driver.next(100)
    assert frame is not None and frame.format == RGB565_BE
    driver.c.camera_stop()
    driver.set(refused_format=0)
    assert driver.start() == OK, "the next start asks for YUV again"
    frame = driver.next(100)
    assert frame is not None and frame.format == YUYV


def test_ov2640_gives_pieces_of_pictures_back(ov2640: Callable[[], Driver]) -> None:
    driver = ov2640()
    driver.set(short_by=2)
    assert driver.start() == OK
    for _ in range(10):
        assert driver.next(100) is None
    driver.set(short_by=0)
    assert driver.next(100) is not None, "no buffer got lost"
    assert driver.get("get_waits") == 0, "the driver's call that blocks was never made in vain"


def test_mipi_is_a_square_of_yuyv_in_the_range_of_training(mipi: Callable[[], Driver]) -> None:
    driver = mipi()
    assert driver.start() == OK
    assert (driver.get("format"), driver.get("range"), driver.get("flips")) == (UYVY, 2, 1)
    frame = driver.next(100)
    assert frame is not None and (frame.width, frame.height, frame.stride, frame.format) == (72, 72, 256, YUYV)


def test_mipi_falls_back_to_rgb565(mipi: Callable[[], Driver], capfd: pytest.CaptureFixture[str]) -> None:
    driver = mipi()
    driver.set(refused_format=UYVY)
    assert driver.start() == OK and driver.get("format") == RGBP
    assert "using RGB565" in capfd.readouterr().out
    frame = driver.next(100)
    assert frame is not None and frame.format == RGB565_LE
    driver.c.camera_stop()
    driver.set(refused_format=1)
    assert driver.start() == NOT_SUPPORTED
    assert driver.get("initialised") == driver.get("open") == 0


@pytest.mark.parametrize(("fault", "error"), [("no_sensor", NOT_FOUND), ("too_little_memory", NO_MEMORY)])
def test_mipi_without_a_sensor_or_memory(mipi: Callable[[], Driver], fault: str, error: int) -> None:
    driver = mipi()
    driver.set(**{fault: 1})
    assert driver.start() == error
    assert driver.get("initialised") == driver.get("open") == 0
    driver.set(**{fault: 0})
    assert driver.start() == OK


def test_mipi_gives_broken_pictures_back(mipi: Callable[[], Driver]) -> None:
    driver = mipi()
    driver.set(broken=9)
    assert driver.start() == OK
    frame = driver.next(1000)
    assert frame is not None and first_byte(frame) == 10
