"""The overlay's renderer as a program with sanitizers, and a slow renderer of its picture and outlines."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from support.idf_project import COMPONENTS, compile_host
from support.shared import ROOT

YUYV, RGB565_LE, RGB565_BE = 0, 1, 2
ONE = 65535


@dataclass(frozen=True)
class Box:
    """Parts of the picture; score 0..1."""

    cx: float
    cy: float
    w: float
    h: float
    score: float = 0.5
    cls: int = 0

    def pack(self) -> bytes:
        units = (round(v * ONE) for v in (self.w, self.h, self.cx, self.cy, self.score))
        return struct.pack("<6I", *units, self.cls)


@dataclass(frozen=True)
class Job:
    """A camera picture, uint8 [height, stride], and what to show on it."""

    frame: NDArray[np.uint8]
    width: int
    pixels: int = YUYV
    boxes: Sequence[Box] = ()
    fps_x10: int = 0
    threshold: float = 0.0
    out: tuple[int, int] = (240, 240)  # width, height
    strip: int = 20
    #: Bytes that are there, where they are fewer than all.
    size: int | None = field(default=None)

    def pack(self) -> bytes:
        height, stride = self.frame.shape
        data = self.frame.tobytes()[: self.size]
        numbers = (self.width, height, stride, self.pixels, len(data), len(self.boxes), self.fps_x10)
        rest = (round(self.threshold * ONE), *self.out, self.strip)
        return struct.pack("<11I", *numbers, *rest) + data + b"".join(b.pack() for b in self.boxes)


def build(folder: Path) -> Path:
    """The program."""
    core = COMPONENTS / "uhd_core" / "src"
    files = [core / "overlay.cpp", core / "preprocess.cpp", ROOT / "tests" / "support" / "overlay_program.cpp"]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    return compile_host(folder / "overlay", files, sanitizers)


def render(program: Path, *jobs: Job) -> list[NDArray[np.uint8]]:
    """One RGB picture a job, 5 or 6 bits a colour in the upper bits."""
    asked = b"".join(job.pack() for job in jobs)
    done = subprocess.run([str(program)], input=asked, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[:4000]
    words = np.frombuffer(done.stdout, ">u2")
    assert len(words) == sum(job.out[0] * job.out[1] for job in jobs)
    pictures = []
    for job in jobs:
        width, height = job.out
        mine, words = words[: width * height].reshape(height, width), words[width * height :]
        rgb = np.stack([mine >> 11 << 3, (mine >> 5 & 63) << 2, (mine & 31) << 3], -1)
        pictures.append(rgb.astype(np.uint8))
    return pictures


def slow_picture(job: Job) -> NDArray[np.uint8]:
    """The camera's picture alone, one pixel at a time, colours by the formula of BT.601 in real numbers."""
    width, height = job.out
    result = np.zeros((height, width, 3), np.uint8)
    for y in range(height):
        row = job.frame[y * job.frame.shape[0] // height]
        for x in range(width):
            i = x * job.width // width
            if job.pixels == YUYV:
                luma = 255 / 219 * (float(row[2 * i]) - 16)
                u, v = (255 / 224 * (float(row[4 * (i // 2) + k]) - 128) for k in (1, 3))
                rgb = (luma + 1.402 * v, luma - 0.344136 * u - 0.714136 * v, luma + 1.772 * u)
            else:
                pair = row[2 * i : 2 * i + 2].tolist()
                high, low = pair if job.pixels == RGB565_BE else pair[::-1]
                word = high << 8 | low
                rgb = (word >> 11 << 3, (word >> 5 & 63) << 2, (word & 31) << 3)
            result[y, x] = [min(max(round(value), 0), 255) for value in rgb]
    return result
