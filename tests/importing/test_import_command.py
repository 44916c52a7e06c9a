"""``python -m uhd.host import``: what it prints, what it writes, and every mistake as one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from support.imports import known_model, published
from support.scene_folder import write_scenes
from uhd.export.metadata import read_manifest
from uhd.host.__main__ import main
from uhd.models.checkpoint import load_checkpoint, load_ultratinyod
from uhd.models.reference import SETTINGS

OPTIONS: dict[str, Any] = {"activation": "relu", "residual": True, "improved_head": True}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one network as a published checkpoint, and as ONNX of two flavours without any metadata."""
    folder = tmp_path_factory.mktemp("published")
    model = known_model(**OPTIONS)
    stored = {setting: getattr(model.config, option) for setting, option in SETTINGS.items() if option != "score_mode"}
    raw, ema = model.state_dict(), known_model(**OPTIONS).state_dict()
    ema["head.box_out.bias"] = raw["head.box_out.bias"] + 1
    stored |= {"arch": "ultratinyod", "resize_mode": "opencv_inter_nearest_yuv422", "img_size": "32x32"}
    torch.save({"model": raw, "ema": ema, **stored}, folder / "net.pt")
    published(
        folder / "ultratinyod_anc2_w4_32x32_opencv_inter_nearest_yuv422_static.onnx", model, "post", properties=False
    )
    published(folder / "plain.onnx", model, properties=False)
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["import", *map(str, arguments), "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def how(summary: dict[str, Any]) -> dict[str, tuple[Any, str]]:
    return {finding["what"]: (finding["value"], finding["how"]) for finding in summary["findings"]}


@pytest.mark.parametrize(("choice", "shift"), [("auto", 1), ("ema", 1), ("raw", 0)])
def test_choice_of_weights(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], choice: str, shift: int
) -> None:
    output = tmp_path / "a.safetensors"
    summary = run(capsys, files / "net.pt", "--output", output, "--weights", choice)
    model, manifest = load_ultratinyod(output)
    bias = known_model(**OPTIONS).head.box_out.bias
    torch.testing.assert_close(model.head.box_out.bias, bias + shift)
    assert manifest.training["averaged_weights"] is bool(shift)
    assert how(summary)["weights"] == (
        "averaged (EMA)" if shift else "as trained (raw)",
        "the file's choice" if choice == "auto" else "given",
    )
    assert how(summary)["activation"] == ("relu", "stated in the file")
    assert how(summary)["score_mode"] == ("obj_quality_cls", "default of its head")
    assert summary["difference"] is None and "tensors are those of the file" in summary["verified"]


