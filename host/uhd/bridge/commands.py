"""What readers may ask of a source, checked before it gets there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uhd.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """What the device is told. None: the model's own. Thresholds 0..1; ``*_every`` as in CONFIG."""

    score_threshold: float | None = None
    nms_iou: float | None = None
    top_k: int | None = None
    thumbnail_every: int = 1
    results_every: int = 1


def number(command: Mapping[str, Any], key: str, low: float, high: float) -> float | None:
    """A member of a command, None where it is absent. Raises ``ConfigError`` outside ``low`` to ``high``."""
    value = command.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{key} must be a number")
    if not low <= value <= high:
        raise ConfigError(f"{key} is {value:g}", hint=f"give a number from {low:g} to {high:g}")
    return float(value)


def switch(command: Mapping[str, Any]) -> bool:
    """The member ``on``. Raises ``ConfigError`` if it is no truth value."""
    if not isinstance(command.get("on"), bool):
        raise ConfigError('say "on": true or false')
    return bool(command["on"])


def changed(settings: Settings, command: Mapping[str, Any]) -> Settings:
    """The settings with what a ``configure`` command names. Raises ``ConfigError`` for values out of range."""
    threshold = number(command, "score_threshold", 0, 1)
    nms_iou = number(command, "nms_iou", 0, 1)
    every = {key: number(command, key, low, 0xFFFF) for key, low in (("thumbnail_every", 0), ("results_every", 1))}
    for key, value in every.items():
        if value is not None and value != int(value):
            raise ConfigError(f"{key} must be a whole number")
    return Settings(
        settings.score_threshold if threshold is None else threshold,
        settings.nms_iou if nms_iou is None else nms_iou,
        settings.top_k,
        settings.thumbnail_every if every["thumbnail_every"] is None else int(every["thumbnail_every"]),
        settings.results_every if every["results_every"] is None else int(every["results_every"]),
    )
