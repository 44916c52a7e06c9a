"""The camera's window, on a virtual display, with real keys."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from support.infer import write_clip
from uhd import zoo
from uhd.device.build import float_onnx
from uhd.infer.window import TITLE, no_window

needs_display = pytest.mark.skipif(
    not (shutil.which("Xvfb") and shutil.which("xdotool")),
    reason="no virtual display here: apt-get install xvfb xdotool",
)


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a virtual display, which is also the environment's."""
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "800x600x24", "-nolisten", "tcp"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as stream:
        name = f":{stream.readline().strip()}"
    monkeypatch.setenv("DISPLAY", name)
    yield name
    server.terminate()
    server.wait()


def press(*keys: str) -> None:
    for key in keys:
        subprocess.run(["xdotool", "key", key], check=True)
        time.sleep(0.25)


def wait_for_window() -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = subprocess.run(["xdotool", "search", "--name", TITLE.split()[0]], capture_output=True, text=True)
        if found.stdout.strip():
            subprocess.run(["xdotool", "windowfocus", found.stdout.split()[0]], check=True)
            return
        time.sleep(0.2)
    raise AssertionError("no window came up")


def demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "uhd.host", "demo", "--camera", "clip.mp4", "--threshold", "0.2", *arguments]
    command += ["--onnx", str(float_onnx(zoo.checkpoint_path("R")))]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@needs_display
def test_keys_in_the_window(tmp_path: Path, display: str) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 400, fps=10)
    running = demo(tmp_path, "--output", "snaps", "--record", "film.mp4")
    wait_for_window()
    press("h", "space", "s", "plus", "n", "s", "space", "q")
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0 and "Traceback" not in err, err
    assert out.startswith("quit: "), out
    shots = [cv2.imread(str(tmp_path / "snaps" / f"snapshot_00{number}.png")) for number in (1, 2)]
    assert shots[0].shape == shots[1].shape == (240, 320, 3)
    assert (shots[0] != shots[1]).any(), "another threshold, another picture; the second one was taken paused, too"
    film = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    frames = int(film.get(cv2.CAP_PROP_FRAME_COUNT))
    assert 0 < frames < 400 and film.read()[0]
    assert f"({frames} frames)" in out and clip.exists()


@needs_display
def test_actual_size_in_the_window(tmp_path: Path, display: str) -> None:
    write_clip(tmp_path / "clip.mp4", 400, fps=10)
    running = demo(tmp_path, "--actual-size", "--use-nms", "--record", "")
    wait_for_window()
    press("Escape")
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0 and out.startswith("quit: "), out + err
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"], "nothing recorded"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no DISPLAY")
def test_why_there_is_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert "DISPLAY is not set" in no_window()
    monkeypatch.setenv("DISPLAY", ":987")
    assert "does not answer" in no_window()
