"""``monitor`` on pseudo terminals, sockets and the emulated device: text, messages, noise, ports that come and go."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.emulated import firmware
from uhd.device.link import Frame, encode_frame
from uhd.device.message_lines import message_line
from uhd.device.messages import MESSAGES, pack
from uhd.device.monitor import Monitor, Options
from uhd.device.panic import Decoder, crash_addresses, find_addr2line, find_elf
from uhd.device.ports import Port, open_port
from uhd.device.qemu import QemuDevice
from uhd.device.serial_ports import SerialPort, access_fix, check_access, choose_port, same_device
from uhd.errors import ConfigError, DeviceError


class Watched:
    """A monitor in a thread on one end, with what it shows. The port is open when the context begins."""

    def __init__(
        self, open_it: Callable[[], Port], options: Options | None = None, crashes: Decoder | None = None
    ) -> None:
        self.text = ""
        self._stop, self._opened = threading.Event(), threading.Event()
        self._open_it = open_it
        self.monitor = Monitor(self._open, self._write, self._stop.is_set, options or Options(), crashes)
        self.thread = threading.Thread(target=self.monitor.run, daemon=True)

    def _open(self) -> Port:
        port = self._open_it()
        self._opened.set()
        return port

    def _write(self, text: str) -> None:
        self.text += text

    def __enter__(self) -> Watched:
        self.thread.start()
        assert self._opened.wait(60), "what is sent before is lost"
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()

    def wait_for(self, pattern: str, seconds: float = 10.0) -> re.Match[str]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.text, re.M):
                return found
            time.sleep(0.01)
        raise AssertionError(f"{pattern!r} is not in {self.text!r}")


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """A pseudo terminal: the board's end, and the path that the monitor opens."""
    board, ours = pty.openpty()
    tty.setraw(ours)
    path = os.ttyname(ours)
    yield board, path
    os.close(ours)
    with contextlib.suppress(OSError):
        os.close(board)


def detections(seq: int, boxes: int = 1) -> bytes:
    box = {"cx": 32768, "cy": 16384, "width": 1638, "height": 4915, "score": 58982, "cls": 0}
    payload = pack("DETECTIONS", [box] * boxes, frame_id=seq, count=boxes)
    return encode_frame(MESSAGES["DETECTIONS"].type, seq, payload)


def test_text_messages_and_noise_in_any_pieces(line: tuple[int, str]) -> None:
    board, path = line
    noise = bytes([0x9F, 0x85, 0x01, 0xFF]) * 9
    stream = b"I (31) boot: hello\r\n" + detections(1) + b"\0" + noise + b"\0" + detections(2, 0) + b"after\n"
    cuts = random.Random(5)
    with Watched(lambda: open_port(path)) as watched:
        position = 0
        while position < len(stream):
            end = position + cuts.randint(1, 9)
            os.write(board, stream[position:end])
            position = end
        watched.wait_for("^after$")
    lines = watched.text.splitlines()
    assert lines[0] == "I (31) boot: hello"
    assert lines[1] == "<< DETECTIONS picture 1: 1 box; 0.90 at 0.50,0.25 size 0.10x0.30"
    assert "<< DETECTIONS picture 2: no box" in lines
    assert any(text.startswith("-- 1 damaged") for text in lines)


def test_raw_shows_bytes_and_timestamps_show_time(line: tuple[int, str]) -> None:
    board, path = line
    with Watched(lambda: open_port(path), Options(raw=True)) as watched:
        os.write(board, b"half a line \xff")
        watched.wait_for(r"half a line \\xff")
    with Watched(lambda: open_port(path), Options(timestamps=True)) as watched:
        os.write(board, b"a line\n")
        watched.wait_for(r"^\d\d:\d\d:\d\d\.\d\d\d  a line$")


def test_hello_is_sent_only_when_asked(line: tuple[int, str]) -> None:
    board, path = line
    os.set_blocking(board, False)
    with Watched(lambda: open_port(path)):
        time.sleep(0.3)
    with pytest.raises(BlockingIOError):
        os.read(board, 100)
    with Watched(lambda: open_port(path), Options(hello=True)):
        time.sleep(0.3)
        sent = os.read(board, 100)
    assert sent[2] == MESSAGES["HELLO"].type, "after the zero and a COBS code"


