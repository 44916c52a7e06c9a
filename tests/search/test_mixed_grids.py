"""A grid put together of two serves the mixed model, and in int8 it is the one that calibration finds for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.qat_nets import quantizer_here
from support.search_nets import small_onnx, small_pictures
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.quantize.adapter import quantize_with_report
from uhd.quantize.grid import exponents_of
from uhd.quantize.settings import Settings
from uhd.search.candidate import Base, Candidate
from uhd.search.compose import compose, int16_groups

__all__ = ["quantizer_here"]


@pytest.mark.parametrize(
    ("target", "sets"),
    [("esp32s3", [("/first/Conv", "/left/Conv"), ("/box_out/Conv",)]), ("esp32p4", [("/left/Conv",)])],
)
@pytest.mark.usefixtures("quantizer_here")
def test_it_serves(target: str, sets: list[tuple[str, ...]], tmp_path: Path) -> None:
    onnx, manifest = small_onnx(tmp_path / "small.onnx")
    pictures = small_pictures(6)

    def made(name: str, settings: Settings) -> tuple[EspdlModel, int]:
        report = quantize_with_report(onnx, tmp_path / f"{name}.espdl", pictures, manifest, settings)
        return read_espdl(report.espdl, target), report.mismatches

    base = Base("minmax")
    int8, _ = made("int8", Candidate(base).settings(target, ""))
    int16, _ = made("int16", Settings(target, bits=16))
    names = int16_groups(int8)
    assert names == ("/first/Conv", "/left/Conv", "/right/Conv", "/box_out/Conv", "/cls_out/Conv")
    for chosen in sets:
        grid = compose(int8, exponents_of(int8), int16, chosen)
        candidate = Candidate(base, chosen)
        mixed, mismatches = made("mixed", candidate.settings(target, "", grid))
        assert mismatches == 0
        assert {node.name for node in mixed.nodes if node.bits == 16 and node.op == "Conv"} == set(chosen)
        calibrated, _ = made("calibrated", candidate.settings(target, ""))
        found, wanted = exponents_of(mixed), exponents_of(calibrated)
        wide = {n.outputs[0] for n in mixed.nodes if n.bits == 16 and n.op != "RequantizeLinear"}
        assert found.keys() == wanted.keys()
        assert {key for key in found if found[key] != wanted[key]} <= wide
        # The all-int16 model aligns what an Add or Concat reads, which gives a coarser grid, never one that saturates.
        assert all(found[key] >= wanted[key] for key in wide)
