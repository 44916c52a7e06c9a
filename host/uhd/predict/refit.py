"""Fitting the rates to the times of single operators, as a board's profile tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from uhd.errors import ConfigError
from uhd.predict.fit import nonnegative
from uhd.predict.latency import Chip, Placement, Rates, fetched, other_values, predict, requantized
from uhd.predict.workload import Op

Array = NDArray[np.float64]

#: Rates that add up, in the order of the columns, and the factors on the first.
_LINEAR = ("mac", "bandwidth", "requantize", "other", "call")
_FACTORS = ("unaligned", "int16", "depthwise")
#: An operator below this part of the whole is weighed as if it took so much: its error hardly matters, and a board
#: tells times in whole microseconds.
_FLOOR = 0.01
#: Rounds of the fit, and of those with one operator left out, which begin at its answer.
_ROUNDS, _ROUNDS_LEFT_OUT = 400, 20


@dataclass(frozen=True)
class Errors:
    """``total``: of the whole inference, predicted / measured - 1. ``operators``: the absolute differences of all
    operators, as a part of the measured whole."""

    total: float
    operators: float


@dataclass(frozen=True)
class Refit:
    """``chip`` with fitted rates. ``kept``: the rates that these operators say nothing of, left as they were.
    ``left_out``: each operator predicted by a fit to all the others."""

    chip: Chip
    kept: tuple[str, ...]
    before: Errors
    after: Errors
    left_out: Errors


def errors(predicted: Sequence[float] | Array, measured: Sequence[float] | Array) -> Errors:
    """Errors of milliseconds, operator by operator."""
    found, wanted = np.asarray(predicted), np.asarray(measured)
    whole = float(wanted.sum())
    return Errors(float(found.sum()) / whole - 1, float(np.abs(found - wanted).sum()) / whole)


@dataclass(frozen=True)
class _Features:
    """Columns in the order of ``_LINEAR`` (the first without factors), and for each factor which rows have it."""

    columns: Array
    flags: Mapping[str, Array]
    ms: Array
    scale: Array

    def without(self, row: int) -> _Features:
        keep = np.arange(len(self.ms)) != row
        flags = {name: flag[keep] for name, flag in self.flags.items()}
        return _Features(self.columns[keep], flags, self.ms[keep], self.scale[keep])

    def told(self) -> list[str]:
        """The rates of which these rows tell something: factors need rows with and without them."""
        told = [name for index, name in enumerate(_LINEAR) if self.columns[:, index].any()]
        busy = self.columns[:, 0] > 0
        return told + [n for n, flag in self.flags.items() if flag[busy].any() and not flag[busy].all()]

    def predict(self, x: Array, factors: Mapping[str, float]) -> Array:
        return self.weighted(factors) @ x

    def weighted(self, factors: Mapping[str, float], without: str = "") -> Array:
        columns = self.columns.copy()
        for name, flag in self.flags.items():
            if name != without:
                columns[:, 0] *= np.where(flag, factors[name], 1.0)
        return columns


def _features(ops: Sequence[Op], ms: Sequence[float], chip: Chip, placement: Placement) -> _Features:
    through = placement.weights != "sram"
    rows = [
        (op.macs, fetched(op, chip.cache_bytes) if through else 0.0, requantized(op), other_values(op), 1.0)
        for op in ops
    ]  # fmt: skip
    flags = {
        "unaligned": np.array([op.macs > 0 and not op.aligned for op in ops]),
        "int16": np.array([op.bits == 16 for op in ops]),
        "depthwise": np.array([op.depthwise for op in ops]),
    }
    measured = np.array(ms, dtype=np.float64)
    return _Features(np.array(rows), flags, measured, np.maximum(measured, _FLOOR * measured.sum()))


def _solve(
    data: _Features, start: Mapping[str, float], told: Sequence[str], rounds: int
) -> tuple[Array, dict[str, float]]:
    """Rates in milliseconds a unit, and factors, with the least squares of relative errors: in turn the rates with the
    factors as they are, and each factor by itself. Each step has one best answer, so the error never grows."""
    factors, wanted = dict(start), data.ms / data.scale
    before = np.inf
    used = [index for index, name in enumerate(_LINEAR) if name in told]
    unit = data.columns[:, used].max(0)
    x = np.zeros(len(_LINEAR))
    for _ in range(rounds):
        matrix = data.weighted(factors)[:, used] / unit / data.scale[:, None]
        x[used] = nonnegative(matrix, wanted) / unit
        for name in _FACTORS:
            if name in told and x[0] > 0:
                plain = data.weighted(factors, without=name)
                flagged = np.where(data.flags[name], plain[:, 0], 0.0) * x[0] / data.scale
                rest = (data.ms - plain @ x) / data.scale + flagged
                if power := float(flagged @ flagged):
                    factors[name] = max(0.05, float(flagged @ rest) / power)
        loss = float(np.sum(((data.predict(x, factors) - data.ms) / data.scale) ** 2))
        if before - loss <= 1e-7 * loss + 1e-12:
            break
        before = loss
    return x, factors


def _apply(chip: Chip, placement: Placement, x: Array, factors: Mapping[str, float], told: Sequence[str]) -> Chip:
    cycles = chip.clock_hz / 1000
    values = {name: float(x[index]) * cycles for index, name in enumerate(_LINEAR) if name != "bandwidth"}
    values = {name: value for name, value in {**values, **factors}.items() if name in told}
    rates = Rates(**{**vars(chip.rates), **values})
    bandwidth = dict(chip.bandwidth)
    if "bandwidth" in told:  # without a trace of fetching: as from internal memory
        bandwidth[placement.weights] = 1000 / x[1] if x[1] > 0 else chip.bandwidth["sram"]
    return replace(chip, rates=rates, bandwidth=bandwidth, fitted=True)


def refit(ops: Sequence[Op], ms: Sequence[float], chip: Chip, placement: Placement, basis: str) -> Refit:
    """Fit the rates of ``chip`` to the measured milliseconds of operators whose weights lie as ``placement`` says.

    ``basis``: what the result is called where it is printed. Raises ``ConfigError`` for too few operators.
    """
    data = _features(ops, ms, chip, placement)
    told = data.told()
    if len(ops) < len(told) + 2 or not data.ms.sum() > 0:
        raise ConfigError(
            f"{len(ops)} timed operators are too few for {len(told)} rates", hint="a whole table of a detector has 60"
        )
    start = {name: float(getattr(chip.rates, name)) for name in _FACTORS}
    x, factors = _solve(data, start, told, _ROUNDS)
    new = replace(_apply(chip, placement, x, factors, told), basis=basis)
    held_out = []
    for row in range(len(ops)):
        rest = data.without(row)
        held_out.append(float(data.predict(*_solve(rest, factors, rest.told(), _ROUNDS_LEFT_OUT))[row]))
    old = [time.total_ms for time in predict(ops, chip, placement).ops]
    now = [time.total_ms for time in predict(ops, new, placement).ops]
    kept = tuple(name for name in (*_LINEAR, *_FACTORS) if name not in told)
    return Refit(new, kept, errors(old, ms), errors(now, ms), errors(held_out, ms))
