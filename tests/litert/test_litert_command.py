"""``python -m uhd.host litert``, with a stand-in for onnx2tf: arguments, files, sidecars, mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from support.litert_rig import empty, rig, told, utod_onnx
from support.scene_folder import write_scenes
from uhd.export.litert_manifest import load_litert_manifest
from uhd.files import sha256_file
from uhd.host.__main__ import main
from uhd.manifest import load_manifest


@pytest.fixture(autouse=True)
def build_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Logs go where nobody else's are, and the user's own environment is not found."""
    monkeypatch.setenv("UHD_BUILD", str(tmp_path / "build"))
    monkeypatch.setenv("UHD_LITERT", str(tmp_path / "nowhere"))
    return tmp_path / "build"


def words(model: object, output: Path, environment: Path, *more: object) -> list[str]:
    return ["litert", str(model), "--output", str(output), "--environment", str(environment), *map(str, more)]


def test_files_sidecars_and_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes, made, output = write_scenes(tmp_path / "scenes", 6), rig(tmp_path / "env"), tmp_path / "out"
    more = ("--calibration", scenes, "--calib-steps", 4, "--kinds", "int8, float32", "--val", scenes)
    assert main(words(utod_onnx(), output, made.folder, *more, "--json")) == 0
    said = json.loads(capsys.readouterr().out)
    stem = "utod_parts"
    files = [f"{stem}{suffix}" for suffix in ("_float32", "_full_integer_quant")]
    pairs = [f"{stem}_anchors.npy", f"{stem}_wh_scale.npy"]
    everything = [*pairs, *(f"{file}{ending}" for file in files for ending in (".tflite", ".json"))]
    assert sorted(path.name for path in output.iterdir()) == sorted(everything)
    assert [Path(file["path"]).stem for file in said["files"]] == files
    assert [Path(path).name for path in said["extra_files"]] == pairs

    single, integer = (load_litert_manifest(output / f"{file}.tflite") for file in files)
    assert np.array_equal(np.load(output / pairs[0]), np.asarray(single.anchors, np.float32))
    assert single.litert.sha256 == sha256_file(output / f"{files[0]}.tflite")
    maps = ["box", "obj", "quality", "cls"]
    assert [t.name for t in single.litert.outputs] != maps, "onnx2tf has put them in another order"
    assert single.litert.input.shape == [1, 64, 64, 3] and single.litert.input.scale is None
    assert all(sorted(t.name for t in one.litert.outputs) == sorted(maps) for one in (single, integer))
    assert {t.dtype for t in (integer.litert.input, *integer.litert.outputs)} == {"int8"}
    assert all(t.scale and t.scale > 0 for t in integer.litert.outputs)
    assert integer.litert.calibration == "4 photos of scenes" and single.litert.calibration is None
    assert integer.litert.compared == "4 of 4 photos of scenes"
    assert max(single.litert.differences.values()) < 1e-4 < max(integer.litert.differences.values())

    (accuracy,) = single.litert.accuracy
    assert (accuracy.data, accuracy.images, accuracy.engine) == ("scenes", 6, "litert")
    assert accuracy.map50 == pytest.approx(said["onnx"]["map50"], abs=1e-4)
    assert said["onnx"]["engine"] == "onnx"


def test_what_onnx2tf_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes, made = write_scenes(tmp_path / "scenes", 3), rig(tmp_path / "env")
    more = ("--calibration", scenes, "--kinds", "float32,int8")
    assert main(words(utod_onnx(), tmp_path / "out", made.folder, *more)) == 0
    heard = capsys.readouterr()
    asked = told(made)["words"]
    assert asked[asked.index("--quant_norm_mean") + 1] == "[[[[0.0, 0.0, 0.0]]]]"
    assert asked[asked.index("--quant_norm_std") + 1] == "[[[[1.0, 1.0, 1.0]]]]"
    assert asked[asked.index("--custom_input_op_name_np_data_path") + 1] == "input_rgb"
    assert told(made)["shape"] == [3, 64, 64, 3], "photographs that it would fetch are ours"
    assert "Full INT8 Quantization" in heard.err and "[3/3] convert   to float32, int8" in heard.err
    assert "3 of 3 photos of scenes" in heard.err
    rows = [line.split() for line in heard.out.splitlines()]
    assert [row[0] for row in rows[1:5]] == ["kind", "onnx", "float32", "int8"]
    assert "mAP" not in heard.out and "also: " in heard.out


