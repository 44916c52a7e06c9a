"""A run that is stopped, killed or loses its device ends with the figures of one that nothing disturbs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.emulated import need_emulator
from support.parity_rig import Plug
from support.report_runs import Page
from support.scene_folder import write_scenes
from uhd.device.build import Request, prepare_component
from uhd.device.qemu import QemuDevice, build_elf
from uhd.host.__main__ import main
from uhd.paths import build_root

pytestmark = pytest.mark.emu
PHOTOS = 9


@pytest.fixture(scope="module")
def elf() -> Path:
    """The shipped model for the emulator, as ``parity`` itself builds it."""
    need_emulator()
    request = Request("R", "qemu")
    component = prepare_component(request, folder=build_root() / request.name / "uhd_model")
    return build_elf(component.folder, component.folder.parent)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), PHOTOS, size=(60, 81))


@pytest.fixture
def device(elf: Path) -> Iterator[QemuDevice]:
    with QemuDevice(elf, link="pty", open=False) as running:
        yield running


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    result = main(["parity", *(str(a) for a in arguments), "--json"])
    printed = capsys.readouterr()
    assert result == code, printed.err
    document: dict[str, Any] = json.loads(printed.out)
    return document


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on how often a run was started: all but times, counters and file names."""
    return {
        name: value
        for name, value in report.items()
        if name not in ("timings", "link", "device", "state", "report", "runs")
    }


def photos_in(state: Path) -> int:
    return state.read_bytes().count(b'\n{"photo":') if state.exists() else 0


