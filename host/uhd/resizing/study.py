"""How far the ways are apart on photos, what holds of what is published about them, and how long they take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from uhd.resizing.ways import BY_NAME, WAYS, Size, Way, to_u8

Pictures = Iterable[NDArray[np.uint8]]
#: Difference in 0..255 up to which two ways compute the same in float32, 1e-4 of the range.
ROUNDING = 0.0255
#: The same in which a byte as float32, byte / 255 * 255, is that byte.
SAME = 1e-3


@dataclass
class Difference:
    """Absolute difference of bytes over all photos, as the published script counts it. ``real``: largest one before
    rounding, in 0..255."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    max: int = 0
    real: float = 0.0

    def add(self, first: NDArray[Any], second: NDArray[Any], real: float = 0.0) -> None:
        """Take two pictures in."""
        gap = np.abs(first.astype(np.int64) - second)
        self.count += gap.size
        self.total += float(gap.sum())
        self.squares += float((gap * gap).sum())
        self.max = max(self.max, int(gap.max(initial=0)))
        self.real = max(self.real, real)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    @property
    def std(self) -> float:
        """Standard deviation of the absolute difference."""
        return float(max(self.squares / self.count - self.mean**2, 0.0) ** 0.5) if self.count else 0.0

    @property
    def kind(self) -> str:
        """``equal``: the same numbers; ``rounding``: the same sum, rounded otherwise; ``apart``: another picture."""
        if self.max == 0 and self.real <= SAME:
            return "equal"
        return "rounding" if self.max <= 1 else "apart"

    def as_dict(self) -> dict[str, Any]:
        return {"max": self.max, "mean": self.mean, "std": self.std, "real_max": self.real, "kind": self.kind}


@dataclass(frozen=True)
class Published:
    """A row of the reference's README: bytes cut (not rounded) where its script cuts them. Its photo is not public."""

    text: str
    first: str
    second: str
    max: int
    mean: float
    std: float


PUBLISHED = (
    Published("Resize of a PIL picture / of a tensor", "pillow bilinear", "torch antialias", 1, 0.4949, 0.5000),
    Published("Resize of a PIL picture / INTER_LINEAR", "pillow bilinear", "opencv linear", 104, 10.2930, 13.2792),
    Published("Resize of a tensor / INTER_LINEAR", "torch antialias", "opencv linear", 104, 10.3336, 13.2463),
)
_ROUNDS = 9
PUBLISHED_MS = {"opencv nearest": 0.0061, "opencv linear": 0.0143, "opencv area": 0.3621}


@dataclass
class Study:
    """``pairs``: by the names of two ways; ``published``: one for each of ``PUBLISHED``, None where a library lacks;
    ``times``: milliseconds by way."""

    size: Size
    ways: tuple[Way, ...]
    missing: tuple[Way, ...]
    photos: int = 0
    pairs: dict[tuple[str, str], Difference] = field(default_factory=dict)
    published: list[Difference | None] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
    timed_on: tuple[int, int] = (0, 0)

    def between(self, first: str, second: str) -> Difference | None:
        """The difference of two ways in either order; None where one is not installed."""
        return self.pairs.get((first, second)) or self.pairs.get((second, first))


def study(pictures: Pictures, size: Size) -> Study:
    """Compare every installed way with every other, pooled over the pictures (RGB uint8)."""
    here = tuple(way for way in WAYS if way.installed)
    found = Study(size, here, tuple(way for way in WAYS if not way.installed))
    found.pairs = {(a.name, b.name): Difference() for i, a in enumerate(here) for b in here[i + 1 :]}
    names = {way.name for way in here}
    found.published = [Difference() if {p.first, p.second} <= names else None for p in PUBLISHED]
    for rgb in pictures:
        found.photos += 1
        real = {way.name: way.real(rgb, size) for way in here}
        byte = {name: to_u8(value) for name, value in real.items()}
        for (first, second), difference in found.pairs.items():
            difference.add(byte[first], byte[second], float(np.abs(real[first] - real[second]).max()))
        for row, gap in zip(PUBLISHED, found.published, strict=True):
            if gap is not None:
                gap.add(real[row.first].astype(np.uint8), real[row.second].astype(np.uint8))
    return found


