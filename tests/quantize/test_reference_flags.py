"""The words of the published quantization commands, and the flags beside them."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from support.flavours import exported, whole_model
from support.photos import random_rgb, save_png
from support.quantize_nets import detector_onnx, pictures
from support.shared import shared_dir
from uhd.errors import ConfigError, DataError, ModelError
from uhd.host.__main__ import main
from uhd.host.quantize import command
from uhd.quantize.calibration import chosen_photos
from uhd.quantize.depthwise import expand_groups, int16_patterns
from uhd.quantize.patterns import Operator, select


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six photos; of every second the label shows a person, of the others nothing or class 1."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(6):
        save_png(folder / f"{index}.png", random_rgb(index))
        (folder / f"{index}.txt").write_text(
            ("0 0.5 0.5 0.2 0.2\n", "", "0 0.5 0.5 0.2 0.2\n", "1 0.5 0.5 0.1 0.1\n")[index % 4]
        )
    return folder


def published_commands() -> list[list[str]]:
    text = shared_dir("spec", "readme-commands.md").read_text()
    blocks = text.split("uhd/quantize_onnx_model_for_esp32.py")[1:]
    commands = []
    for block in blocks:
        lines = []
        for line in block.splitlines():
            lines.append(line.rstrip("\\ "))
            if not line.endswith("\\"):
                break
        commands.append(shlex.split(" ".join(lines)))
    return commands


def test_published_commands_are_understood() -> None:
    """Every word of them; and every pattern finds an operator of the graph that it is for, or of one of parts."""
    commands = published_commands()
    assert len(commands) == 11
    graph = onnx.load(detector_onnx()[0]).graph
    operators = [Operator(node.name, node.op_type) for node in graph.node]
    for words in commands:
        context = command.make_context("quantize", list(words))
        values = context.params
        assert str(values["onnx_model"]).endswith(".onnx") and values["dataset_type"] == "image"
        patterns = values["int16_op_pattern"]
        chosen = select(operators, patterns)
        left_out = [p for p in patterns if "obj_conv" in p]  # a branch that this graph does not have
        assert len(chosen.int16) >= len(patterns) - len(left_out)
        assert [note for note in chosen.notes if "no obj branch" in note] == [
            f"{p}: the graph has no obj branch, which its score does not use" for p in left_out
        ]


@pytest.mark.parametrize("index", range(11) if os.environ.get("UHD_TEST_COMMANDS") == "all" else [2, 5])
def test_commands_as_written(
    index: int, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A published command, every word of it, with the file that it names (of a small network) and photos in place.

    Two by default: the longest, on a parts file, and one on a file with a single map, with a pattern for a branch that
    its score does not use. ``UHD_TEST_COMMANDS=all`` runs the eleven, which takes a minute or two.
    """
    words = published_commands()[index]
    monkeypatch.chdir(tmp_path)
    name = Path(words[words.index("--onnx-model") + 1])
    model = exported("parts", colours=3) if name.stem.endswith("_nocat") else whole_model()
    name.write_bytes(model.read_bytes())
    place = Path(words[words.index("--image-dir") + 1])
    place.parent.mkdir(parents=True)
    photos.rename(place)
    assert main(["quantize", *words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert Path(words[words.index("--espdl-model") + 1]).exists() and said["test_vector_mismatches"] == 0
    assert [tensor["name"] for tensor in said["outputs"]] == ["box", "quality", "cls"]
    wanted = [words[at + 1] for at, word in enumerate(words) if word == "--int16-op-pattern"]
    missing = [pattern for pattern in wanted if not any(pattern[-20:] in found for found in said["int16_operators"])]
    # A Relu fused into its convolution is no operator of its own any more.
    assert all(pattern.endswith("/act/Relu") or "/obj_conv/" in pattern for pattern in missing)
    assert all(f["severity"] == "note" for f in said["findings"])


def test_which_photos(photos: Path, tmp_path: Path) -> None:
    names = [p.name for p in chosen_photos(photos)]
    assert names == [f"{i}.png" for i in range(6)]
    assert [p.name for p in chosen_photos(photos, labelled=True)] == ["0.png", "2.png", "4.png"]
    assert [p.name for p in chosen_photos(photos, labelled=True, class_ids=(1,))] == ["3.png"]
    listed = tmp_path / "list.txt"
    listed.write_text("5.png\n1.png\n")
    assert [p.name for p in chosen_photos(photos, list_path=listed)] == ["5.png", "1.png"]
    train = chosen_photos(photos, labelled=True, split="train", val_split=0.34)
    val = chosen_photos(photos, labelled=True, split="val", val_split=0.34)
    assert len(train) == 2 and len(val) == 1 and {*train, *val} == set(chosen_photos(photos, labelled=True))
    with pytest.raises(DataError, match="no labelled photos"):
        chosen_photos(photos, labelled=True, split="val")


def test_grouped_convolutions_as_dense_ones(tmp_path: Path) -> None:
    source, _ = detector_onnx()
    count = expand_groups(source, tmp_path / "dense.onnx")
    dense = onnx.load(tmp_path / "dense.onnx")
    groups = [a.i for node in dense.graph.node for a in node.attribute if a.name == "group"]
    assert count > 5 and set(groups) <= {1}
    image = pictures(1)
    before, after = (
        onnxruntime.InferenceSession(str(path)).run(None, {"input_yuv422": image})
        for path in (source, tmp_path / "dense.onnx")
    )
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_depthwise_convolutions_by_name(tmp_path: Path) -> None:
    source, _ = detector_onnx()
    nodes = onnx.load(source).graph.node
    names, maker = [node.name for node in nodes], {out: node.name for node in nodes for out in node.output}
    chosen = {name for p in int16_patterns(source) for name in names if re.search(p, name)}
    assert {n for n in names if n.startswith("/depthwiseconv/")} < chosen
    behind = [node for node in nodes if node.name in chosen and not node.name.startswith("/depthwiseconv/")]
    assert behind and all(maker[node.input[0]].startswith("/depthwiseconv/") for node in behind)
    expand_groups(source, tmp_path / "dense.onnx")
    plain = onnx.load(source)
    for number, node in enumerate(plain.graph.node):
        node.name = f"node_{number}"
    onnx.save(plain, tmp_path / "plain.onnx")
    with pytest.raises(ModelError, match="no depthwise convolution by name"):
        int16_patterns(tmp_path / "plain.onnx")


def test_flags_of_the_command(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx_path, _ = detector_onnx()
    base = ["quantize", str(onnx_path), "--calibration", str(photos), "--target", "c", "--calib-algorithm", "minmax"]
    base += ["--output", str(tmp_path / "r.espdl"), "--json"]
    extra = ["--dataset-type", "yolo", "--batch-size", "2", "--calib-steps", "1", "--img-size", "64x64"]
    extra += ["--auto-int16-depthwiseconv", "--export-anchors-wh-scale-dir", str(tmp_path), "--device", "cpu"]
    assert main([*base, *extra]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["calibration_images"] == 2 and len(said["int16_operators"]) > 5
    assert (tmp_path / "r_anchors.npy").exists() and (tmp_path / "r_wh_scale.npy").exists()
    for words, message in (
        (["--img-size", "32"], "its input is 64x64"),
        (["--img-size", "a"], "write 64 or 64x48"),
        (["--class-ids", "x"], "write numbers"),
    ):
        assert main([*base, *words]) == 2
        assert message in capsys.readouterr().err


def test_patterns_of_the_whole_model() -> None:
    operators = [Operator("/depthwiseconv/backbone/block1/dw/conv/Conv", "Conv"), Operator("/box_out/Conv", "Conv")]
    chosen = select(operators, ["/model/backbone/block1/dw/conv/Conv", "/model/head/box_out/Conv"])
    assert len(chosen.int16) == 2 and len(chosen.notes) == 2
    with pytest.raises(ConfigError, match="matches none"):
        select(operators, ["/model/head/other/Conv"])
