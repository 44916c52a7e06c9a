"""The published tables, and what is counted here beside every cell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from uhd.models.families import family_config
from uhd.profile.torch_cost import config_cost

Column = Literal["params", "flops"]
#: Letter, width, millions of parameters, GFLOPs.
Row = tuple[str, int, float, float]

_IOU: tuple[Row, ...] = (
    ("N", 64, 1.60, 0.20), ("T", 96, 3.56, 0.45), ("S", 128, 6.30, 0.79), ("C", 160, 9.81, 1.23),
    ("M", 192, 14.09, 1.77), ("L", 256, 24.98, 3.13),
)  # fmt: skip
_CURRENT: tuple[Row, ...] = (
    ("R", 16, 0.13, 0.01), ("Y", 24, 0.29, 0.03), ("Z", 32, 0.51, 0.05), ("A", 40, 0.78, 0.08),
    ("F", 48, 1.12, 0.12), ("P", 56, 1.52, 0.17), ("N", 64, 1.98, 0.22), ("T", 72, 2.49, 0.28),
    ("S", 80, 3.07, 0.34), ("L", 256, 30.92, 3.44),
)  # fmt: skip

#: Columns "Params" and "FLOPs" of the reference's README (commit 4731a49), by family.
TABLES: dict[str, tuple[Row, ...]] = {
    "current_rgb": _CURRENT,
    "current_yuv422": _CURRENT,
    "current_y": _CURRENT,
    "legacy_loese_relu": (
        ("N", 64, 1.98, 0.22), ("T", 96, 4.40, 0.49), ("S", 128, 7.79, 0.87), ("C", 160, 12.13, 1.35),
        ("M", 192, 17.44, 1.94), ("L", 256, 30.92, 3.44),
    ),
    "legacy_ese_iou_relu": _IOU,
    "legacy_ese_iou_swish": _IOU,
    "legacy_ese_swish": (
        ("N", 64, 1.45, 0.18), ("T", 96, 3.22, 0.41), ("S", 128, 5.69, 0.71), ("C", 160, 8.87, 1.11),
        ("M", 192, 12.74, 1.60), ("L", 256, 22.59, 2.83),
    ),
    "legacy_noese_swish": (
        ("N", 64, 1.38, 0.18), ("T", 96, 3.10, 0.41), ("S", 128, 5.43, 0.71), ("C", 160, 8.46, 1.11),
        ("M", 192, 12.15, 1.60), ("L", 256, 21.54, 2.83),
    ),
}  # fmt: skip

#: Cells that no count gives, and why they are thought wrong.
NOT_REPRODUCIBLE: dict[tuple[str, int, Column], str] = {
    ("current_rgb", 40, "flops"): "0.08 is the value of two input channels (0.0894); three make 0.0902",
    ("legacy_noese_swish", 96, "params"): "the size beside it, 12.3 MB, is that of 3.07 M float parameters",
}

#: Columns of those tables that are left out, and why.
LEFT_OUT = {
    "mAP@0.5": "depends on training and photos; `parity` measures it",
    "CPU latency": "of another machine; `bench` measures this one",
    "ONNX size": "of files with other extras; `export` says what its own have",
}


@dataclass(frozen=True)
class Cell:
    """One published number beside the one counted here, both in millions of parameters or GFLOPs. ``reason``: why it
    is not expected to agree, "" if it is."""

    family: str
    letter: str
    width: int
    column: Column
    published: float
    counted: float
    reason: str

    @property
    def agrees(self) -> bool:
        """The tables have two decimals, most cut off, some rounded."""
        cut = math.floor(self.counted * 100 + 1e-9) / 100
        return any(abs(value - self.published) < 1e-9 for value in (cut, round(self.counted, 2)))

    @property
    def off(self) -> bool:
        """Whether it contradicts what is said of it: it should agree and does not, or the other way round."""
        return self.agrees == bool(self.reason)


def compare(families: tuple[str, ...] = tuple(TABLES)) -> Iterator[Cell]:
    """All cells of the tables of ``families``. Counted as published: the whole head with its objectness, convolutions
    with their normalisation folded in, 64x64 input."""
    for family in families:
        for letter, width, params, gflops in TABLES[family]:
            cost = config_cost(family_config(family, width), f"{letter} ({family}, width {width})")
            found: tuple[tuple[Column, float, float], ...] = (
                ("params", params, cost.parameters / 1e6),
                ("flops", gflops, cost.flops / 1e9),
            )
            for column, published, counted in found:
                reason = NOT_REPRODUCIBLE.get((family, width, column), "")
                yield Cell(family, letter, width, column, published, counted, reason)
