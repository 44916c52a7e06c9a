"""``LiteRTModel``: maps by name, integers at the borders, damaged files."""

from __future__ import annotations

import builtins
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.architectures import small
from support.litert_rig import FILES, real_environment, rig, utod_onnx
from support.quantize_nets import pictures
from uhd.errors import ModelError, ToolMissingError
from uhd.export.litert_interpreter import _dequantized, _quantized
from uhd.export.litert_manifest import SUFFIXES, load_litert_manifest
from uhd.export.litert_model import LiteRTModel
from uhd.litert.make import Photos, make
from uhd.litert.source import read_model
from uhd.quantize.calibration import Calibration

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both files of the small UltraTinyOD, with sidecars."""
    base = tmp_path_factory.mktemp("litert")
    photos = Photos(Calibration(pictures(8, (3, 64, 64)), "8 waves"))
    make(rig(base / "env"), read_model(str(utod_onnx())), ["float32", "int8"], base / "out", photos)
    return base / "out"


@pytest.fixture
def float_file(folder: Path, tmp_path: Path) -> Path:
    """A copy of the float32 file with its sidecar."""
    for suffix in (".tflite", ".json"):
        shutil.copy(folder / f"utod_parts_float32{suffix}", tmp_path / f"m{suffix}")
    return tmp_path / "m.tflite"


def test_the_float_file_computes_what_the_model_does(folder: Path) -> None:
    import torch

    model = LiteRTModel(folder / "utod_parts_float32.tflite")
    assert model.input_shape == (1, 64, 64, 3)
    network = small("utod")
    for picture in pictures(3, (3, 64, 64), seed=1):
        found = model.run(picture.transpose(1, 2, 0)[None])
        with torch.no_grad():
            expected = network.maps(torch.from_numpy(picture[None]))
        assert set(found) == set(model.output_names) == {"box", "obj", "quality", "cls"}
        for name, values in found.items():
            assert values.dtype == np.float32 and values.flags.c_contiguous
            assert values == pytest.approx(expected[name].numpy(), abs=1e-4)


def test_the_integer_file_is_close_and_on_its_grid(folder: Path) -> None:
    path = folder / "utod_parts_full_integer_quant.tflite"
    model, single = LiteRTModel(path), LiteRTModel(folder / "utod_parts_float32.tflite")
    picture = pictures(1, (3, 64, 64), seed=2)[0].transpose(1, 2, 0)[None]
    found, expected = model.run(picture), single.run(picture)
    for tensor in load_litert_manifest(path).litert.outputs:
        assert tensor.scale is not None and tensor.zero_point is not None
        integers = found[tensor.name] / np.float32(tensor.scale) + tensor.zero_point
        assert integers == pytest.approx(np.rint(integers), abs=1e-3)
        assert integers.min() >= -128.001 and integers.max() <= 127.001
        spread = float(expected[tensor.name].max() - expected[tensor.name].min())
        assert np.abs(found[tensor.name] - expected[tensor.name]).mean() < 0.25 * max(spread, tensor.scale)


def test_another_shape_is_refused(folder: Path) -> None:
    model = LiteRTModel(folder / "utod_parts_float32.tflite")
    with pytest.raises(ModelError, match=r"its input is \[1, 64, 64, 3\], not \[1, 3, 64, 64\]"):
        model.run(np.zeros((1, 3, 64, 64), np.float32))


def test_a_changed_file_is_refused(float_file: Path) -> None:
    data = bytearray(float_file.read_bytes())
    data[-100] ^= 1
    float_file.write_bytes(data)
    with pytest.raises(ModelError, match="not the file of its sidecar; convert the model again"):
        LiteRTModel(float_file)


@pytest.mark.parametrize("data", [b"", b"\x1c\0\0\0TFL3" + bytes(40), b"not a model"])
def test_what_is_no_tflite_file_is_refused(float_file: Path, data: bytes) -> None:
    from uhd.files import sha256_bytes

    sidecar = json.loads(float_file.with_suffix(".json").read_text())
    sidecar["litert"]["sha256"] = sha256_bytes(data)
    float_file.with_suffix(".json").write_text(json.dumps(sidecar))
    float_file.write_bytes(data)
    with pytest.raises(ModelError, match=r"LiteRT does not take it \("):
        LiteRTModel(float_file)


def test_a_sidecar_that_names_another_tensor_is_refused(float_file: Path) -> None:
    sidecar = json.loads(float_file.with_suffix(".json").read_text())
    sidecar["litert"]["outputs"][0]["tensor"] = "Nobody"
    float_file.with_suffix(".json").write_text(json.dumps(sidecar))
    with pytest.raises(ModelError, match="has no output Nobody, which its sidecar names"):
        LiteRTModel(float_file)


def test_without_a_sidecar(float_file: Path) -> None:
    float_file.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match=r"m\.json: cannot read the manifest .*; keep the \.json file"):
        LiteRTModel(float_file)


def test_a_plain_manifest_is_no_sidecar(float_file: Path) -> None:
    sidecar = json.loads(float_file.with_suffix(".json").read_text())
    del sidecar["litert"]
    float_file.with_suffix(".json").write_text(json.dumps(sidecar))
    with pytest.raises(ModelError, match=r"m\.json: manifest key litert: Field required"):
        LiteRTModel(float_file)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        LiteRTModel(tmp_path / "none.tflite")


def test_without_ai_edge_litert_the_way_out_is_named(float_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("ai_edge_litert"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ToolMissingError, match="ai-edge-litert is not installed.*pip install"):
        LiteRTModel(float_file)


@settings(deadline=None)
@given(
    st.sampled_from(["int8", "uint8", "int16"]),
    st.floats(2**-12, 4),
    st.integers(-100, 100),
    st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20),
)
def test_integers_at_the_borders(dtype: str, scale: float, zero_point: int, values: list[float]) -> None:
    """There and back, a value within the range of the integers moves by half a step at most; others are clipped."""
    zero_point = max(zero_point, 0) if dtype == "uint8" else zero_point
    about = {"dtype": dtype, "scale": scale, "zero_point": zero_point}
    array, limits = np.asarray(values, np.float32), np.iinfo(dtype)
    integers = _quantized(array, about)
    back = _dequantized(integers, about)
    low, high = ((limit - zero_point) * scale for limit in (limits.min, limits.max))
    assert integers.dtype == dtype and back.dtype == np.float32
    assert np.abs(back - np.clip(array, low, high)).max() <= 0.5 * scale * (1 + 1e-3) + 1e-4


def test_the_real_files_are_those_of_onnx2tf(folder: Path) -> None:
    assert {path.name for path in FILES.iterdir()} == {"utod_float32.tflite", "utod_full_integer_quant.tflite"}
    for kind in ("float32", "full_integer_quant"):
        assert (folder / f"utod_parts_{kind}.tflite").read_bytes() == (FILES / f"utod_{kind}.tflite").read_bytes()


@pytest.mark.slow
def test_onnx2tf_itself(tmp_path: Path) -> None:
    """Where TensorFlow is: all five kinds, by the real converter, of a head without anchors."""
    photos = Photos(Calibration(pictures(4, (3, 64, 64)), "4 waves"))
    kinds = list(SUFFIXES)
    report = make(real_environment(), read_model(str(utod_onnx(name="cnn"))), kinds, tmp_path / "out", photos)
    assert [made.manifest.litert.kind for made in report.files] == kinds
    assert report.files[0].largest < 1e-4 and report.files[1].largest < 0.02
    assert {"onnx2tf", "tensorflow", "ai-edge-litert", "uhd"} == set(report.files[0].manifest.litert.tools)
    for made in report.files:
        maps = LiteRTModel(made.path).run(pictures(1, (3, 64, 64))[0].transpose(1, 2, 0)[None])
        assert set(maps) == {"hm", "off", "wh"}