def test_float_kinds_need_no_photos(tmp_path: Path) -> None:
    made, output = rig(tmp_path / "env"), tmp_path / "out"
    assert main(words(utod_onnx(), output, made.folder, "--kinds", "float32")) == 0
    assert load_litert_manifest(output / "utod_parts_float32.tflite").litert.compared == "32 of 32 generated scenes"


MISTAKES = [
    (["missing.onnx", "--output", "out"], "missing.onnx: no such file; give an .onnx file, a checkpoint, or a variant"),
    (["{onnx}", "--output", "out"], "kind int8 is calibrated on photos, and there are none; give --calibration DIR"),
    (["{onnx}", "--output", "out", "--kinds", "int4"], "unknown kind 'int4'; choose from float32, float16, dynamic"),
    (["{onnx}", "--output", "out", "--kinds", "float16"], "it made no model_float16.tflite; its log is "),
    (["{onnx}", "--output", "{onnx}", "--kinds", "float32"], "not a folder; choose another --output"),
    (["{onnx}", "--output", "out", "--val", "{empty}", "--kinds", "float32"], "empty"),
    (["{onnx}", "--output", "out", "--calibration", "{empty}"], "no photos directly in it"),
    (["{onnx}", "--output", "out", "--classes", "x"], "'x' is not a comma-separated list"),
    (["{other}", "--output", "out", "--kinds", "float32"], "its outputs ("),
    (["{other}x", "--output", "out"], "no such file"),
    (["{python}", "--output", "out", "--kinds", "float32"], "neither an .onnx file nor a checkpoint"),
    (["{onnx}"], "give --output"),
    ([], "name a model, or give --install"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistakes_are_one_line_and_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str],
    message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    made = rig(tmp_path / "env")
    (tmp_path / "empty").mkdir()
    known = {"onnx": utod_onnx(), "other": utod_onnx(name="cnn"), "empty": tmp_path / "empty", "python": made.python}
    filled = [word.format(**known) for word in arguments]
    assert main(["litert", *filled, "--environment", str(made.folder)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and message in last
    assert not (tmp_path / "out").exists()


def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, changed = rig(tmp_path / "env"), tmp_path / "changed.onnx"
    model = onnx.load(utod_onnx())
    bias = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("cls_out.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, bias.name))
    onnx.save(model, changed)
    assert main(words(changed, tmp_path / "out", made.folder, "--kinds", "float32")) == 2
    assert "changed: the float32 file differs from ONNX by " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_log_of_a_failure_is_kept(tmp_path: Path, build_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = empty(tmp_path / "env")
    assert main(words(utod_onnx(), tmp_path / "out", made.folder, "--kinds", "float32")) == 2
    log = build_folder / "logs" / "litert-utod_parts.log"
    said = capsys.readouterr().err
    assert f"could not convert it: ModuleNotFoundError: No module named 'onnx2tf'; its log is {log}" in said
    assert log.read_text().startswith("$ ") and "Traceback" in log.read_text()
    assert not (tmp_path / "out").exists()


def test_without_the_environment_the_way_out_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["litert", str(utod_onnx()), "--output", str(tmp_path / "out"), "--kinds", "float32"]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'nowhere'}, does not exist; make it with `python -m uhd.host litert --install`" in said


def test_a_model_as_it_was(tmp_path: Path) -> None:
    """The sidecar is the model's manifest, and more; the ONNX file is not written to."""
    made, output, before = rig(tmp_path / "env"), tmp_path / "out", utod_onnx().read_bytes()
    assert main(words(utod_onnx(), output, made.folder, "--kinds", "float32")) == 0
    sidecar = json.loads((output / "utod_parts_float32.json").read_text())
    about = sidecar.pop("litert")
    (tmp_path / "plain.json").write_text(json.dumps(sidecar))
    assert load_manifest(tmp_path / "plain.json").name == "utod"
    assert about["layout"] == "NHWC" and about["head"] == "anchor"
    assert utod_onnx().read_bytes() == before
