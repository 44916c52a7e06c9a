"""A board's times beside the operators of a file."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from uhd.errors import DataError
from uhd.espdl.inspect import weight_bytes
from uhd.espdl.model import EspdlModel
from uhd.predict.latency import Memory
from uhd.profile.board_log import BoardRun

#: Below this part of the file's operators a table is of another model.
_ENOUGH = 0.5
#: The table pads each constant to 16 bytes and counts those that are no weights; the next larger variant has 1.3 times
#: as many.
_SIZE_BAND = 1.15
_WAY_OUT = "give the .espdl that was flashed"


@dataclass(frozen=True)
class Measured:
    """Milliseconds by operator of a file, medians over ``runs`` tables. ``missing``: operators of the file without a
    time; ``unknown``: rows that are none of its operators. ``by``: what rows and operators were joined by."""

    ms: dict[str, float]
    runs: int
    whole_runs: int
    by: str
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    weights: Memory | None
    activations: Memory | None

    @property
    def total_ms(self) -> float:
        return sum(self.ms.values())


def join(runs: Sequence[BoardRun], model: EspdlModel, clock_hz: float, label: str) -> Measured:
    """Join tables of times with the operators of ``model``: by name, or, where no name fits and a whole table has the
    same types in the same order, by order.

    Whole tables are used if there are any, otherwise all. ``label``: what to call the model. Raises ``DataError`` for
    none, or for those of another model.
    """
    if not runs:
        raise DataError(
            "no table of ESP-DL's profiler there",
            hint="build the firmware with sdkconfig.profile.operator_times (docs/profile.md)",
        )
    used = [run for run in runs if run.whole] or list(runs)
    names = [node.name for node in model.nodes]
    rows = {row[0] for run in used for row in run.rows}
    shared = len(rows & set(names))
    by = "name"
    if not shared and all(_same_order(run, model) for run in used):
        by = "order"
    elif shared < max(_ENOUGH * min(len(names), len(rows)), 2):
        raise DataError(
            f"the board's table is of another model: {shared} of its {len(rows)} operators are in {label}",
            hint=_WAY_OUT,
        )
    _check_size(used, model, label)
    times: dict[str, list[float]] = {}
    for run in used:
        for name, ms in zip(
            names if by == "order" else [r[0] for r in run.rows], run.milliseconds(clock_hz), strict=True
        ):
            times.setdefault(name, []).append(ms)
    last = used[-1]
    return Measured(
        {name: statistics.median(times[name]) for name in names if name in times},
        len(used),
        sum(run.whole for run in runs),
        by,
        tuple(name for name in names if name not in times),
        tuple(sorted(times.keys() - set(names))),
        last.weights,
        last.activations,
    )


def _same_order(run: BoardRun, model: EspdlModel) -> bool:
    return run.whole and [kind for _, kind, _ in run.rows] == [node.op for node in model.nodes]


def _check_size(runs: Sequence[BoardRun], model: EspdlModel, label: str) -> None:
    """Variants of one architecture have the same names: the bytes of their constants tell them apart."""
    told, own = runs[-1].parameter_bytes, weight_bytes(model)
    if told and abs(math.log(told / own)) > math.log(_SIZE_BAND):
        raise DataError(
            f"the board's model has {told / 1024:.0f} KB of weights, {label} {own / 1024:.0f}: another variant",
            hint=_WAY_OUT,
        )