def start(state: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "uhd.host", "parity", "--state", str(state), *(str(a) for a in arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip


def wait_for_photos(process: subprocess.Popen[str], state: Path, count: int) -> None:
    end = time.monotonic() + 120
    while photos_in(state) < count:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.005)


def test_interrupted_then_killed_then_finished(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, device: QemuDevice, scenes: Path
) -> None:
    arguments = ("--photos", scenes, "--port", device.path)
    whole = run_json(capsys, *arguments, "--state", tmp_path / "whole.jsonl")
    state = tmp_path / "broken.jsonl"

    slow = ("--delay-ms", 50)  # a fast machine would be done before anyone could interrupt it
    process = start(state, *arguments, *slow)
    wait_for_photos(process, state, 2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "photos are kept; go on with: python -m uhd.host parity" in said and "--resume" in said

    process = start(state, *arguments, *slow, "--resume")
    before = photos_in(state)
    wait_for_photos(process, state, before + 2)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert before + 2 <= photos_in(state) < PHOTOS

    finished = run_json(capsys, *arguments, "--state", state, "--resume")
    assert figures(finished) == figures(whole)
    assert finished["photos"] == PHOTOS and finished["exact"] and finished["complete"]
    assert finished["runs"] == 3 and whole["runs"] == 1
    assert photos_in(state) == PHOTOS, "no photo was measured twice"

    # All is known now: the page can be written again without any device.
    again = run_json(capsys, "--photos", scenes, "--port", "/dev/nowhere", "--state", state, "--resume")
    assert figures(again) == figures(finished)
    assert again["timings"] == finished["timings"] and again["device"] == finished["device"]
    page = Page(Path(again["report"]).read_text())
    assert page.errors == [] and "Exact: twin and device" in page.words
    assert again["engines"]["device"]["map50"] in page.values


def test_unplugged_in_the_middle(capsys: pytest.CaptureFixture[str], tmp_path: Path, elf: Path, scenes: Path) -> None:
    """The cable is pulled within a picture and put back half a second later."""
    with QemuDevice(elf) as device, Plug(device.port, after=30_000) as plug:
        report = run_json(capsys, "--photos", scenes, "--port", plug.url, "--state", tmp_path / "unplugged.jsonl")
        assert plug.pulled == 1
        whole = run_json(capsys, "--photos", scenes, "--port", plug.url, "--state", tmp_path / "whole.jsonl")
    assert figures(report) == figures(whole) and report["exact"] and report["complete"]
    assert report["link"]["reconnects"] == 1 and report["link"]["sent_again"] == 1
    assert report["link"]["attempts"] == PHOTOS + 1
    assert whole["link"]["reconnects"] == 0 and whole["link"]["attempts"] == PHOTOS


def test_unplugged_for_good(capsys: pytest.CaptureFixture[str], tmp_path: Path, elf: Path, scenes: Path) -> None:
    """The run ends with one line that says how to go on, and the state holds what was done."""
    state = tmp_path / "state.jsonl"
    with QemuDevice(elf) as device, Plug(device.port, after=30_000, absent=20) as plug:
        arguments = ["--photos", scenes, "--port", plug.url, "--state", state]
        assert main(["parity", *(str(a) for a in arguments), "--wait", "0.3"]) == 2
        said = capsys.readouterr().err
    assert "error: socket://" in said and "--resume" in said
    assert 1 <= photos_in(state) < PHOTOS
    with QemuDevice(elf, link="pty", open=False) as device:
        report = run_json(capsys, "--photos", scenes, "--port", device.path, "--state", state, "--resume")
    assert report["photos"] == PHOTOS and report["exact"]


def test_camera_frames_are_exact(capsys: pytest.CaptureFixture[str], tmp_path: Path, elf: Path) -> None:
    """The device's own preprocessing, the twin's and NumPy's pick the same bytes of frames of several sizes."""
    folder = tmp_path / "scenes"
    for number, size in enumerate([(64, 64), (60, 81), (48, 130)]):
        write_scenes(tmp_path / str(number), 2, size=size)
        folder.mkdir(exist_ok=True)
        for path in (tmp_path / str(number)).iterdir():
            path.rename(folder / f"{number}_{path.name}")
    report = run_json(capsys, "--photos", folder, "--inject", "camera", "--state", tmp_path / "camera.jsonl")
    assert report["exact"] and report["inject"] == "camera"
    assert report["engines"].keys() == {"onnx", "onnx-frame", "twin", "qemu"}
    assert report["engines"]["twin"]["map50"] == report["engines"]["qemu"]["map50"]
    camera = report["camera"]
    assert camera["photos_with_other_network_input"] == {"twin": 0, "qemu": 0}
    assert camera["other_luma_bytes"] == 0 < camera["other_chroma_bytes"] < camera["pixels_compared"]
    assert report["float_to_integer"].keys() == {"box", "quality", "cls"}
    assert Path(report["report"]) == tmp_path / "camera.html"
    assert "What the camera path changes" in Path(report["report"]).read_text()
    # Frames of the network's own size hold the same bytes as the photo's input.
    small = tmp_path / "small"
    write_scenes(small, 2, size=(64, 64))
    report = run_json(
        capsys, "--photos", small, "--inject", "camera", "--engines", "onnx,twin", "--state", tmp_path / "s"
    )
    assert report["camera"]["other_chroma_bytes"] == 0 and report["camera"]["pixels_picked_elsewhere"] == 0


def test_resume_refuses_another_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, scenes: Path) -> None:
    state = tmp_path / "state.jsonl"
    base = ["parity", "--photos", str(scenes), "--engines", "twin", "--state", str(state)]
    assert main(base) == 0
    assert "4 photos" not in capsys.readouterr().err
    assert main([*base, "--resume", "--limit", "4"]) == 2
    assert "the state of another run (different: photos)" in capsys.readouterr().err
    label = scenes / "scene_000.txt"
    old = label.read_text()
    try:  # labels may be corrected between two reports
        label.write_text("")
        assert main([*base, "--resume"]) == 0
        assert f"taken up: {PHOTOS} of {PHOTOS}" in capsys.readouterr().err
    finally:
        label.write_text(old)


def test_photos_without_labels(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "plain", 2, size=(60, 80))
    for label in folder.glob("*.txt"):
        label.unlink()
    report = run_json(capsys, "--photos", folder, "--engines", "onnx,twin", "--state", tmp_path / "state.jsonl")
    assert report["labelled"] is False and report["engines"] == {"onnx": None, "twin": None}
    write_scenes(folder, 1)
    assert main(["parity", "--photos", str(folder), "--engines", "twin"]) == 2
    assert "label file scene_001.txt is missing" in capsys.readouterr().err
