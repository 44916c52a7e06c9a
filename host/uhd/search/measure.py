"""Quantizing one candidate and measuring it: mAP on the host twin, predicted milliseconds, memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.codegen import generate
from uhd.device.twin import Twin
from uhd.errors import ConfigError, ModelError
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.manifest import ModelManifest
from uhd.predict.chips import chip_with
from uhd.predict.latency import predict
from uhd.predict.memory import memory_need
from uhd.predict.workload import workload
from uhd.quantize.adapter import quantize_with_report
from uhd.quantize.settings import Settings
from uhd.quantize.trained import Exponents
from uhd.search.candidate import Candidate
from uhd.search.inputs import Inputs, Rows, figures
from uhd.search.journal import Measured


def measure(inputs: Inputs, candidate: Candidate, keep: Path, exponents: Exponents | None) -> Measured:
    """Quantize to ``keep``, with a grid to impose or by calibration, and measure. What cannot run is refused."""
    started = time.monotonic()
    settings = candidate.settings(inputs.target, inputs.calibration_note, exponents)
    try:
        report = quantize_with_report(inputs.onnx, keep, inputs.calibration, inputs.manifest, settings)
    except (ConfigError, ModelError) as reason:
        return Measured(candidate, refused=str(reason), seconds=time.monotonic() - started)
    model = read_espdl(keep, inputs.target)
    rows, error = run_twin(inputs, model, keep, report.manifest)
    found = figures(inputs.truth, rows)
    return Measured(
        candidate,
        model.sha256,
        report.size_bytes,
        found.map50,
        found.map50_95,
        found.left_out,
        found.halves,
        error,
        *cost(model, keep, inputs.rates),
        seconds=time.monotonic() - started,
    )


def cost(model: EspdlModel, file: Path, rates: Path | None = None) -> tuple[float, int]:
    """(predicted milliseconds with weights in PSRAM, bytes of SRAM with the activations there) of a .espdl.

    ``rates``: a board's own (``uhd.predict.rates``).
    """
    need = memory_need(model, file, model.target, activations="sram")
    return predict(workload(model), chip_with(model.target, rates)).total_ms, need.of("sram")


def run_twin(inputs: Inputs, model: EspdlModel, file: Path, manifest: ModelManifest) -> tuple[list[Rows], float]:
    """The boxes of every photo, and how far the output maps are from the float model's."""
    with tempfile.TemporaryDirectory(prefix="twin-", dir=file.parent) as folder:
        component = Path(folder) / "uhd_model"
        generate(model, file.read_bytes(), manifest, component)
        twin = Twin(component)
    settings, rows, outputs = inputs.settings, [], []
    for network in inputs.networks:
        found, maps = twin.detect(network, settings.score_threshold, settings.nms_iou, settings.top_k, settings.limit)
        rows.append(found)
        outputs.append(maps)
    stacked = {name: np.concatenate([maps[name] for maps in outputs]) for name in outputs[0]}
    return rows, map_error(stacked, inputs.maps, {name: model.tensors[name].exponent for name in stacked})


def map_error(
    integers: Mapping[str, NDArray[Any]], floats: Mapping[str, NDArray[np.float32]], exponents: Mapping[str, int]
) -> float:
    """Mean over the maps of the squared difference relative to the float map's variance.

    ``integers`` [P, H, W, C], ``floats`` [P, C, H, W], by name.
    """
    errors = []
    for name, values in integers.items():
        wanted = floats[name].transpose(0, 2, 3, 1).astype(np.float64)
        difference = values * 2.0 ** exponents[name] - wanted
        errors.append(float(np.square(difference).mean() / max(float(wanted.var()), 1e-12)))
    return sum(errors) / len(errors)


def quantize_all_int16(inputs: Inputs, equalize: bool, keep: Path) -> None:
    """The model with every operator in int16 that can be, for its grid."""
    settings = Settings(inputs.target, bits=16, equalize=equalize, recalibrate=True, test_vectors=False)
    quantize_with_report(inputs.onnx, keep, inputs.calibration, inputs.manifest, settings)
