"""What an import found out about a model, and how it knows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from uhd.manifest import ResizeMode

STATED = "stated in the file"
WEIGHTS = "from the weights"
GRAPH = "from the graph"
NAME = "from the file name"
DEFAULT = "default: nothing says it"
HEAD = "default of its head"
GIVEN = "given"


@dataclass(frozen=True)
class Finding:
    """One fact of the model: ``how`` is one of this module's constants, or a sentence of its own."""

    what: str
    value: Any
    how: str


#: Longest first: ``opencv_inter_nearest`` begins four of them.
_MODES: list[ResizeMode] = sorted(get_args(ResizeMode), key=len, reverse=True)


def mode_in_name(path: Path) -> ResizeMode | None:
    """The resize mode in a published file name, like ``ultratinyod_anc8_w16_64x64_opencv_inter_nearest_y.onnx``."""
    stem = path.name.lower()
    return next((mode for mode in _MODES if re.search(rf"(?:^|_){mode}(?![a-z0-9])", stem)), None)


def size_in_name(path: Path) -> str | None:
    """The size ``HxW`` of the input in a published file name."""
    match = re.search(r"(?:^|_)(\d{2,4}x\d{2,4})(?=[_.])", path.name)
    return match[1] if match else None
