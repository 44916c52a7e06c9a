"""Building the firmware as a program of this machine, running it and connecting to its link."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.fakemodel import FakeModel
from support.idf_project import COMPONENTS, FIRMWARE, PORTABLE, SHIM, compile_host, kconfig_defaults, sources
from support.shared import ROOT
from uhd.device.ports import FdPort, open_port

BOARD = COMPONENTS / "uhd_board"
_MAIN_OPTIONS = ("UHD_SCORE_THRESHOLD", "UHD_NMS_IOU", "UHD_TASK_STACK", "UHD_TASK_CORE", "UHD_TASK_PRIORITY",
                 "UHD_SCREEN_STACK")  # fmt: skip
_BOARD_OPTIONS = ("UHD_LINK_TCP_PORT", "UHD_CAPTURE_STACK", "UHD_CAMERA_SQUARE")
_BOARD_SOURCES = ("capture", "link_port", "link_tcp", "camera_file", "button_none", "temperature_none")


def build_app(folder: Path, model: FakeModel, *, display: Path | None = None, flags: Sequence[str] = ()) -> Path:
    """``main`` with ``model`` and the drivers of the linux target, stand-ins in place of ESP-IDF; ``display``: a source
    that is one.
    """
    component = model.write(folder / "uhd_model")
    files = [*sorted((FIRMWARE / "main").glob("*.cpp")), *(BOARD / "src" / f"{name}.cpp" for name in _BOARD_SOURCES)]
    files += [display or BOARD / "src" / "display_none.cpp", SHIM / "main.cpp"]
    files += [path for name in PORTABLE for path in sources(name)]
    files += (component / "src").glob("*.cpp")
    options = [
        "-DCONFIG_IDF_TARGET_LINUX=1",
        *kconfig_defaults(FIRMWARE / "main" / "Kconfig.projbuild", _MAIN_OPTIONS),
        *kconfig_defaults(BOARD / "Kconfig", _BOARD_OPTIONS),
    ]
    return compile_host(folder / "uhd", files, [*options, *flags])


class Running:
    """A started program: its process, what it has logged until it was ready, and its port."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.log: list[str] = []
        self.number = 0
        self._later: list[str] = []
        for line in process.stdout:
            self.log.append(line.strip())
            if line.startswith("link on 127.0.0.1:"):
                self.number = int(line.rpartition(":")[2])
            if "ready on" in line or "does not open" in line:
                break
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._later.append(line.strip())

    def log_lines(self) -> list[str]:
        """All that it has logged by now."""
        return [*self.log, *self._later]

    @contextmanager
    def connect(self) -> Iterator[FdPort]:
        port = open_port(f"socket://127.0.0.1:{self.number}")
        try:
            yield port
        finally:
            port.close()


@contextmanager
def running(program: Path, **environment: str) -> Iterator[Running]:
    process = subprocess.Popen(
        [str(program)], stdout=subprocess.PIPE, text=True, env={**os.environ, "UHD_LINK_PORT": "0", **environment}
    )
    try:
        yield Running(process)
    finally:
        process.kill()
        process.wait()


def device_tests(program: Path) -> str:
    """What ``tests/device`` says of the firmware as a program; fails if it is not content."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "device")]
    environment = {**os.environ, "UHD_DEVICE_PROGRAM": str(program)}
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return done.stdout
