"""Flags that stand for another flag with a value."""

from __future__ import annotations

from typing import get_args

from uhd.manifest import ResizeMode

#: Flag, the setting it sets, and to what. Those of one setting exclude each other and the setting's own flag.
SHORTCUTS: tuple[tuple[str, str, str], ...] = (
    *((f"--{mode}", "resize_mode", mode) for mode in get_args(ResizeMode)),
    ("--with-heatmap-mean", "heatmap_mode", "mean"),
    ("--with-heatmap-sum", "heatmap_mode", "sum"),
)
