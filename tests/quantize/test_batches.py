"""Calibration in batches: the same grid and the same bytes as picture by picture, where that is possible at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from support.qat_nets import quantizer_here
from support.quantize_nets import Plan, detector_onnx, manifest_for, pictures
from uhd.quantize.adapter import Report, quantize_with_report
from uhd.quantize.settings import Settings
from uhd.quantize.source import read_source

__all__ = ["quantizer_here"]
pytestmark = pytest.mark.usefixtures("quantizer_here")

#: No multiple of a batch: the last one is smaller.
COUNT = 19


def calibrated(folder: Path, **settings: object) -> Report:
    onnx, manifest = detector_onnx()
    chosen = Settings(**settings)  # type: ignore[arg-type]
    return quantize_with_report(onnx, folder / "made.espdl", pictures(COUNT), manifest, chosen)


def with_reshape(folder: Path) -> Path:
    """A network that works for one picture only: it holds its batch of one in a shape."""
    plan = Plan()
    x = plan.node("Relu", "/first/Relu", plan.conv("/first/Conv", "input", 2, 8))
    plan.constants += [
        numpy_helper.from_array(np.array(shape, np.int64), name)
        for name, shape in (("turned", [1, 16, 8, 16]), ("back", [1, 8, 16, 16]))
    ]
    turned = plan.node("Relu", "/turned/Relu", plan.node("Reshape", "/turned/Reshape", x, "turned"))
    back = plan.node("Reshape", "/back/Reshape", turned, "back")
    return plan.save(folder / "net.onnx", plan.conv("/out/Conv", back, 8, 8), 8)


def graph_of(path: Path, folder: Path) -> Any:
    """As the quantizer hands it to esp-ppq."""
    from esp_ppq.api.interface import load_onnx_graph
    from onnxsim import simplify

    from uhd.quantize.rewrite import state_defaults

    model, _ = simplify(onnx.load_from_string(read_source(path).onnx))
    state_defaults(model)
    onnx.save(model, folder / "simplified.onnx")
    return load_onnx_graph(str(folder / "simplified.onnx"))


@pytest.mark.parametrize(
    "settings",
    [
        {"target": "c", "algorithm": "kl"},
        {"target": "esp32s3", "algorithm": "minmax", "patterns": ("box",)},
        {"target": "esp32p4", "algorithm": "mse", "equalize": True},
    ],
    ids=lambda settings: settings["algorithm"],
)
def test_equal_to_one_by_one(settings: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from uhd.quantize import engine

    seen: list[int] = []

    class Watched(engine.Batches):
        def __init__(self, graph: object, given: np.ndarray, size: int, report: object) -> None:
            seen.append(size)
            super().__init__(graph, given, size, report)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "Batches", Watched)
    together = calibrated(tmp_path, **settings).espdl.read_bytes()
    monkeypatch.setattr(engine, "BATCH", 1)
    assert calibrated(tmp_path, **settings).espdl.read_bytes() == together
    assert seen == [9, 1]


def test_percentiles_are_taken_picture_by_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are averaged over batches, so that batches of another size would give another grid than esp-ppq's."""
    from uhd.quantize import engine

    monkeypatch.setattr(engine, "takes_batches", lambda graph, given: pytest.fail("not asked for percentiles"))
    calibrated(tmp_path, target="c", algorithm="percentile")


def test_a_network_for_one_picture_is_calibrated_one_by_one(tmp_path: Path) -> None:
    from uhd.quantize.batches import takes_batches

    path, shape = with_reshape(tmp_path), (2, 16, 16)
    assert not takes_batches(graph_of(path, tmp_path), pictures(3, shape))
    detector = graph_of(detector_onnx()[0], tmp_path)
    assert takes_batches(detector, pictures(3)) and not takes_batches(detector, pictures(1))
    quantize_with_report(path, tmp_path / "made.espdl", pictures(5, shape), manifest_for(), Settings("c"))


def test_batches_hold_every_picture_in_order(tmp_path: Path) -> None:
    from uhd.quantize.batches import Batches

    graph = graph_of(detector_onnx()[0], tmp_path)
    (sizes,) = (op.inputs[3].value for op in graph.operations.values() if op.type == "Resize")
    given, told = pictures(5), []
    batches = Batches(graph, given, 2, told.append)
    assert len(batches) == 3
    for _ in range(2):  # histograms look twice
        parts = []
        for part in batches:
            assert int(sizes[0]) == len(part) == told[-1]
            parts.append(part)
        assert np.array_equal(torch.cat(parts).numpy(), given)
    assert told == [2, 2, 1] * 2
