"""The published network of variant R at full size, with the published precision list."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.quantize_nets import pictures
from support.shared import shared_dir
from uhd.espdl.reader import read_espdl
from uhd.quantize.adapter import quantize_with_report
from uhd.quantize.patterns import Operator, select
from uhd.quantize.presets import PRESETS
from uhd.quantize.settings import Settings
from uhd.quantize.source import manifest_of, read_source


def published_operators(export: str) -> list[Operator]:
    """The operators of a published export, without their edges."""
    families = json.loads(shared_dir("spec", "variants.json").read_text())["families"]
    return [Operator(name, kind) for kind, name in families["current_yuv422"]["all_nodes"][export]]


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.operators])
def test_presets_fit_both_kinds_of_published_graph(name: str) -> None:
    preset = PRESETS[name]
    whole = select(published_operators("full_raw_wrapper"), [], preset)
    assert len(whole.int16) == len(preset.operators) and whole.notes == ()
    parts = select(published_operators("static_nopost_nocat"), [], preset)
    pruned = [entry for entry in preset.operators if entry.startswith("/obj_conv")]
    assert len(parts.int16) == len(preset.operators) - len(pruned)
    assert bool(parts.notes) == bool(pruned)


@pytest.mark.slow
def test_variant_r_in_published_precision(tmp_path: Path) -> None:
    path = shared_dir("fixtures", "golden", "w16_yuv422", "nopost_noconcat.onnx")
    settings = Settings("c", preset=PRESETS["R-precision"], calibration_note="waves")
    manifest = manifest_of(read_source(path))
    report = quantize_with_report(path, tmp_path / "r.espdl", pictures(16), manifest, settings)
    quantization = report.manifest.quantization
    assert quantization is not None
    assert (report.vectors, report.mismatches) == (3072, 0)
    assert len(quantization.int16_operators) == 12  # 22 entries: two convolutions have no Relu of their own
    assert [finding for finding in report.findings if finding.severity != "note"] == []
    model = read_espdl(report.espdl)
    assert [node.bits for node in model.nodes if node.op == "Resize"] == [8]
    assert model.tensors["box"].dtype == "int16"