def test_a_board_that_comes_back() -> None:
    """The port vanishes in the middle of a frame; what was half heard does not spoil what comes after."""
    server = socket.create_server(("127.0.0.1", 0))
    url = f"socket://127.0.0.1:{server.getsockname()[1]}"
    with Watched(lambda: open_port(url, timeout=1.0)) as watched:
        first, _ = server.accept()
        first.sendall(b"one\n" + detections(7)[:9])
        watched.wait_for("^one$")
        first.close()
        watched.wait_for("^-- waiting for it to come back$")
        second, _ = server.accept()
        second.sendall(b"two\n" + detections(8))
        watched.wait_for("^<< DETECTIONS picture 8")
        second.close()
    server.close()
    assert watched.text.index("-- back on") < watched.text.index("two\n")


def test_a_port_that_is_not_there_at_first_is_an_error() -> None:
    monitor = Monitor(lambda: open_port("/dev/no-such-port"), print, lambda: False, Options())
    with pytest.raises(DeviceError, match="cannot open"):
        monitor.run()


def test_a_port_that_appears_a_little_later(line: tuple[int, str], tmp_path: Path) -> None:
    """After flashing, the reset takes a USB port away for a moment."""
    link = tmp_path / "ttyACM0"
    timer = threading.Timer(0.4, link.symlink_to, [line[1]])
    timer.start()
    with Watched(lambda: open_port(str(link)), Options(patience=10.0)) as watched:
        os.write(line[0], b"booted\n")
        watched.wait_for("^booted$")
    timer.join()


def test_seconds_end_it(line: tuple[int, str]) -> None:
    started = time.monotonic()
    Monitor(lambda: open_port(line[1]), lambda text: None, lambda: False, Options(seconds=0.3)).run()
    assert 0.25 < time.monotonic() - started < 3


@pytest.mark.emu
def test_the_emulated_device_says_who_it_is() -> None:
    with QemuDevice(firmware(), link="pty", open=False) as device:
        command = [sys.executable, "-m", "uhd.host", "monitor", "--port", device.path, "--hello", "--seconds", "2"]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^<< INFO fake, variant \S+, for \S+: input \d+x\d+x\d, .* health OK, protocol \d", done.stdout, re.M
    )
    assert re.search(r"^<< STATS .*temperature_x10=-32768.*frames_received=2\b", done.stdout, re.M)
    assert re.search(r"^-- host: frames 2, crc_errors 0", done.stdout, re.M)


