"""Milliseconds of each operator: computing, fetching filters, changing widths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from uhd.predict.cache import miss_ratio
from uhd.predict.workload import Op

Memory = Literal["sram", "psram", "flash"]


@dataclass(frozen=True)
class Rates:
    """Costs in cycles, of everything but memory.

    ``mac``: of one multiply-accumulate of an aligned int8 convolution; ``unaligned``, ``int16``, ``depthwise``: how
    many times as much it costs there; ``requantize``: of one value that changes its width. ``other``: of one value that
    any other operator writes; ``call``: of an operator by itself. The last two are told by a board's profile only:
    fitted to whole models beside the others, ``call`` came out as 0.
    """

    mac: float
    requantize: float
    unaligned: float = 2.0
    int16: float = 2.0
    depthwise: float = 6.0
    other: float = 0.0
    call: float = 0.0


@dataclass(frozen=True)
class Chip:
    """A chip. ``bandwidth``: bytes a second from each memory through the cache of ``cache_bytes``.

    ``fitted``: whether figures measured on such a chip are behind the numbers; otherwise they are taken over from
    kernels measured on it and from the other chip. ``basis`` says the same in words, for everything that prints a
    prediction.
    """

    name: str
    clock_hz: float
    cache_bytes: int
    bandwidth: dict[Memory, float]
    rates: Rates
    fitted: bool
    basis: str = ""


@dataclass(frozen=True)
class Placement:
    """Which memory the weights run from."""

    weights: Memory = "psram"


@dataclass(frozen=True)
class OpTime:
    """Predicted milliseconds of one operator."""

    op: Op
    compute_ms: float
    fetch_ms: float
    requantize_ms: float
    other_ms: float = 0.0

    @property
    def total_ms(self) -> float:
        return self.compute_ms + self.fetch_ms + self.requantize_ms + self.other_ms


@dataclass(frozen=True)
class Prediction:
    """Predicted milliseconds of a model."""

    chip: Chip
    placement: Placement
    ops: tuple[OpTime, ...]

    @property
    def total_ms(self) -> float:
        return sum(op.total_ms for op in self.ops)


def weighted_macs(op: Op, rates: Rates) -> float:
    """The multiply-accumulates of an operator in units of the aligned int8 ones."""
    factor = 1.0 if op.aligned else rates.unaligned
    factor *= rates.int16 if op.bits == 16 else 1.0
    return op.macs * factor * (rates.depthwise if op.depthwise else 1.0)


def fetched(op: Op, cache_bytes: int) -> float:
    """Bytes of the filter that come through the cache: once, and again as every further pixel walks all of it."""
    return op.filter_bytes * (1 + max(0, op.pixels - 1) * miss_ratio(op.filter_bytes, cache_bytes))


def requantized(op: Op) -> int:
    """Values that change their width."""
    return op.outputs if op.kind == "RequantizeLinear" else 0


def other_values(op: Op) -> int:
    """Values written by an operator that neither multiplies with a filter nor changes widths."""
    return 0 if op.macs or op.kind == "RequantizeLinear" else op.outputs


def predict(ops: Sequence[Op], chip: Chip, placement: Placement | None = None) -> Prediction:
    """Time of every operator on ``chip``, weights in PSRAM unless placed elsewhere; from SRAM they need no cache."""
    placement = placement or Placement()
    rates, per_ms = chip.rates, chip.clock_hz / 1000
    times = []
    for op in ops:
        through = 0.0 if placement.weights == "sram" else fetched(op, chip.cache_bytes)
        times.append(
            OpTime(
                op,
                compute_ms=rates.mac * weighted_macs(op, rates) / per_ms,
                fetch_ms=1000 * through / chip.bandwidth[placement.weights],
                requantize_ms=rates.requantize * requantized(op) / per_ms,
                other_ms=(rates.other * other_values(op) + rates.call) / per_ms,
            )
        )
    return Prediction(chip, placement, tuple(times))


def with_rates(chip: Chip, rates: Rates, psram: float) -> Chip:
    """``chip`` with other rates, and ``psram`` bytes a second."""
    return replace(chip, rates=rates, bandwidth={**chip.bandwidth, "psram": psram})
