"""The linux target's camera and the drivers' helpers as a library."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from support.idf_project import COMPONENTS, compile_host
from support.shared import ROOT

VARIABLES = ("UHD_CAMERA_FILE", "UHD_CAMERA_FORMAT", "UHD_CAMERA_FAULT")


class Frame(ctypes.Structure):
    """A picture in the driver's memory, or in an array of ours."""

    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("width", "height", "stride", "format", "size")),
        ("data", ctypes.c_void_p),
        ("handle", ctypes.c_void_p),
    ]

    @classmethod
    def over(cls, memory: NDArray[np.uint8], width: int, height: int, stride: int, pixels: int = 0) -> Frame:
        return cls(width, height, stride, pixels, memory.size, memory.ctypes.data, None)

    def bytes(self) -> NDArray[np.uint8]:
        """[height, 2 * width], without what lies between the rows."""
        assert self.data is not None
        memory = np.frombuffer(ctypes.string_at(self.data, self.size), np.uint8)
        rows = [memory[y * self.stride : y * self.stride + 2 * self.width] for y in range(self.height)]
        return np.stack(rows)


def build(folder: Path, *, square: bool) -> Path:
    sources = [COMPONENTS / "uhd_board" / "src" / "camera_file.cpp", COMPONENTS / "uhd_core" / "src" / "preprocess.cpp"]
    flags = ["-shared", "-fPIC", f"-DCONFIG_UHD_CAMERA_SQUARE={int(square)}"]
    return compile_host(folder / "camera.so", [*sources, ROOT / "tests" / "support" / "camera_api.cpp"], flags)


class CameraLibrary:
    """A camera in its state after boot: every object loads a copy of its own."""

    _count = 0

    def __init__(self, library: Path, environment: Mapping[str, str] | None = None) -> None:
        CameraLibrary._count += 1
        copy = library.with_name(f"camera{CameraLibrary._count}.so")
        copy.write_bytes(library.read_bytes())
        for name in VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(environment or {})
        self.c = ctypes.CDLL(str(copy))
        copy.unlink()

    def next(self, milliseconds: int = 2000) -> Frame | None:
        frame = Frame()
        got: int = self.c.camera_next(ctypes.byref(frame), ctypes.c_uint32(milliseconds))
        assert got >= 0, "check_camera() refuses the picture"
        return frame if got else None

    def release(self, frame: Frame) -> None:
        self.c.camera_release(ctypes.byref(frame))

    def one(self) -> NDArray[np.uint8]:
        """The next picture's bytes; its buffer is given back."""
        frame = self.next()
        assert frame is not None
        data = frame.bytes()
        self.release(frame)
        return data
