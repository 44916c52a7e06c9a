"""Settings that are written as a text: class ids, sizes, anchors, lists of numbers."""

from __future__ import annotations

import math
import re


def parse_class_ids(text: str, name: str = "classes") -> tuple[int, ...]:
    """``"0,2"`` -> (0, 2). Raises ``ValueError`` unless they are distinct non-negative integers."""
    parts = [part.strip() for part in text.split(",")]
    plain = all(part.isdecimal() and len(part) <= 9 for part in parts)
    if not plain or len(set(map(int, parts))) != len(parts):
        raise ValueError(f"{name} {text[:60]!r} is not a comma-separated list of distinct class ids, such as 0 or 0,2")
    return tuple(int(part) for part in parts)


def parse_size(value: int | str) -> tuple[int, int]:
    """``64`` or ``"48x64"`` -> (height, width). Raises ``ValueError`` unless both are multiples of 8 in 32..1024."""
    match = re.fullmatch(r"(\d{1,5})(?:[xX](\d{1,5}))?", str(value).strip(), re.ASCII)
    if match is None:
        raise ValueError(f"{str(value)[:60]!r} is not height x width, such as 64 or 64x96")
    height, width = int(match[1]), int(match[2] or match[1])
    if not all(32 <= side <= 1024 and side % 8 == 0 for side in (height, width)):
        raise ValueError("height and width must be multiples of 8 from 32 to 1024")
    return height, width


def parse_pairs(text: str) -> tuple[tuple[float, float], ...]:
    """``"0.1,0.2 0.3,0.4"`` -> ((0.1, 0.2), (0.3, 0.4)); ``""`` -> (). Raises ``ValueError`` for anything else."""
    pairs = []
    for entry in text.replace(";", " ").split():
        try:
            w, h = (float(part) for part in entry.split(","))
        except ValueError:
            raise ValueError(f"{entry[:60]!r} is not width,height; write anchors as 0.1,0.2 0.3,0.4") from None
        if not (math.isfinite(w) and math.isfinite(h) and 0 < w <= 16 and 0 < h <= 16):
            raise ValueError(f"{entry[:60]!r} is no size: width and height are fractions of the input, above 0")
        pairs.append((w, h))
    return tuple(pairs)


def parse_counts(text: str) -> tuple[int, ...]:
    """``"16,24"`` -> (16, 24). Raises ``ValueError`` unless they are whole numbers from 1 to 4096."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) <= 4 and 1 <= int(part) <= 4096 for part in parts):
        raise ValueError(f"{text[:60]!r} is not a comma-separated list of whole numbers from 1 to 4096")
    return tuple(int(part) for part in parts)
