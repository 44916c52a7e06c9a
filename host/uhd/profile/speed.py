"""The published latencies beside predicted ones."""

from __future__ import annotations

from dataclasses import dataclass

from uhd.predict.chips import chip
from uhd.predict.fit import fit
from uhd.predict.latency import predict
from uhd.predict.published import published


@dataclass(frozen=True)
class Speed:
    """Milliseconds on an ESP32-S3. ``left_out_ms``: predicted by a fit to all the other published figures."""

    variant: str
    preset: str
    published_ms: float
    predicted_ms: float
    left_out_ms: float


def published_speed() -> tuple[Speed, ...]:
    """All published figures."""
    board = chip("esp32s3")
    found = fit(published(), board)
    return tuple(
        Speed(p.variant, p.preset, p.ms, predict(p.ops, board).total_ms, p.ms * (1 + left_out))
        for p, left_out in zip(found.points, found.held_out, strict=True)
    )
