"""What was imported is, exported again, the graph that it came from to the bit, and quantizes to the same integers."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from support.imports import known_model, published
from support.quantize_nets import pictures
from support.shared import shared_dir
from uhd.espdl.reader import read_espdl
from uhd.export.onnx_export import export_onnx
from uhd.importing.importer import import_file
from uhd.models.checkpoint import load_ultratinyod
from uhd.quantize.adapter import quantize_with_report
from uhd.quantize.settings import Settings
from uhd.quantize.source import manifest_of, read_source

TINY = "tiny"
PUBLISHED = ["static.onnx"]


def original(name: str, folder: Path) -> Path:
    if name != TINY:
        return shared_dir("fixtures", "golden", "w16_yuv422", name)
    model = known_model(activation="relu", iou_aware_head=True, residual=True, large_obj_branch=True)
    return published(folder / "original.onnx", model, "post")


def exported_again(path: Path, folder: Path) -> Path:
    import_file(path, folder / "a.safetensors")
    model, manifest = load_ultratinyod(folder / "a.safetensors")
    export_onnx(model, manifest, folder / "imported.onnx", verify=False)
    return folder / "imported.onnx"


def convolutions(path: Path) -> list[list[bytes]]:
    """Filter and bias of every convolution up to the maps, in the order in which they compute."""
    graph = onnx.load_from_string(read_source(path).onnx).graph
    constants = {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in graph.initializer}
    return [[constants[name] for name in node.input[1:]] for node in graph.node if node.op_type == "Conv"]


@pytest.mark.parametrize("name", [TINY, *PUBLISHED])
def test_same_filters_to_the_bit(tmp_path: Path, name: str) -> None:
    path = original(name, tmp_path)
    want, got = convolutions(path), convolutions(exported_again(path, tmp_path))
    assert len(got) > 20
    assert got == want


@pytest.mark.skipif("UHD_LONG" not in os.environ, reason="quantizes four times; set UHD_LONG to run this test")
@pytest.mark.parametrize("name", [TINY, *PUBLISHED])
def test_same_integers(tmp_path: Path, name: str) -> None:
    path = original(name, tmp_path)
    assert integers(exported_again(path, tmp_path), tmp_path) == integers(path, tmp_path)


def integers(path: Path, folder: Path) -> list[tuple[str, tuple[int, ...], tuple[int, ...], bytes]]:
    """Every filter and bias of the quantized ``path``, with its grid, and the outputs' grids."""
    source = read_source(path)
    manifest, inputs = manifest_of(source), pictures(4, source.shape[1:])
    report = quantize_with_report(
        path, folder / f"{path.stem}.espdl", inputs, manifest, Settings("esp32s3", calibration_note="waves")
    )
    assert report.mismatches == 0
    model = read_espdl(report.espdl)
    return sorted(
        (tensor.dtype, tensor.shape, tensor.exponents, b"" if tensor.data is None else tensor.data.tobytes())
        for name, tensor in model.tensors.items()
        if tensor.data is not None or name in source.maps
    )
