"""``view`` as users run it: an emulated device, its recording, other machines, mistakes."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from support.pty_board import CameraFirmware, pty_board
from support.scene_folder import write_scenes
from support.shared import ROOT
from support.terminal import terminal
from support.viewer_page import PATIENCE, text_is, wait_for, wait_until
from uhd.host.__main__ import main

VIEW = [sys.executable, "-m", "uhd.host", "view", "--no-open"]


class Program:
    """A running ``view``; ``log`` is what it wrote so far."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "host")}
        environment.pop("UHD_TOKEN", None)
        self._file = log
        with log.open("wb") as out:
            self.process = subprocess.Popen([*VIEW, *arguments], stdout=out, stderr=out, env=environment)

    @property
    def log(self) -> str:
        return self._file.read_text()

    def url(self) -> str:
        """Where the page is, once it is there."""
        wait_until(lambda: "page at " in self.log or self.process.poll() is not None, "starting", 120)
        found = re.search(r"page at (\S+)", self.log)
        assert found, self.log
        return found[1]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def running(log: Path, *arguments: str) -> Iterator[Program]:
    program = Program(list(arguments), log)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait()


def open_page(browser: Any, url: str) -> Any:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(url)
    return page


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), 12, size=(120, 160))


@pytest.fixture(scope="module")
def recording(browser: Any, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by clicking on Record while the emulated device is shown photos."""
    folder = tmp_path_factory.mktemp("recordings")
    arguments = ("--target", "qemu", "--photos", str(scenes), "--http", "0", "--record-folder", str(folder))
    with running(folder / "log", *arguments) as program:
        page = open_page(browser, program.url())
        wait_for(page, "document.getElementById('caption-picture').textContent.startsWith('scene_0')")
        text_is(page, "#model-name", "ultratinyod_r")
        assert re.search(r"scene_0\d\d.png, 160 × 120", page.inner_text("#caption-picture"))
        page.click("#record")
        text_is(page, "#record", "Recording")
        page.locator("#threshold").focus()
        page.keyboard.press("Home")
        text_is(page, "#threshold-value", "0.00")  # confirmed by the device
        wait_for(page, "/^[1-9]\\d* boxes/.test(document.getElementById('caption-boxes').textContent)")
        shown = int(page.inner_text("#kept").split(" ")[0].replace(",", ""))
        wait_until(lambda: int(page.inner_text("#kept").split(" ")[0].replace(",", "")) > shown + 15, "pictures", 60)
        page.click("#record")
        text_is(page, "#record", "Record")
        page.context.close()
        assert program.end(signal.SIGTERM) == 0
        assert "ready: ultratinyod_r on" in program.log and "recording to " in program.log
        assert "Traceback" not in program.log
    (path,) = folder.glob("*.uhdr")
    return path


@pytest.mark.emu
def test_a_recording_is_played_to_its_end_and_again(browser: Any, recording: Path, tmp_path: Path) -> None:
    with running(tmp_path / "log", "--recording", str(recording), "--http", "0") as program:
        page = open_page(browser, program.url())
        wait_for(page, "document.getElementById('caption-picture').textContent.startsWith('scene_0')")
        assert page.is_visible("#player") and page.is_disabled("#threshold") and page.is_disabled("#record")
        page.locator("#seek").focus()
        page.keyboard.press("End")
        page.wait_for_selector("#banner:not([hidden])")
        text_is(page, "#pill-text", "ended")
        text_is(page, "#pause", "Play")
        page.click("#pause")
        text_is(page, "#pill-text", "ready")
        page.wait_for_selector("#banner", state="hidden")
        text_is(page, "#pause", "Pause")
        page.click("#pause")
        wait_for(page, "document.getElementById('frame-note').textContent === 'Paused'")
        before = page.inner_text("#caption-picture")
        page.click("#step")
        wait_until(lambda: page.inner_text("#caption-picture") != before, "the next picture")
        page.context.close()
        assert program.end(signal.SIGINT) == 0
        assert "Traceback" not in program.log


@pytest.mark.emu
def test_a_recording_in_a_terminal(recording: Path) -> None:
    arguments = [sys.executable, "-m", "uhd.host", "view", "--recording", str(recording), "--tui"]
    with terminal(arguments) as shown:
        shown.wait_for("pictures/s")
        shown.wait_for("▀" * 3)
        shown.wait_for(re.compile(r"ready|ended"))
        shown.type("\x03")
        assert shown.ended() == 0
        assert shown.echoes
        assert "Traceback" not in shown.text()


def get(url: str, path: str, **headers: str) -> tuple[int, bytes]:
    host, port = re.search(r"//([^:/]+):(\d+)", url).groups()  # type: ignore[union-attr]
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
    connection.request("GET", path, headers={"Host": f"{host}:{port}", **headers})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.emu
def test_other_machines_need_the_token(browser: Any, recording: Path, tmp_path: Path) -> None:
    with running(tmp_path / "log", "--recording", str(recording), "--http", "0.0.0.0:0") as program:
        url = program.url()
        assert socket.gethostname() in url
        token = url.split("?token=")[1]
        assert len(token) > 16
        assert get(url, "/")[0] == 401 and get(url, "/?token=guess")[0] == 401
        assert get(url, f"/?token={token}")[0] == 200
        assert get(url, "/events", **HANDSHAKE)[0] == 401
        status, body = get(url, "/source.json")
        assert status == 200 and str(recording.parent).encode() not in body, "names of folders stay here"
        origin = {"Origin": "http://evil.example"}
        assert get(url, f"/events?token={token}", **HANDSHAKE, **origin)[0] == 403
        port = re.search(r":(\d+)/", url)
        assert port
        page = open_page(browser, f"http://127.0.0.1:{port[1]}/?token={token}")
        wait_for(page, "document.getElementById('device').childElementCount > 0")
        page.context.close()


@pytest.mark.emu
def test_this_machine_alone_by_default(recording: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8470))
            taken.listen()
        except OSError:
            pass  # somebody else has it, which does as well
        with running(tmp_path / "log", "--recording", str(recording)) as program:
            url = program.url()
            assert url.startswith("http://127.0.0.1:") and ":8470/" not in url
            assert get(url, "/")[0] == 200
            assert get(url, "/", Host="evil.example")[0] == 403, "a name that only points here"
            assert get(url, "/events", **HANDSHAKE, Origin="http://evil.example")[0] == 403


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--port", "/dev/x", "--target", "qemu"], "--port and --target exclude each other"),
        (["--recording", "a.uhdr", "--photos", "b"], "--photos are for a device"),
        (["--target", "qemu"], "an emulated device has no camera; give it --photos DIR"),
        (["--recording", "missing.uhdr"], "missing.uhdr"),
        (["--port", "/dev/x", "--rate", "3"], "--rate is for --photos"),
        (["--recording", "a.uhdr", "--tui"], "--tui needs a terminal"),
        (["--target", "qemu", "--photos", "no/such/folder"], "no/such/folder"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["view", "--no-open", *arguments]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ") and text in told and "\n" not in told


def test_no_browser_is_opened_without_a_desktop(monkeypatch: pytest.MonkeyPatch) -> None:
    from uhd.host import view

    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    view.open_browser("http://127.0.0.1:1/")
    assert opened == []
    monkeypatch.setenv("DISPLAY", ":0")
    view.open_browser("http://127.0.0.1:1/")
    assert opened == ["http://127.0.0.1:1/"]


def test_help_shows_examples() -> None:
    from uhd.host.view import command

    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0 and "--recording door.uhdr" in result.output


def test_a_board_with_a_camera_is_unplugged_and_falls_silent(browser: Any, tmp_path: Path) -> None:
    """The device's own C++ code on a terminal, the whole program, the page."""
    line = tmp_path / "ttyACM0"
    with (
        pty_board(line, lambda: CameraFirmware(rate=20)) as board,
        running(tmp_path / "log", "--port", str(line), "--http", "0") as program,
    ):
        page = open_page(browser, program.url())
        number = "Number(document.getElementById('caption-picture').textContent.split(/[ ,]/)[1])"
        wait_for(page, f"{number} > 5")
        page.locator("#threshold").focus()
        page.keyboard.press("End")
        text_is(page, "#threshold-value", "1.00")
        board.unplug_after(1000)  # in the middle of something
        text_is(page, "#pill-text", "unplugged")
        page.wait_for_selector("#frame.stale")
        board.plug()
        text_is(page, "#pill-text", "ready")
        page.wait_for_selector("#frame:not(.stale)")
        text_is(page, "#threshold-value", "1.00")  # what was asked for outlives the board
        board.mute = True
        text_is(page, "#pill-text", "silent")
        assert "Press the board's reset button" in page.inner_text("#banner")
        board.mute = False
        text_is(page, "#pill-text", "ready")
        page.click("#pause")
        text_is(page, "#frame-note", "Paused")
        page.context.close()
        assert program.end() == 0
