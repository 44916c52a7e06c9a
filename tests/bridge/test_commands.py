"""``bridge``, ``replay`` and ``devices`` as people call them."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from websockets.sync.client import connect

from support.emulated import need_emulator
from support.esp_rom import EspRom
from support.pty_board import CameraFirmware, PictureFirmware, pty_board
from support.scene_folder import write_scenes
from uhd.bridge.recording_reader import RecordingReader
from uhd.device.esptool_program import find_esptool
from uhd.host.__main__ import cli, main

UHD = [sys.executable, "-m", "uhd.host"]


@contextmanager
def started(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*UHD, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def call(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in this process."""
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(arguments))
    return code, out.getvalue(), err.getvalue()


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photos through the bridge command."""
    folder = tmp_path_factory.mktemp("recording")
    scenes = write_scenes(folder / "scenes", 8)
    with pty_board(folder / "tty", PictureFirmware):
        code, out, err = call("bridge", "--port", str(folder / "tty"), "--photos", str(scenes), "--threshold", "0",
                              "--record", str(folder / "x.uhdr"), "--output", str(folder / "x.jsonl"))  # fmt: skip
    assert code == 0, err
    assert out == "" and "ready: fake on" in err and "ended: all 8 photos were sent" in err
    assert "8 pictures; link: nothing lost, nothing sent again" in err
    return folder / "x.uhdr"


def test_bridge_writes_lines_and_a_recording_that_replays_to_them(recording: Path) -> None:
    told = lines_of(recording.with_suffix(".jsonl").read_text())
    code, out, _ = call("replay", str(recording), "--json")
    assert code == 0
    about_the_file = ("recording", "timeline")
    first = [event for event in told if event["kind"] not in about_the_file]
    again = [event for event in lines_of(out) if event["kind"] not in about_the_file]
    assert again.pop()["state"] == "ended"
    assert again == first
    assert sum(event["kind"] == "picture" for event in again) == 8


def test_replay_sums_up(recording: Path) -> None:
    code, out, _ = call("replay", str(recording))
    assert code == 0
    for pattern in (r"^x\.uhdr$", r"protocol +\d", r"device +fake, host twin backend", r"pictures +8, ", r"photos +8$",
                    r"states +connecting ready ended"):  # fmt: skip
        assert re.search(pattern, out, re.M), (pattern, out)


def test_replay_map_in_words_and_json(recording: Path) -> None:
    code, out, _ = call("replay", str(recording), "--map", "--json")
    figures = json.loads(out)
    assert code == 0 and figures["photos"] == 8 and figures["missing"] == 0 and 0 <= figures["map50"] <= 1
    code, out, _ = call("replay", str(recording), "--map")
    assert code == 0 and f"mAP@0.5       {figures['map50']:.4f}" in out


def test_replay_of_half_a_file_says_so(recording: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.uhdr"
    data = recording.read_bytes()
    half.write_bytes(data[: len(data) // 2])
    for extra in ([], ["--json"]):
        code, out, err = call("replay", str(half), *extra)
        assert code == 1 and "is cut off at byte" in out + err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["replay", "/nothing.uhdr"], "cannot read the recording"),
        (["replay", str(Path(__file__))], "no recording of a link"),
        (["replay", str(Path(__file__)), "--speed", "-1"], "is no speed"),
        (["bridge", "--port", "/dev/nothing"], "no such port"),
        (["bridge", "--port", "x", "--target", "qemu"], "exclude each other"),
        (["bridge", "--target", "qemu"], "an emulated device has no camera; give it --photos DIR"),
        (["bridge", "--port", "x", "--loop"], "are for --photos"),
        (["bridge", "--port", "socket://127.0.0.1:1", "--photos", "/nowhere"], "/nowhere"),
        (["bridge", "--port", "socket://127.0.0.1:1", "--mqtt", "x"], "not a broker"),
        (["bridge", "--port", "socket://127.0.0.1:1", "--websocket", "x:y"], "not an address"),
        (["bridge", "--port", "socket://127.0.0.1:1", "--record", str(Path(__file__))], "already"),
    ],
)
def test_mistakes_get_one_line(arguments: list[str], text: str) -> None:
    code, out, err = call(*arguments)
    assert code == 2 and text in err and out == ""
    assert err.count("\n") == 1 and err.startswith("error: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly(tmp_path: Path, number: int) -> None:
    line, path = tmp_path / "tty", tmp_path / "x.uhdr"
    with pty_board(line, lambda: CameraFirmware(rate=30)):  # noqa: SIM117 - the board stays for the process
        with started("bridge", "--port", str(line), "--json", "--record", str(path), "--websocket", "0") as process:
            assert process.stdout and process.stderr
            url = process.stderr.readline().split()[-1]
            with connect(url) as client:
                while json.loads(client.recv(timeout=20))["kind"] != "picture":
                    pass
                process.send_signal(number)
                out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert lines_of(out)[-1]["kind"] in ("stats", "picture", "recording")
    with RecordingReader(path) as reader:
        assert len(list(reader.records())) > 20
        assert not reader.problems and not reader.cut


def test_killed_recordings_are_whole_to_their_last_record(tmp_path: Path) -> None:
    """kill -9 at twenty moments."""
    line = tmp_path / "tty"
    with pty_board(line, lambda: CameraFirmware(rate=60)):
        script = Path(__file__).with_name("kill_bridge.py")
        subprocess.run([sys.executable, str(script), str(line), str(tmp_path), "20"], check=True, timeout=120)
    paths = sorted(tmp_path.glob("*.uhdr"))
    assert len(paths) == 20
    lengths = []
    for path in paths:
        with RecordingReader(path) as reader:
            records = list(reader.records())
            assert not reader.problems or (reader.cut and "is cut off at byte" in reader.problems[0])
            last, record = records[-1] if records else (reader.start, None)
            whole = last + len(record.encoded()) if record else reader.start
            assert (path.stat().st_size == whole) == (not reader.cut), "it says where it is cut, and only then"
            lengths.append(len(records))
    assert len(set(lengths)) > 5, "at moments that differ"


def test_the_end_of_a_pipe_ends_it(tmp_path: Path) -> None:
    line = tmp_path / "tty"
    with (
        pty_board(line, lambda: CameraFirmware(rate=60)),
        started("bridge", "--port", str(line), "--json", "--images") as process,
    ):
        assert process.stdout
        assert json.loads(process.stdout.readline())["kind"] == "state"
        process.stdout.close()
        assert process.wait(20) in (0, 1)


def test_seconds_and_pictures_end_it(tmp_path: Path) -> None:
    line = tmp_path / "tty"
    with pty_board(line, lambda: CameraFirmware(rate=60)):
        code, out, _ = call("bridge", "--port", str(line), "--json", "--pictures", "5")
        assert code == 0 and sum(e["kind"] == "picture" for e in lines_of(out)) >= 5
        began = time.monotonic()
        code, _, err = call("bridge", "--port", str(line), "--seconds", "0.5")
        assert code == 0 and 0.4 < time.monotonic() - began < 10 and "pictures; link" in err


def test_a_bad_line_is_put_right_and_counted(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "scenes", 8)
    with pty_board(tmp_path / "tty"):
        code, out, err = call("bridge", "--port", str(tmp_path / "tty"), "--photos", str(scenes), "--json", "--images",
                              "--drop-rate", "0.0001", "--flip-rate", "0.00001")  # fmt: skip
    told = lines_of(out)
    assert code == 0, err
    assert [e["photo"] for e in told if e["kind"] == "picture"] == [f"scene_{i:03d}.png" for i in range(8)]
    host = [e for e in told if e["kind"] == "stats"][-1]["host"]
    assert host["retries"] > 0


def test_replay_over_a_websocket(recording: Path) -> None:
    with started("replay", str(recording), "--websocket", "0") as process:
        assert process.stderr
        url = process.stderr.readline().split()[-1]
        with connect(url) as client:
            kinds = set()
            while "timeline" not in kinds or "state" not in kinds:
                kinds.add(json.loads(client.recv(timeout=20))["kind"])
            client.send('{"do": "seek", "t": 0}')
            while json.loads(client.recv(timeout=20))["kind"] != "picture":
                pass
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_the_status_line_of_a_terminal(tmp_path: Path) -> None:
    line = tmp_path / "tty"
    ours, theirs = os.openpty()
    seen = b""
    with pty_board(line, lambda: CameraFirmware(rate=60)):
        process = subprocess.Popen([*UHD, "bridge", "--port", str(line), "--seconds", "1.5"], stderr=theirs)
        os.close(theirs)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    piece = os.read(ours, 4096)
                except OSError:
                    break
                seen += piece
        assert process.wait(10) == 0
    os.close(ours)
    text = seen.decode()
    assert re.search(r"\r\x1b\[Kready  \d+\.\d pictures/s  \d+ boxes  0 dropped", text), text[-500:]


@pytest.mark.emu
def test_bridge_boots_an_emulator(tmp_path: Path) -> None:
    need_emulator()
    scenes = write_scenes(tmp_path / "scenes", 3)
    path = tmp_path / "x.uhdr"
    code, out, err = call("bridge", "--target", "qemu", "--photos", str(scenes), "--json", "--record", str(path))
    assert code == 0, err
    told = lines_of(out)
    device = next(event for event in told if event["kind"] == "device")
    assert device["name"] == "ultratinyod_r" and device["class_names"] == ["person"]
    assert device["accuracy"] and device["resize_mode"] == "opencv_inter_nearest_yuv422"
    assert [e["photo"] for e in told if e["kind"] == "picture"] == [f"scene_{i:03d}.png" for i in range(3)]
    assert [e["state"] for e in told if e["kind"] == "state"] == ["connecting", "ready", "ended"]


# ---- devices


def test_devices_names_the_model_on_a_port(tmp_path: Path) -> None:
    with pty_board(tmp_path / "tty"):
        code, out, _ = call("devices", "--port", str(tmp_path / "tty"), "--json")
        (board,) = json.loads(out)
        assert code == 0 and (board["model"], board["target"], board["known_model"]) == ("fake", "c", False)
        code, out, _ = call("devices", "--port", str(tmp_path / "tty"))
        assert "model   fake for c, .espdl" in out


def test_devices_on_a_port_that_says_nothing(tmp_path: Path) -> None:
    with pty_board(tmp_path / "tty") as board:
        board.mute = True
        began = time.monotonic()
        code, out, _ = call("devices", "--port", str(tmp_path / "tty"))
        assert code == 0 and "no answer" in out and time.monotonic() - began < 10


def test_devices_of_this_machine() -> None:
    result = CliRunner().invoke(cli, ["devices"])
    assert result.exit_code == 0 and result.output
    code, out, _ = call("devices", "--port", "/dev/nothing")
    assert code == 0 and "cannot open" in out


@pytest.mark.skipif(find_esptool() is None, reason="esptool is not installed")
def test_devices_probes_the_chip() -> None:
    with EspRom("esp32s3") as rom:
        code, out, _ = call("devices", "--port", rom.url, "--probe", "--json")
    (board,) = json.loads(out)
    assert code == 0 and board["chip"].startswith("ESP32-S3") and board["mac"] == "00:00:00:00:00:00"
