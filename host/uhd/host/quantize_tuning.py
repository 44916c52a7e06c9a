"""The options of ``quantize`` and ``release`` that change weights after calibration, or say which grid to take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_OPTIONS = (
    click.option("--bias-correction", is_flag=True, help="Shift each bias by the mean error of its output."),
    click.option("--tqt-steps", default=0, show_default=True, metavar="N",
                 help="Train weights on the grid for N steps a block, against the float model."),
    click.option("--tqt-rate", default=1e-4, show_default=True, help="Learning rate of --tqt-steps."),
    click.option("--recalibrate", is_flag=True, help="Calibrate also where training has found a grid."),
)  # fmt: skip
grid_option = click.option(
    "--grid", type=click.Path(path_type=Path), help="Take all exponents from this file (docs/search.md)."
)
"""Exponents are of one model for one target, so this is not for commands that make several files."""


def tuning_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as keyword arguments."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def tuning(
    *, bias_correction: bool, tqt_steps: int, tqt_rate: float, recalibrate: bool, grid: Path | None = None
) -> dict[str, Any]:
    """The fields of ``uhd.quantize.settings.Settings`` that they stand for."""
    from uhd.quantize.grid import read_grid

    return {
        "bias_correction": bias_correction,
        "tqt_steps": tqt_steps,
        "tqt_rate": tqt_rate,
        "recalibrate": recalibrate,
        "exponents": read_grid(grid) if grid else None,
    }
