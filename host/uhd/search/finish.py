"""The winner's files, and the command line that makes the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uhd.errors import ModelError
from uhd.manifest import Accuracy
from uhd.quantize.adapter import Progress, quantize_with_report
from uhd.quantize.grid import write_grid
from uhd.search.candidate import command_line
from uhd.search.crew import grid_of
from uhd.search.inputs import Inputs
from uhd.search.journal import Measured


@dataclass(frozen=True)
class Source:
    """What the user named: the model, the folder of photos to calibrate on, how many of them, and what the validation
    photos are called. ``carries_grid``: the model has one from its training."""

    model: Path
    photos: Path
    count: int
    data_name: str
    carries_grid: bool


@dataclass(frozen=True)
class Winner:
    """``command``: the words behind ``python -m uhd.host``. ``grid``: the file that they name, where a calibration
    from the start gives another grid than that of the file measured (in integers next to int16, or around a trained
    grid)."""

    espdl: Path
    command: tuple[str, ...]
    grid: Path | None


def write_winner(
    inputs: Inputs, work: Path, winner: Measured, folder: Path, source: Source, progress: Progress
) -> Winner:
    """Quantize the winner as the ``quantize`` command does; write ``winner.espdl`` with its manifest into ``folder``.

    Raises ``ModelError`` if the bytes are not those that were measured.
    """
    espdl, grid = folder / "winner.espdl", folder / "winner.grid.json"
    candidate, kept = winner.candidate, None
    grid.unlink(missing_ok=True)
    settings = candidate.settings(inputs.target, inputs.calibration_note)
    report = quantize_with_report(inputs.onnx, espdl, inputs.calibration, inputs.manifest, settings, progress)
    quantization = report.manifest.quantization
    if quantization and quantization.espdl_sha256 != winner.sha256:
        exponents = grid_of(work, candidate, inputs.target)
        write_grid(grid, exponents)
        kept = grid
        settings = candidate.settings(inputs.target, inputs.calibration_note, exponents)
        report = quantize_with_report(inputs.onnx, espdl, inputs.calibration, inputs.manifest, settings, progress)
        quantization = report.manifest.quantization
    if quantization is None or quantization.espdl_sha256 != winner.sha256:
        raise ModelError(f"{espdl}: not the bytes that were measured", hint="search again into another folder")
    photos = len(inputs.networks)
    accuracy = Accuracy(
        data=source.data_name, images=photos, map50=round(winner.map50, 6), map50_95=round(winner.map50_95, 6),
        engine="twin",
    )  # fmt: skip
    changed = quantization.model_copy(update={"accuracy": [accuracy]})
    report.manifest.model_copy(update={"quantization": changed}).save(espdl.with_suffix(".json"))
    command = command_line(
        candidate, source.model, source.photos, source.count, inputs.target, espdl, kept,
        carries_grid=source.carries_grid,
    )  # fmt: skip
    return Winner(espdl, tuple(command), kept)