def test_the_file_name_tells_what_the_file_does_not(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = files.glob("ultratinyod*.onnx")
    found = how(run(capsys, path, "--output", tmp_path / "a.safetensors"))
    assert found["resize mode"] == ("opencv_inter_nearest_yuv422", "from the file name")
    assert found["anchors"] == (2, "from the graph: anchors and wh_scale multiplied")
    found = how(run(capsys, files / "plain.onnx", "--output", tmp_path / "b.safetensors"))
    assert found["resize mode"][1] == found["quality power"][1] == "default: nothing says it"
    assert found["anchors"] == (2, "stated in the file")
    assert found["activation"] == ("relu", "from the graph")
    arguments = ["--resize-mode", "opencv_inter_nearest_yuv422", "--output", tmp_path / "c.safetensors"]
    assert how(run(capsys, files / "plain.onnx", *arguments))["resize mode"][1] == "given"


def test_text(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = files.glob("ultratinyod*.onnx")
    assert main(["import", str(path), "--output", str(tmp_path / "a.safetensors")]) == 0
    text = capsys.readouterr().out
    assert re.search(r"improved_head +yes +from the graph", text)
    assert "note: normalisations were folded into the convolutions; to train on, import with --photos DIR" in text
    assert "verified: its maps are those of the file in ONNX Runtime, largest difference " in text
    assert ", of boxes " in text


def test_statistics_for_those_who_train_on(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In training mode a batch normalises itself: with measured statistics that changes nothing much."""
    photos = write_scenes(tmp_path / "photos", 6, size=(40, 40))
    shifts = []
    for extra in ([], ["--photos", photos]):
        output = tmp_path / f"{len(extra)}.safetensors"
        summary = run(capsys, files / "plain.onnx", "--output", output, *extra)
        assert summary["difference"]["maps"] <= 1e-5
        model, manifest = load_checkpoint(output)
        from uhd.quantize.calibration import from_photos

        pictures = torch.from_numpy(from_photos(photos, manifest).array)
        with torch.no_grad():
            want, got = model.maps(pictures)["box"], model.train().maps(pictures)["box"]
        shifts.append(float((want - got).abs().max()))
    assert "measured on 6 photos of photos" in summary["notes"][-1]
    assert shifts[1] < 1e-4 < 0.1 < shifts[0]


def yolo(path: Path) -> None:
    """A detector of another project: convolutions to one tensor of boxes."""
    weight = numpy_helper.from_array(np.ones((85, 3, 3, 3), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["c"], "/model.24/m.0/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c"], ["s"], "/model.24/Sigmoid"),
        helper.make_node("Transpose", ["s"], ["output0"], "/model.24/Transpose", perm=[0, 2, 3, 1]),
    ]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 32, 32, 85])
    graph = helper.make_graph(nodes, "yolo", [image], [output], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


class Payload:
    """What must never be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("executed"),))


@pytest.fixture
def folder(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The published files, and files that are no such thing, in the working directory."""
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    yolo(tmp_path / "yolo.onnx")
    torch.save({"model": Payload()}, tmp_path / "code.pt")
    (tmp_path / "cut.pt").write_bytes((files / "net.pt").read_bytes()[:3000])
    (tmp_path / "cut.onnx").write_bytes((files / "plain.onnx").read_bytes()[:3000])
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    (tmp_path / "model.espdl").write_bytes(b"EDL2" + bytes(100))
    (tmp_path / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    (tmp_path / "there.safetensors").write_bytes(b"kept")
    bare = onnx.load(tmp_path / "plain.onnx")
    for name in ("anchors", "wh_scale"):
        for kind in (bare.graph.output, bare.graph.initializer):
            kind.remove(next(value for value in kind if value.name == name))
    onnx.save(bare, tmp_path / "no_anchors.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.pt"], "missing.pt: cannot read it (No such file or directory); check the path"),
        (["."], ".: cannot read it (Is a directory)"),
        (["yolo.onnx"], "yolo.onnx: not an UltraTinyOD, as no convolutions make maps of boxes and scores"),
        (["code.pt"], "code.pt: holds more than weights and settings, not loaded"),
        (["cut.pt"], "cut.pt: damaged or truncated"),
        (["cut.onnx"], "cut.onnx: damaged, truncated, or not an ONNX file"),
        (["empty.onnx"], "empty.onnx: damaged, truncated, or not an ONNX file"),
        (["photo.jpg"], "photo.jpg: damaged, truncated, or not an ONNX file"),
        (["model.espdl"], "model.espdl: an .espdl file, whose integers are final; import the .onnx or .pt"),
        (["model.tflite"], "model.tflite: a LiteRT file; import the .onnx or .pt it was made from"),
        (["no_anchors.onnx"], "no_anchors.onnx: carries no anchors, so its boxes cannot be decoded"),
        (["net.pt", "--output", "there.safetensors"], "there.safetensors: exists; choose another --output"),
        (["net.pt", "--output", "out.pt"], "out.pt: its name must end in .safetensors; try out.safetensors"),
        (["plain.onnx", "--as", "onnx"], "out.safetensors: its name must end in .onnx; try out.onnx"),
        (["plain.onnx", "--as", "onnx", "--output", "plain.onnx", "--force"], "this would replace the file to import"),
        (["net.pt", "--as", "onnx", "--output", "out.onnx"], "net.pt: a checkpoint, not an ONNX file"),
        (["plain.onnx", "--weights", "ema"], "plain.onnx: an ONNX file leaves no choice"),
        (["net.pt", "--photos", "."], "net.pt: a checkpoint has its statistics"),
        (["plain.onnx", "--photos", "nowhere"], "nowhere"),
        (["plain.onnx", "--resize-mode", "bicubic"], "unknown resize mode 'bicubic'; choose one of torch_bilinear"),
        (["plain.onnx", "--resize-mode", "torch_bilinear"], "torch_bilinear makes 3 channels, but its input has 2"),
        (["net.pt", "--resize-mode", "torch_bilinear"], "made for resize mode opencv_inter_nearest_yuv422"),
        (["net.pt", "--output", "photo.jpg/out.safetensors"], "photo.jpg/out.safetensors: cannot write there"),
        (["there.safetensors"], "there.safetensors: damaged, truncated, or not an ONNX file"),
    ],
)  # fmt: skip
def test_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    outputs = [] if "--output" in arguments else ["--output", "out.safetensors"]
    assert main(["import", *arguments, *outputs]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_force_replaces(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "net.pt", "--output", "there.safetensors", "--force")
    assert load_ultratinyod(Path("there.safetensors"))[0].config.width == 4


def test_no_checkpoint_of_ours_is_imported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "net.pt", "--output", "ours.safetensors")
    assert main(["import", "ours.safetensors", "--output", "out.safetensors"]) == 2
    assert "a safetensors file; a checkpoint of ours needs no import" in capsys.readouterr().err


@pytest.fixture
def stranger(folder: Path) -> Path:
    """An UltraTinyOD with an activation that none of ours has."""
    model = onnx.load(folder / "plain.onnx")
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Elu"
    onnx.save(model, folder / "stranger.onnx")
    return folder / "stranger.onnx"


def test_a_graph_of_another_kind_is_kept_as_it_is(stranger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = run(capsys, stranger, "--output", "out.safetensors")
    assert (summary["kind"], summary["output"]) == ("onnx", "out.onnx")
    assert summary["notes"][0].startswith("no architecture of ours") and "copied as ONNX instead" in summary["notes"][0]
    assert not Path("out.safetensors").exists()
    copy, original = onnx.load("out.onnx"), onnx.load(stranger)
    assert copy.graph == original.graph
    manifest = read_manifest(copy, "out.onnx")
    assert manifest is not None
    assert (manifest.resize_mode, manifest.score_mode) == ("opencv_inter_nearest_yuv422", "obj_quality_cls")
    assert len(manifest.anchors) == len(manifest.wh_scale) == 2
    again = run(capsys, "out.onnx", "--as", "onnx", "--output", "again.onnx")
    assert how(again)["resize mode"] == ("opencv_inter_nearest_yuv422", "stated in the file")
    assert Path("again.onnx").read_bytes() == Path("out.onnx").read_bytes()


def test_unless_a_checkpoint_is_asked_for(stranger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(stranger), "--as", "checkpoint", "--output", "out.safetensors"]) == 2
    error = capsys.readouterr().err
    assert "no architecture of ours (" in error and "--as onnx" in error and error.count("\n") == 1
