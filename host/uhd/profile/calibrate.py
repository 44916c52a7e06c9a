"""From a board's times to rates: what was measured, beside what is predicted before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uhd.errors import ConfigError
from uhd.espdl.model import EspdlModel
from uhd.predict.latency import Chip, Memory, OpTime, Placement, predict
from uhd.predict.rates import RatesFile, Source
from uhd.predict.refit import Errors, errors, refit
from uhd.predict.workload import Op, workload
from uhd.profile.board_log import BoardRun
from uhd.profile.measured import Measured, join


@dataclass(frozen=True)
class Calibration:
    """``predicted``: the timed operators before any fit. ``rates``: the refitted ones, None with ``why_not``."""

    measured: Measured
    placement: Placement
    chip: Chip
    predicted: tuple[OpTime, ...]
    errors: Errors
    rates: RatesFile | None
    refitted: tuple[OpTime, ...]
    why_not: str


def calibrate(
    model: EspdlModel, file: Path, runs: list[BoardRun], chip: Chip, weights: Memory | None = None, fit: bool = True
) -> Calibration:
    """Join a board's tables with ``model`` and, with ``fit``, refit the rates of ``chip``.

    ``weights``: the memory that weights ran from; by default what the board's memory table says, PSRAM without one.
    Raises ``DataError`` if there is no table, or one of another model.
    """
    measured = join(runs, model, chip.clock_hz, file.name)
    placement = Placement(weights or measured.weights or "psram")
    ops = [op for op in workload(model) if op.name in measured.ms]
    ms = [measured.ms[op.name] for op in ops]
    predicted = predict(ops, chip, placement).ops
    rates, why_not = None, ""
    refitted: tuple[OpTime, ...] = ()
    if fit:
        try:
            rates = _refit(model, file, ops, ms, chip, placement, measured)
            refitted = predict(ops, rates.chip, placement).ops
        except ConfigError as error:
            why_not = str(error)
    before = errors([time.total_ms for time in predicted], ms)
    return Calibration(measured, placement, chip, predicted, before, rates, refitted, why_not)


def _refit(
    model: EspdlModel,
    file: Path,
    ops: list[Op],
    ms: list[float],
    chip: Chip,
    placement: Placement,
    measured: Measured,
) -> RatesFile:
    found = refit(ops, ms, chip, placement, f"fitted to a board's profile of {file.name}")
    source = Source(
        model=file.name,
        sha256=model.sha256,
        operators=len(ops),
        runs=measured.runs,
        weights=placement.weights,
        activations=measured.activations,
        measured_ms=sum(ms),
    )
    return RatesFile(
        chip=found.chip,
        source=source,
        kept=found.kept,
        before=found.before,
        after=found.after,
        left_out=found.left_out,
    )
