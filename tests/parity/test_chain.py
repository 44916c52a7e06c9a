"""The whole chain with the shipped model: photographs to boxes out of the emulated device."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from support.scene_folder import write_scenes
from support.shared import shared_dir
from uhd import zoo
from uhd.device.qemu import QemuDevice
from uhd.files import sha256_file
from uhd.host.__main__ import main
from uhd.paths import committed_component

#: Through the emulator, at about ten a second. UHD_LONG takes all.
PHOTOS = 960 if os.environ.get("UHD_LONG") else 120


@pytest.fixture(scope="module")
def build_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("build")


@pytest.fixture(autouse=True)
def _own_build_folder(build_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UHD_BUILD", str(build_folder))


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, object]:
    capsys.readouterr()
    result = main([*(str(a) for a in arguments), "--json"])
    printed = capsys.readouterr()
    assert result == code, printed.err
    document: dict[str, object] = json.loads(printed.out)
    return document


@pytest.mark.emu
def test_build_for_the_emulator(capsys: pytest.CaptureFixture[str]) -> None:
    summary = run_json(capsys, "build-fw", "--variant", "R", "--target", "qemu")
    elf = Path(str(summary["firmware"]))
    assert elf.read_bytes()[:4] == b"\x7fELF"
    shipped = zoo.shipped_espdl("R", "c", "speed")
    assert shipped is not None
    assert summary["espdl_sha256"] == sha256_file(shipped.path)
    assert shipped.path.read_bytes() in elf.read_bytes(), "the .espdl itself is inside the firmware"
    assert isinstance(summary["activations_bytes"], int) and summary["activations_bytes"] <= 28 * 1024


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("chip", ["esp32s3", "esp32p4"])
def test_component_for_a_chip_equals_the_committed_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, chip: str
) -> None:
    folder = tmp_path / "uhd_model"
    arguments = ("build-fw", "--variant", "R", "--target", chip, "--component-only", "--component", folder)
    assert run_json(capsys, *arguments)["firmware"] is None
    assert contents(folder) == contents(committed_component(chip))


@pytest.mark.emu
@pytest.mark.parametrize("preset", ["speed", "precision"])
def test_scenes_give_the_same_boxes_everywhere(capsys: pytest.CaptureFixture[str], tmp_path: Path, preset: str) -> None:
    scenes = write_scenes(tmp_path / "scenes", 6)
    report = run_json(
        capsys, "parity", "--photos", scenes, "--preset", preset, "--engines", "onnx,oracle,twin,qemu"
    )  # fmt: skip
    assert report["exact"] is True
    engines = report["engines"]
    assert isinstance(engines, dict)
    assert engines["twin"] == engines["qemu"]
    assert abs(engines["oracle"]["map50"] - engines["twin"]["map50"]) < 0.02, "tables against floating point"


@pytest.mark.emu
def test_many_photos(capsys: pytest.CaptureFixture[str]) -> None:
    photos = shared_dir("data", "val")
    report = run_json(capsys, "parity", "--photos", photos, "--limit", PHOTOS)
    assert report["photos"] == PHOTOS and report["exact"] is True
    engines = report["engines"]
    assert isinstance(engines, dict)
    assert engines["twin"]["map50"] == engines["qemu"]["map50"]
    assert engines["twin"]["map50_95"] == engines["qemu"]["map50_95"]
    assert engines["onnx"]["map50"] > 0.1, "the shipped model finds people"


def test_shipped_accuracy_is_what_the_photos_give(capsys: pytest.CaptureFixture[str]) -> None:
    photos = shared_dir("data", "val")
    shipped = zoo.shipped_espdl("R", "c", "speed")
    assert shipped is not None and shipped.manifest.quantization is not None
    report = run_json(capsys, "parity", "--photos", photos, "--engines", "onnx,twin")
    engines = report["engines"]
    assert isinstance(engines, dict)
    assert engines["onnx"]["map50"] == pytest.approx(shipped.manifest.accuracy[0].map50, abs=5e-4)
    assert engines["twin"]["map50"] == pytest.approx(shipped.manifest.quantization.accuracy[0].map50, abs=1e-6)


@pytest.mark.parametrize("target", ["onnx", "twin"])
def test_demo_draws_on_sample_photographs(capsys: pytest.CaptureFixture[str], tmp_path: Path, target: str) -> None:
    report = run_json(capsys, "demo", "--target", target, "--output", tmp_path / "out", "--threshold", 0.05)
    pictures = report["pictures"]
    assert isinstance(pictures, list) and pictures
    assert pictures[-1]["picture"].endswith("generated_scene.png")
    for entry in pictures:
        drawn = cv2.imread(entry["picture"])
        assert drawn is not None and max(drawn.shape[:2]) >= 240
        rows = np.asarray(entry["boxes"]).reshape(-1, 6)
        assert (rows[:, 0] >= 0.05).all() and (np.diff(rows[:, 0]) <= 0).all()
    assert cv2.imread(str(report["contact_sheet"])) is not None


def test_demo_finds_the_astronaut(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    skimage = pytest.importorskip("skimage")
    photo = Path(skimage.__file__).parent / "data" / "astronaut.png"
    report = run_json(capsys, "demo", "--photos", photo, "--target", "twin", "--output", tmp_path, "--threshold", 0.05)
    pictures = report["pictures"]
    assert isinstance(pictures, list)
    _, _, cx, cy, w, h = pictures[0]["boxes"][0]
    assert 0.2 < cx < 0.7 and w > 0.3 and h > 0.5, "one person fills most of the picture"


def test_fresh_calibration_says_on_what(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "my_scenes", 8)
    folder = tmp_path / "uhd_model"
    summary = run_json(
        capsys, "build-fw", "--variant", "R", "--target", "esp32p4", "--calibration", scenes,
        "--component", folder, "--component-only",
    )  # fmt: skip
    assert summary["calibration"] == "8 photos of my_scenes"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["quantization"]["target"] == "esp32p4"
    assert manifest["quantization"]["espdl_sha256"] == summary["espdl_sha256"]


def test_without_esp_idf_the_component_stays_and_the_code_is_three(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("IDF_PATH", raising=False)
    assert main(["build-fw", "--variant", "R", "--target", "esp32s3", "--component", str(tmp_path / "uhd_model")]) == 3
    printed = capsys.readouterr()
    assert "ESP-IDF" in printed.err and "--component-only" in printed.err
    assert (tmp_path / "uhd_model" / "CMakeLists.txt").exists()


@pytest.mark.emu
def test_parity_over_a_port(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A device that somebody else has started, on a serial port: the engine ``device``."""
    scenes = write_scenes(tmp_path / "scenes", 4)
    elf = Path(str(run_json(capsys, "build-fw", "--variant", "R", "--target", "qemu")["firmware"]))
    with QemuDevice(elf, link="pty", open=False) as device:
        report = run_json(capsys, "parity", "--photos", scenes, "--port", device.path)
    assert report["exact"] is True
    engines = report["engines"]
    assert isinstance(engines, dict) and engines["twin"] == engines["device"]
    assert main(["parity", "--photos", str(scenes), "--target", "esp32s3"]) == 2
    assert "needs a port" in capsys.readouterr().err
