"""``demo`` as a command: published flags, JSON, films, what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from support.golden import golden_file
from support.infer import sample_pictures, write_clip
from support.photos import random_rgb, save_png
from support.reference_commands import program_commands
from support.shared import shared_dir
from uhd import Detector, zoo
from uhd.device.build import float_onnx
from uhd.host.__main__ import main


@pytest.fixture
def model() -> Path:
    return float_onnx(zoo.checkpoint_path("R")).resolve()


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder without a display."""
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index, picture in enumerate(sample_pictures()):
        save_png(tmp_path / "photos" / f"p{index}.png", picture)
    return tmp_path / "photos"


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> tuple[str, str]:
    """What the command prints on stdout and stderr."""
    capsys.readouterr()
    assert main(["demo", *map(str, arguments)]) == code, capsys.readouterr().err
    printed = capsys.readouterr()
    return printed.out, printed.err


def report(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    found = json.loads(run(capsys, *arguments, "--json")[0])
    assert isinstance(found, dict)
    return found


def test_photos_become_pictures(capsys: pytest.CaptureFixture[str], model: Path, photos: Path) -> None:
    out, _ = run(capsys, "--images", photos, "--onnx", model, "--conf-thresh", 0.2, "--output", "boxes")
    names = sorted(path.name for path in Path("boxes").iterdir())
    assert names == ["contact_sheet.png", *sorted(path.name for path in photos.iterdir())]
    detector = Detector.load(model, threshold=0.2)
    count = 0
    for path in photos.iterdir():
        before, after = (cv2.imread(str(folder / path.name)) for folder in (photos, Path("boxes")))
        assert before.shape == after.shape, "at its own size"
        boxes = detector(path)
        count += len(boxes)
        assert (before != after).any() == bool(boxes)
    assert f"{count} boxes on {len(names) - 1} pictures" in out


def test_json_draws_nothing_unless_told(capsys: pytest.CaptureFixture[str], model: Path, photos: Path) -> None:
    found = report(capsys, "--photos", photos, "--model", model, "--threshold", 0.2)
    assert not Path("demo_output").exists() and found["contact_sheet"] is None
    assert found["columns"] == ["score", "class", "cx", "cy", "w", "h"] and found["unreadable"] == []
    detector = Detector.load(model, threshold=0.2)
    for entry in found["pictures"]:
        picture = cv2.imread(entry["source"])[..., ::-1]
        assert (entry["height"], entry["width"]) == picture.shape[:2] and entry["picture"] is None
        assert np.allclose(np.reshape(entry["boxes"], (-1, 6)), detector.rows([picture])[0], atol=1e-6)
    drawn = report(capsys, "--photos", photos / "p0.png", "--model", model, "--output", "o")
    assert Path(drawn["pictures"][0]["picture"]).exists() and Path(drawn["contact_sheet"]).exists()


def test_options_reach_the_model(capsys: pytest.CaptureFixture[str], model: Path, photos: Path) -> None:
    def boxes(*options: object) -> int:
        found = report(capsys, "--photos", photos / "*.png", "--onnx", model, "--conf-thresh", 0.1, *options)
        return sum(len(entry["boxes"]) for entry in found["pictures"])

    kept = boxes("--use-nms", "--img-size", "64x64")
    assert boxes("--no-nms") > kept > boxes("--nms-iou", 0.1)
    assert boxes("--topk", 1) <= len(list(photos.iterdir())) < kept
    assert boxes("--quality-power", 3) < kept < boxes("--score-mode", "quality")


def test_unreadable_pictures_are_named_and_counted(
    capsys: pytest.CaptureFixture[str], model: Path, photos: Path
) -> None:
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    (photos / "none.png").write_bytes(b"")
    out, err = run(capsys, "--photos", photos, "--onnx", model, code=2)
    assert "error: 2 of 7 pictures" in err and "bad.jpg" in err and "none.png" in err
    assert "5 pictures" in out and len(list(Path("demo_output").iterdir())) == 6
    out, err = run(capsys, "--photos", photos, "--onnx", model, "--json", code=2)
    assert [Path(item["source"]).name for item in json.loads(out)["unreadable"]] == ["bad.jpg", "none.png"]


def test_a_camera_without_a_display(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 8)
    out, err = run(capsys, "--camera", clip, "--onnx", model)
    assert "no window: no display" in err and "camera_record.mp4" in err
    assert out.startswith("end of the video: 8 frames") and "film: camera_record.mp4 (8 frames)" in out
    assert cv2.VideoCapture("camera_record.mp4").read()[0]


def test_published_commands_run_as_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With files of the golden model under the published names, and a film as camera."""
    commands = [
        words
        for words in program_commands(shared_dir("spec", "readme-commands.md"), "demo_uhd.py")
        if "--onnx" in words
    ]
    assert len(commands) >= 4
    write_clip(tmp_path / "clip.mp4", 3)
    for words in commands:
        name = words[words.index("--onnx") + 1]
        kind = "dynamic" if "dynamic" in name else "static_nopost" if "nopost" in name else "static"
        Path(name).write_bytes(golden_file("w16_rgb", f"{kind}.onnx").read_bytes())
        words[words.index("--camera") + 1] = "clip.mp4"
        out, _ = run(capsys, *words)
        assert "3 frames" in out
        film = cv2.VideoCapture("camera_record.mp4")
        assert film.read()[1].shape == (64, 64, 3), "--actual-size"


def test_the_dynamic_threshold(capsys: pytest.CaptureFixture[str], photos: Path, model: Path) -> None:
    """Where nothing reaches the threshold, half of it does."""
    words = ("--photos", photos, "--onnx", model, "--json", "--conf-thresh", "0.99")
    found = [
        [picture["boxes"] for picture in report(capsys, *words, *more)["pictures"]]
        for more in ((), ("--use-dynamic-threshold", "--topk-before-conf", "--swap-logit-samples", 5))
    ]
    assert not any(found[0]) and any(found[1])
    assert all(0.495 <= row[0] < 0.99 for boxes in found[1] for row in boxes)


def test_videos_among_photos(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 6)
    out, _ = run(capsys, "--photos", clip, "--onnx", model, "--output", "films")
    assert "film: films/clip.mp4 (6 frames)" in out
    out, err = run(capsys, "--photos", clip, "--onnx", model, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["frame"] for line in lines] == list(range(6)) and "6 frames" in err
    assert any(line["boxes"] for line in lines)


def test_ctrl_c_leaves_a_whole_film(tmp_path: Path, model: Path) -> None:
    write_clip(tmp_path / "clip.mp4", 300)
    command = [sys.executable, "-u", "-m", "uhd.host", "demo", "--camera", "clip.mp4", "--onnx", str(model)]
    running = subprocess.Popen(
        [*command, "--json", "--record", "film.mp4"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert running.stdout is not None
    running.stdout.readline()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0 and err.startswith("interrupted: "), err
    film = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    count = int(film.get(cv2.CAP_PROP_FRAME_COUNT))
    assert 0 < count < 300 and f"({count} frames)" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "film.mp4"]


@pytest.mark.parametrize(
    "arguments,told",
    [
        (["--photos", "p.png", "--camera", "0"], "give one of them"),
        (["--camera", "77"], "camera 77 cannot be opened"),
        (["--camera", "none.mp4"], "no such video file"),
        (["--photos", "p.png", "--actual-size"], "for --camera"),
        (["--photos", "p.png", "--target", "twin"], "choose one"),
        (["--photos", "p.png", "--output", "."], "would be replaced"),
        (["--photos", "p.png", "--output", "p.png"], "another --output"),
        (["--photos", "p.png", "--img-size", "32x32"], "64x64, not 32x32"),
        (["--photos", "p.png", "--img-size", "big"], "such as 64x64"),
        (["--photos", "none/*.png"], "matches this pattern"),
        (["--camera", "clip.mp4", "--record", "p.png/film.mp4"], "another place with --record"),
        (["--photos", "clip.mp4", "--output", "."], "would be replaced"),
        (["--photos", "p.png", "--conf-thresh", "1.5"], "--conf-thresh"),
    ],
)
def test_what_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path, arguments: list[str], told: str
) -> None:
    save_png(tmp_path / "p.png", random_rgb(4))
    write_clip(tmp_path / "clip.mp4", 2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    _, err = run(capsys, *arguments, "--onnx", model, code=2)
    complaint = err.strip().splitlines()[-1]
    assert complaint.startswith("error: ") and told in complaint
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
