"""Learning rate over a run."""

from __future__ import annotations

import math


def learning_rate(step: int, total: int, peak: float, warmup: int, final: float) -> float:
    """Rate of ``step`` (from 0) of ``total``: linear warm-up to ``peak``, then half a cosine to ``final * peak``.

    The warm-up never takes more than a tenth of the run.
    """
    warmup = min(warmup, total // 10)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - 1 - warmup)
    return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