def test_a_line_that_loses_everything_shows_what_it_did(line: tuple[int, str]) -> None:
    board, path = line
    command = [sys.executable, "-m", "uhd.host", "monitor", "--port", path, "--hello", "--seconds", "2"]
    process = subprocess.Popen(
        [*command, "--drop-rate", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None and "baud" in process.stderr.readline()
    os.write(board, detections(1) * 3)
    out, _ = process.communicate()
    assert process.returncode == 0 and "DETECTIONS" not in out
    assert re.search(r"^-- line to device: bytes (\d+), dropped \1, flipped 0$", out, re.M)
    assert re.search(r"^-- line to host: bytes \d+, dropped \d+, flipped 0$", out, re.M)


@pytest.mark.parametrize("key", [b"\x1d", None], ids=["Ctrl-]", "Ctrl-C"])
def test_keys_end_it(line: tuple[int, str], key: bytes | None, request: pytest.FixtureRequest) -> None:
    """The command in a terminal of its own, which must be as before afterwards."""
    board, path = line
    master, slave = pty.openpty()
    before = os.popen(f"stty -F {os.ttyname(slave)} -a").read()
    command = [sys.executable, "-m", "uhd.host", "monitor", "--port", path]
    # A shell starts its background jobs with the interrupt ignored, and children inherit that.
    process = subprocess.Popen(
        command, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    request.addfinalizer(process.kill)  # or it would keep the port from the tests that follow
    assert process.stdout is not None
    while not select.select([process.stdout], [], [], 0.2)[0]:
        os.write(board, b"ready\n")  # lost until the port is open
    assert process.stdout.readline() == b"ready\n"
    if key:
        os.write(master, key)
    else:
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=90)
    assert process.returncode == 0
    assert os.popen(f"stty -F {os.ttyname(slave)} -a").read() == before
    os.close(master)
    os.close(slave)


def test_every_message_is_one_line() -> None:
    for spec in MESSAGES.values():
        tail: object = {"bytes": b"ab", "text": "two\nlines", "": b""}.get(spec.tail, [])
        text = message_line(Frame(spec.type, 0, pack(spec.name, tail)))
        assert text.startswith(spec.name)
        assert len(text.splitlines()) == 1
    assert "unknown type 0x9e" in message_line(Frame(0x9E, 0, b"abc"))
    assert "cannot read" in message_line(Frame(MESSAGES["DETECTIONS"].type, 0, b"short"))


XTENSA = "Backtrace: 0x42008e55:0x3fc96f40 0x42008e9d:0x3fc96f60  |<-CORRUPTED"
RISCV = "MEPC    : 0x4ff0a1b2  RA      : 0x40012345  SP      : 0x4ff3c000  GP      : 0x4ff12344  "


def test_addresses_of_a_crash() -> None:
    assert crash_addresses(XTENSA) == [0x42008E55, 0x42008E9D]
    assert crash_addresses("Backtrace:0x42008e55:0x3fc96f40") == [0x42008E55], "older versions leave the blank out"
    assert crash_addresses(RISCV) == [0x4FF0A1B2, 0x40012345]
    assert crash_addresses("TP      : 0x4ff3c000  T0      : 0x4ff12344") == []
    assert crash_addresses("I (31) boot: loaded 0x42008e55") == []


@pytest.mark.emu
def test_a_crash_becomes_source_lines(line: tuple[int, str], tmp_path: Path) -> None:
    program = find_addr2line()
    if program is None or shutil.which("riscv64-unknown-elf-nm") is None:
        pytest.skip("no addr2line for this ELF file")
    elf = firmware()
    names = subprocess.run(["riscv64-unknown-elf-nm", "-C", str(elf)], capture_output=True, text=True).stdout
    address = next(row.split()[0] for row in names.splitlines() if row.split()[1:3] == ["T", "main"])
    board, path = line
    with Watched(lambda: open_port(path), crashes=Decoder(elf, program)) as watched:
        os.write(board, f"MEPC    : 0x{address}  RA      : 0x00000010\n".encode())
        watched.wait_for(r"^-- 0x[0-9a-f]+: main at \S*main\.cpp:\d+$")
    assert watched.text.count("-- ") == 1, "an address without a function says nothing"


def test_the_elf_of_a_build_is_found(tmp_path: Path) -> None:
    assert find_elf(tmp_path) is None
    build = tmp_path / "idf"
    build.mkdir()
    (build / "uhd.elf").touch()
    (build / "project_description.json").write_text('{"app_elf": "uhd.elf"}')
    assert find_elf(tmp_path) == find_elf(build) == build / "uhd.elf"


ESP = SerialPort("/dev/ttyACM0", "USB JTAG/serial debug unit", 0x303A, 0x1001, "34:85:18:AB")
BRIDGE = SerialPort("/dev/ttyUSB0", "CP2102N", 0x10C4, 0xEA60, "abc")
BOARD = SerialPort("/dev/ttyS0", "n/a")


def test_the_port_that_is_chosen() -> None:
    assert choose_port("/dev/x", {"ESPPORT": "/dev/y"}, [ESP]) == "/dev/x"
    assert choose_port(None, {"ESPPORT": "/dev/y"}, [ESP]) == "/dev/y"
    assert choose_port(None, {}, [BOARD, ESP]) == "/dev/ttyACM0"
    with pytest.raises(ConfigError, match=r"2 serial ports: /dev/ttyACM0 \(USB JTAG.*\), /dev/ttyUSB0 .*; choose"):
        choose_port(None, {}, [BOARD, ESP, BRIDGE])
    with pytest.raises(ConfigError, match=r"no board found; the ports here \(/dev/ttyS0\)"):
        choose_port(None, {}, [BOARD])


def test_the_same_board_under_another_name() -> None:
    again = SerialPort("/dev/ttyACM7", "", 0x303A, 0x1001, "34:85:18:AB")
    assert same_device(ESP, [again, BRIDGE], "/dev/no-longer-there") == "/dev/ttyACM7"
    assert same_device(ESP, [BRIDGE], "/dev/no-longer-there") is None
    assert same_device(None, [BRIDGE], "/dev/ttyUSB0") == "/dev/ttyUSB0"


def test_permission_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_access("socket://127.0.0.1:1")
    with pytest.raises(DeviceError, match="no such port"):
        check_access(str(tmp_path / "gone"))
    port = tmp_path / "ttyACM0"
    port.touch()
    check_access(str(port))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    port.chmod(0o660)
    if os.getuid() == 0:
        os.chown(port, 0, 20)  # Debian's dialout
    with pytest.raises(DeviceError, match=r"may not open it; `sudo usermod -aG \w+ \$USER`"):
        check_access(str(port))
    port.chmod(0o600)
    assert "udev" in access_fix(str(port))
