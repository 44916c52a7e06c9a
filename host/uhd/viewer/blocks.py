"""A small picture of text: each character cell shows two pixels, one above the other."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

BOX = (47, 230, 210)
TRUTH = (255, 255, 255)
_UPPER_HALF = "▀"


def fit(height: int, width: int, columns: int, lines: int) -> tuple[int, int]:
    """Rows and columns of pixels, rows even, for a picture in so many character cells; its shape is kept."""
    scale = min(columns / width, 2 * lines / height)
    rows = max(2, int(height * scale) // 2 * 2)
    return rows, max(1, int(width * scale))


def resize(rgb: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """The nearest pixels: uint8 [rows, columns, 3]."""
    y = (np.arange(rows) + 0.5) * rgb.shape[0] / rows
    x = (np.arange(columns) + 0.5) * rgb.shape[1] / columns
    return rgb[y.astype(int)[:, None], x.astype(int)[None, :]]


def draw_box(
    pixels: NDArray[np.uint8], box: Iterable[float], colour: tuple[int, int, int], *, dashed: bool = False
) -> None:
    """Draw a box (cx, cy, w, h as parts of the picture) one pixel wide, in place; what lies outside is cut off."""
    height, width = pixels.shape[:2]
    cx, cy, w, h = box
    x0, x1 = int((cx - w / 2) * width), int((cx + w / 2) * width)
    y0, y1 = int((cy - h / 2) * height), int((cy + h / 2) * height)
    inside = np.zeros((height, width), bool)
    rows, columns = slice(max(y0, 0), max(y1 + 1, 0)), slice(max(x0, 0), max(x1 + 1, 0))
    for y in (y0, y1):
        if 0 <= y < height:
            inside[y, columns] = True
    for x in (x0, x1):
        if 0 <= x < width:
            inside[rows, x] = True
    if dashed:
        down, across = np.indices((height, width))
        inside &= (down + across) % 4 < 2
    pixels[inside] = colour


@lru_cache(maxsize=4096)
def _style(upper: tuple[int, int, int], lower: tuple[int, int, int]) -> Style:
    return Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower))


class Blocks:
    """Pixels (uint8 [rows, columns, 3], rows even) that rich can print."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        # Colours are cut to 5 bits: the eye does not miss them in so few pixels, and lines get shorter for ssh.
        self.pixels = (pixels & 0xF8) | 0x04

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = self.pixels.tolist()
        for upper, lower in zip(rows[::2], rows[1::2], strict=True):
            cells = ((tuple(above), tuple(below)) for above, below in zip(upper, lower, strict=True))
            for colours, run in groupby(cells):
                yield Segment(_UPPER_HALF * len(list(run)), _style(*colours))
            yield Segment.line()
