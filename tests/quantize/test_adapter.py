"""Whole quantizations of a small network of variant R's architecture, for every target."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from support.foreign import foreign_environment
from support.quantize_nets import ANCHORS, detector_onnx, pictures
from uhd.espdl import oracle
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.manifest import load_manifest
from uhd.quantize.adapter import (
    Report,
    compare_vectors,
    quantize_input,
    quantize_onnx,
    quantize_with_report,
)
from uhd.quantize.presets import resolve_preset
from uhd.quantize.settings import Settings

PICTURES = pictures(6)
PRECISION_OPERATORS = {
    "/backbone/stem/conv/Conv", "/depthwiseconv/backbone/block1/dw/conv/Conv", "/backbone/block1/pw/conv/Conv",
    "/depthwiseconv/backbone/block2/dw/conv/Conv", "/backbone/block2/pw/conv/Conv", "/backbone/block3_skip/conv/Conv",
    "/backbone/sppf/cv1/conv/Conv", "/large_obj_down/large_obj_down.3/conv/Conv",
    "/large_obj_blocks/large_obj_blocks.0/pw/conv/Conv", "/large_obj_blocks/large_obj_blocks.1/pw/conv/Conv",
    "/large_obj_fuse/conv/Conv", "/box_out/Conv",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("quantized")


@pytest.fixture(scope="module")
def int8_c(folder: Path) -> Report:
    path, manifest = detector_onnx()
    settings = Settings("c", algorithm="minmax", export_anchors=True, calibration_note="waves")
    return quantize_with_report(path, folder / "int8.espdl", PICTURES, manifest, settings)


def precise(target: str, folder: Path) -> Report:
    path, manifest = detector_onnx()
    settings = Settings(target, preset=resolve_preset("precision", "R"), algorithm="percentile")
    return quantize_with_report(path, folder / f"precision_{target}.espdl", PICTURES, manifest, settings)


def read(report: Report) -> EspdlModel:
    quantization = report.manifest.quantization
    assert quantization is not None
    return read_espdl(report.espdl, quantization.target)


def noise(model: EspdlModel, onnx: Path, inputs: NDArray[np.float32]) -> float:
    """Noise-to-signal power of the quantized maps against ONNX Runtime, all maps together."""
    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    difference = signal = 0.0
    for picture in inputs:
        exact = session.run(list(model.outputs), {session.get_inputs()[0].name: picture[None]})
        made = oracle.run(model, quantize_input(model, picture))
        for name, value in zip(model.outputs, exact, strict=True):
            real = made[name].astype(np.float64) * 2.0 ** model.tensors[name].exponent
            difference += float(((real - value.transpose(0, 2, 3, 1)) ** 2).sum())
            signal += float((value**2).sum())
    return difference / signal


def test_int8_integers_are_those_of_the_oracle(int8_c: Report) -> None:
    model = read(int8_c)
    assert int8_c.vectors == sum(model.tensors[name].data is None and model.test_outputs[name].size
                                 for name in model.outputs) > 500  # fmt: skip
    assert int8_c.mismatches == 0
    assert {node.bits for node in model.nodes} == {8}
    assert [finding for finding in int8_c.findings if finding.severity == "error"] == []


def test_int8_says_what_the_float_model_says(int8_c: Report) -> None:
    assert noise(read(int8_c), detector_onnx()[0], pictures(3, seed=9)) < 0.01


def test_the_first_picture_is_the_embedded_input(int8_c: Report) -> None:
    model = read(int8_c)
    expected = quantize_input(model, PICTURES[0])
    np.testing.assert_array_equal(model.test_inputs[model.inputs[0]], expected[model.inputs[0]])
    assert len(np.unique(expected[model.inputs[0]])) > 50


def test_the_manifest_describes_the_file(int8_c: Report) -> None:
    manifest = load_manifest(int8_c.espdl.with_suffix(".json"))
    assert manifest == int8_c.manifest
    quantization = manifest.quantization
    assert quantization is not None
    model = read(int8_c)
    assert quantization.espdl_sha256 == hashlib.sha256(int8_c.espdl.read_bytes()).hexdigest()
    assert quantization.calibration_sha256 == hashlib.sha256(PICTURES.tobytes()).hexdigest()
    assert (quantization.calibration, quantization.calibration_images) == ("waves", 6)
    assert (quantization.target, quantization.bits, quantization.int16_operators) == ("c", 8, [])
    assert quantization.calibration_algorithm == "minmax"
    assert [spec.name for spec in quantization.outputs] == ["box", "quality", "cls"]
    for spec in (*quantization.inputs, *quantization.outputs):
        tensor = model.tensors[spec.name]
        assert (tuple(spec.shape), spec.dtype, spec.exponent) == (tensor.shape, tensor.dtype, tensor.exponent)
    float_side = detector_onnx()[1]
    assert manifest.model_copy(update={"quantization": None, "tool_version": ""}) == float_side.model_copy(
        update={"tool_version": ""}
    )


def test_anchors_are_exported_on_request(int8_c: Report) -> None:
    assert {path.name for path in int8_c.extra_files} == {"int8_anchors.npy", "int8_wh_scale.npy"}
    np.testing.assert_allclose(np.load(int8_c.espdl.with_name("int8_anchors.npy")), ANCHORS, rtol=1e-6)
    assert np.load(int8_c.espdl.with_name("int8_wh_scale.npy")).shape == (2, 2)


def test_the_file_says_what_it_is(int8_c: Report) -> None:
    metadata = read(int8_c).metadata
    assert metadata["uhd_target"] == "c" and metadata["uhd_name"] == "tiny R"


def test_squeeze_and_excitation_stays_in_integers(int8_c: Report) -> None:
    model = read(int8_c)
    by_name = {node.name: node for node in model.nodes}
    assert by_name["/head_se/ReduceMean"].op == "ReduceMean"
    gate = by_name["/head_se/Sigmoid"]
    table = model.tensors[gate.attributes["lut"]]
    assert table.data is not None and table.data.size == 256
    assert {by_name[f"/head_se/{op}"].attributes["quant_type"] for op in ("ReduceMean", "Sigmoid", "Mul")} == {"S8"}


def test_equal_inputs_give_equal_bytes(int8_c: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another working folder, language, time zone, hash seed, output name: the same file."""
    path, manifest = detector_onnx()
    before = path.read_bytes()
    (tmp_path / "env").mkdir()
    for name, value in foreign_environment(tmp_path / "env").items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    steps: list[tuple[str, int, int]] = []
    again = quantize_onnx(
        path, Path("again.espdl"), target="c", calibration=PICTURES, manifest=manifest, algorithm="minmax",
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    assert Path("again.espdl").read_bytes() == int8_c.espdl.read_bytes()
    assert path.read_bytes() == before
    assert again.quantization is not None and int8_c.manifest.quantization is not None
    assert again.quantization.espdl_sha256 == int8_c.manifest.quantization.espdl_sha256
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.espdl", "again.json", "env"]
    assert [step for step, done, _ in steps if done == 0] == ["load", "simplify", "calibrate", "export"]
    assert ("calibrate", 6, 6) in steps


@pytest.mark.parametrize("target", ["esp32s3", "esp32p4"])
def test_precision_preset_on_the_chips(target: str, folder: Path) -> None:
    report = precise(target, folder)
    model = read(report)
    quantization = report.manifest.quantization
    assert quantization is not None and quantization.preset == "R-precision"
    assert set(quantization.int16_operators) == PRECISION_OPERATORS
    assert quantization.calibration_algorithm == "percentile, int16 minmax"
    assert report.mismatches == 0 and report.vectors > 500
    assert report.notes == ()
    assert model.target == target
    assert {model.tensors["box"].dtype, model.tensors["cls"].dtype} == {"int16", "int8"}
    assert {finding.severity for finding in report.findings} == {"note"}
    assert noise(model, detector_onnx()[0], pictures(2, seed=9)) < 0.01


def test_resize_stays_int8_between_int16_neighbours(folder: Path) -> None:
    model = read_espdl(folder / "precision_esp32s3.espdl")
    resize = next(node for node in model.nodes if node.op == "Resize")
    made_by = {name: node for node in model.nodes for name in node.outputs}
    read_by = [node for node in model.nodes if resize.outputs[0] in node.inputs]
    assert resize.bits == 8 and model.tensors[resize.outputs[0]].dtype == "int8"
    before, (after,) = made_by[resize.inputs[0]], read_by
    assert (before.op, before.bits, after.op, after.bits) == ("RequantizeLinear", 8, "RequantizeLinear", 16)
    assert made_by[before.inputs[0]].bits == 16


def test_sixteen_bits_are_exact_and_far_finer(folder: Path) -> None:
    path, manifest = detector_onnx()
    report = quantize_with_report(path, folder / "b16.espdl", PICTURES, manifest, Settings("c", bits=16))
    assert report.mismatches == 0 and report.vectors > 500
    assert re.search(r"kept at int8: /Resize, /head_se/Sigmoid", report.notes[0])
    model = read(report)
    assert {node.op for node in model.nodes if node.bits == 8} == {"Resize", "Sigmoid", "RequantizeLinear"}
    assert noise(model, path, pictures(2, seed=9)) < 1e-3


def test_the_comparison_counts_what_differs(int8_c: Report) -> None:
    model = read(int8_c)
    vector = model.test_outputs["box"]
    vector.reshape(-1)[:3] ^= 1
    try:
        assert compare_vectors(model) == (int8_c.vectors, 3, "")
    finally:
        vector.reshape(-1)[:3] ^= 1
    bare = EspdlModel(**{**vars(model), "test_inputs": {}, "test_outputs": {}})
    assert compare_vectors(bare) == (0, 0, "")