@dataclass(frozen=True)
class Claim:
    """A statement about the ways. ``holds``: None where a library is missing."""

    text: str
    holds: bool | None
    why: str


def claims(found: Study) -> list[Claim]:
    """What is published, and what follows from it, held against the figures."""

    def about(text: str, pair: tuple[str, str], test: Callable[[Difference], bool]) -> Claim:
        gap = found.between(*pair)
        if gap is None:
            return Claim(text, None, "not installed")
        return Claim(text, test(gap), f"max {gap.max}, mean {gap.mean:.4f}; before rounding {gap.real:.4g}")

    rows = [
        about("torchvision's Resize and Pillow's BILINEAR are the same but for rounding",
              ("pillow bilinear", "torch antialias"), lambda d: d.max <= 1),
        about("torchvision's Resize and OpenCV's INTER_LINEAR make different pictures",
              ("torch antialias", "opencv linear"), lambda d: d.max > 1),
        about("without antialias torch and OpenCV interpolate alike",
              ("torch bilinear", "opencv linear float"), lambda d: d.real <= ROUNDING),
        about("an ONNX Resize (linear, half_pixel) is torch's bilinear without antialias",
              ("onnx linear", "torch bilinear"), lambda d: d.real <= ROUNDING),
        about("torch and OpenCV pick the same nearest pixels", ("torch nearest", "opencv nearest"),
              lambda d: d.kind == "equal"),
        about("an ONNX Resize (nearest) picks the pixels that OpenCV picks", ("onnx nearest", "opencv nearest"),
              lambda d: d.kind == "equal"),
        about("Pillow picks the nearest pixels that OpenCV picks", ("pillow nearest", "opencv nearest"),
              lambda d: d.kind == "equal"),
        about("Pillow's NEAREST is torch's nearest-exact", ("pillow nearest", "torch nearest-exact"),
              lambda d: d.kind == "equal"),
    ]  # fmt: skip
    if found.times:
        nearest, linear, area = (found.times[name] for name in PUBLISHED_MS)
        text = f"{nearest:.4f}, {linear:.4f}, {area:.4f} ms"
        rows.append(Claim("OpenCV: NEAREST is faster than LINEAR, LINEAR than AREA", nearest < linear < area, text))
    return rows


def measure_times(ways: Sequence[Way], rgb: NDArray[np.uint8], size: Size, budget_s: float = 1.0) -> dict[str, float]:
    """Milliseconds of a call of each way by name: the fastest of rounds in which all take turns, one thread.

    What a library needs to take a picture of bytes (planes, float32) is part of the call.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with _one_torch_thread(ways):
            once = {way.name: min(_seconds(way, rgb, size, 1) for _ in range(3)) for way in ways}
            loops = {
                name: max(1, min(200, int(budget_s / len(ways) / _ROUNDS / max(s, 1e-6)))) for name, s in once.items()
            }
            rounds = [{way.name: _seconds(way, rgb, size, loops[way.name]) for way in ways} for _ in range(_ROUNDS)]
    finally:
        cv2.setNumThreads(before)
    return {way.name: 1000 * min(turn[way.name] for turn in rounds) for way in ways}


def _seconds(way: Way, rgb: NDArray[np.uint8], size: Size, loops: int) -> float:
    started = time.perf_counter()
    for _ in range(loops):
        way.call(rgb, size)
    return (time.perf_counter() - started) / loops


class _one_torch_thread:  # noqa: N801 - reads as the statement that it is
    """torch on one thread, where torch is among the ways."""

    def __init__(self, ways: Sequence[Way]) -> None:
        self._wanted = any(way.package == "torch" for way in ways)

    def __enter__(self) -> None:
        if self._wanted:
            import torch

            self._before = torch.get_num_threads()
            torch.set_num_threads(1)

    def __exit__(self, *error: object) -> None:
        if self._wanted:
            import torch

            torch.set_num_threads(self._before)


def ratios(times: Mapping[str, float]) -> dict[str, float]:
    """Times as multiples of OpenCV's nearest."""
    return {name: value / times["opencv nearest"] for name, value in times.items()}


assert set(PUBLISHED_MS) <= set(BY_NAME)
