"""The published export commands, as they stand in their users' notes, behind ``python -m uhd.host export``."""

from __future__ import annotations

import json
from pathlib import Path

import click
import onnx
import pytest
import torch

from support.reference_commands import program_commands, value_of
from support.shared import shared_dir
from uhd.export.record import read_record
from uhd.host.__main__ import main
from uhd.host.export import command
from uhd.host.export_flags import choose_flavour
from uhd.models import UltraTinyODConfig
from uhd.models.ultratinyod import UltraTinyOD

FLAVOURS = {"static": "post", "dynamic": "post", "static_nopost": "parts", "dynamic_nopost": "parts"}


def commands() -> list[list[str]]:
    try:
        return program_commands(shared_dir("spec", "readme-commands.md"), "export_onnx.py")
    except pytest.skip.Exception:
        return []


ALL = commands()


def ending(arguments: list[str]) -> str:
    """``static_nopost`` of ``..._opencv_inter_nearest_y_static_nopost.onnx``."""
    stem = Path(value_of(arguments, "--output") or "").stem
    return max((end for end in FLAVOURS if stem.endswith(end)), key=len)


def test_all_of_them_are_understood() -> None:
    if not ALL:
        pytest.skip("fixtures not here")
    text = shared_dir("spec", "readme-commands.md").read_text()
    assert len(ALL) == text.count("export_onnx.py") == 24
    for arguments in ALL:
        given = command.make_context("export", list(arguments)).params
        assert choose_flavour(given["flavour"], given) == FLAVOURS[ending(arguments)]
        assert given["dynamic_resize"] == ending(arguments).startswith("dynamic")
        assert given["opset"] == 17


def test_every_flag_of_the_reference_is_there() -> None:
    rows = json.loads(shared_dir("spec", "cli_flags.json").read_text())["export_onnx"]
    known = {flag for param in command.params if isinstance(param, click.Option) for flag in param.opts}
    assert {flag for row in rows for flag in row["flags"]} <= known


def write_small(path: Path) -> None:
    """The kind of model that the commands export, of width 2, in the published form."""
    config = UltraTinyODConfig(
        width=2, in_channels=1, activation="relu", residual=True, improved_head=True, iou_aware_head=True, head_ese=True
    )
    stored = {
        "model": UltraTinyOD(config).state_dict(), "ema": None, "use_ema": False, "arch": "ultratinyod",
        "img_size": "64x64", "resize_mode": "opencv_inter_nearest_y", "activation": "relu", "cnn_width": 2,
        "use_improved_head": True, "use_batchnorm": True, "classes": [0], "use_iou_aware_head": True,
        "utod_residual": True, "utod_head_ese": True,
    }  # fmt: skip
    path.parent.mkdir(parents=True)
    torch.save(stored, path)


@pytest.mark.parametrize("arguments", ALL[:4], ids=ending)
def test_they_run_as_written(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One width: the commands of the others differ from it in names alone."""
    monkeypatch.chdir(tmp_path)
    write_small(Path(value_of(arguments, "--checkpoint") or ""))
    assert main(["export", *arguments]) == 0
    file = onnx.load(value_of(arguments, "--output") or "")
    record = read_record(file, "file")
    assert record is not None
    assert (record.flavour, record.input.name) == (FLAVOURS[ending(arguments)], "input_y")
    assert (file.graph.node[0].name == "InputResize") == ending(arguments).startswith("dynamic")


OTHERS = [
    (["--no-merge-postprocess", "--opset", "18"], "raw"),
    (["--merge-primitive-postprocess", "--no-simplify"], "primitive"),
    (["--topk", "5", "--conf-thresh", "0.3", "--no-decompose-bn"], "post"),
]


@pytest.mark.parametrize(("flags", "flavour"), OTHERS)
def test_the_other_flags(flags: list[str], flavour: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_small(tmp_path / "run" / "a.pt")
    output = tmp_path / "a.onnx"
    assert main(["export", "--weights", str(tmp_path / "run" / "a.pt"), "--output", str(output), *flags, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["flavour"] == flavour
    assert summary["max_difference"] <= 1e-5
    constants = sum(node.op_type == "Constant" for node in onnx.load(output).graph.node)
    assert (constants > 10) == ("--no-simplify" in flags)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--noconcat_box_obj_quality_cls"], "--noconcat_box_obj_quality_cls needs --no-merge-postprocess"),
        (["--merge-primitive-postprocess", "--no-merge-postprocess"], "exclude each other"),
        (["--merge-primitive-postprocess", "--noconcat_box_obj_quality_cls"], "needs --no-merge-postprocess"),
        (["--no-merge-postprocess", "--flavour", "fast"], "--flavour fast contradicts the flags, which mean raw"),
        (["--weights", "b.pt"], "name one checkpoint, not several"),
        (["--no-merge-postprocess", "--conf-thresh", "0.5"], "flavour raw selects nothing"),
    ],
)
def test_flags_that_contradict(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--checkpoint", "a.pt", "--output", "a.onnx", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_no_checkpoint_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--output", "a.onnx"]) == 2
    assert "name one checkpoint" in capsys.readouterr().err


def test_weights_that_are_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run" / "a.pt"
    write_small(path)
    stored = torch.load(path, weights_only=True)
    del stored["model"]["backbone.sppf.cv2.conv.weight"]
    stored["model"]["extra"] = torch.zeros(3)
    torch.save(stored, path)
    arguments = ["export", str(path), "--output", str(tmp_path / "a.onnx")]
    assert main(arguments) == 2
    assert "1 missing (e.g. backbone.sppf.cv2.conv.weight), 1 unknown (e.g. extra)" in capsys.readouterr().err
    assert not (tmp_path / "a.onnx").exists()
    assert main([*arguments, "--non-strict"]) == 0
    assert "1 missing (e.g. backbone.sppf.cv2.conv.weight)" in capsys.readouterr().out


def test_packed_pictures_of_any_size_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from support.golden import with_recipe_weights
    from uhd.manifest import ModelManifest
    from uhd.models.checkpoint import save_checkpoint

    path = tmp_path / "a.safetensors"
    config = UltraTinyODConfig(width=2, in_channels=2)
    save_checkpoint(path, with_recipe_weights(UltraTinyOD(config)), ModelManifest(name="a"))
    arguments = ["export", str(path), "--output", str(tmp_path / "a.onnx"), "--dynamic-resize"]
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert "a: trained with opencv_inter_nearest_yuv422; a Resize of packed planes mixes U with V" in message
    assert "resize outside: opencv (INTER_NEAREST, then COLOR_RGB2YUV_YUYV)" in message
    assert not (tmp_path / "a.onnx").exists()
    assert main([*arguments, "--allow-mismatch"]) == 0
    assert "U and V change places" in capsys.readouterr().err
