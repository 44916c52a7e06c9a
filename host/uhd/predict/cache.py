"""How often a filter that is walked again and again has to be fetched again."""

from __future__ import annotations

import math


def miss_ratio(size: int, capacity: int) -> float:
    """Part of ``size`` bytes that misses in each further sweep through a cache of ``capacity`` bytes.

    A cyclic sweep with random replacement. Of a line that was fetched, every miss until it is needed again throws out
    one of ``capacity`` at random; in one sweep there are ``m * size`` misses, so it is gone with probability
    ``1 - exp(-m * size / capacity)``, which in the steady state is the miss ratio ``m`` itself. Up to the capacity the
    only solution is 0: what fits is fetched once.
    """
    ratio = size / capacity
    if ratio <= 1:
        return 0.0
    miss = 1.0
    for _ in range(200):  # converges from above
        miss = 1 - math.exp(-miss * ratio)
    return miss
