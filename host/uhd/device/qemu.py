"""The emulated device: the firmware on QEMU's RISC-V `virt` machine, talking over a serial port like a board."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from numpy.typing import NDArray

from uhd.device.client import DeviceClient
from uhd.device.cross import EMULATOR, build_elf, emulator_missing, find_tool
from uhd.device.ports import FdPort, open_port, socket_port
from uhd.device.qmp import Control
from uhd.errors import DeviceError
from uhd.paths import build_root

__all__ = ["QemuDevice", "build_elf", "emulator_missing", "run_tensor"]

Link = Literal["socket", "pty"]


class QemuDevice:
    """A running emulator, as a context manager. ``port`` is the serial port, opened; ``path`` its pty, if it has one.

    ``icount=True`` makes ``Result.timings.inference_ticks`` instructions, the same in every run; the device's clock
    then runs with them, and everything is slower. ``link="pty"`` gives a real terminal, which other programs can
    open (``open=False`` leaves it to them); the default is a socket pair, which needs neither a name nor a free TCP
    port. Nothing outlives the context.
    """

    def __init__(self, elf: Path, icount: bool = False, *, link: Link = "socket", open: bool = True) -> None:
        self._elf, self._icount, self._link, self._open = elf, icount, link, open
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Control | None = None
        self._log: IO[bytes] | None = None
        self._port: FdPort | None = None
        self.path = ""

    @property
    def port(self) -> FdPort:
        """The host's end of the serial line."""
        if self._port is None:
            raise DeviceError("the emulator is not running, or its port was left to others")
        return self._port

    def __enter__(self) -> QemuDevice:
        program = find_tool(EMULATOR)
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            control, its_control = socket.socketpair()
            theirs.callback(its_control.close)
            self._control = Control(control)
            fds = [its_control.fileno()]
            arguments = [
                *("-M", "virt", "-cpu", "rv32", "-m", "256M", "-bios", "none", "-display", "none", "-nodefaults"),
                *("-kernel", str(self._elf), "-S"),  # frozen until both ends are ready
                *("-chardev", f"socket,id=control,fd={fds[0]}", "-mon", "chardev=control,mode=control"),
            ]
            if self._icount:
                arguments += ["-icount", "shift=0,sleep=off"]
            if self._link == "socket":
                line, its_line = socket.socketpair()
                theirs.callback(its_line.close)
                self._port = socket_port(line, "emulator")
                fds.append(its_line.fileno())
                arguments += ["-chardev", f"socket,id=line,fd={fds[1]}", "-serial", "chardev:line"]
            else:
                arguments += ["-chardev", "pty,id=line", "-serial", "chardev:line"]
            ours.callback(self.close)
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
            self._process = subprocess.Popen(
                [program, *arguments],
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                start_new_session=True,  # a Ctrl-C in the terminal is ours to handle
            )
            theirs.close()
            self._start()
            ours.pop_all()
        return self

    def _start(self) -> None:
        assert self._control
        try:
            self._control.greet()
            if self._link == "pty":
                devices = self._control.command("query-chardev")
                name = next(d["filename"] for d in devices if d["label"] == "line")
                self.path = name.removeprefix("pty:")
                if self._open:
                    self._port = open_port(self.path)
            self._control.command("cont")
        except (OSError, EOFError):
            reason = self._last_words() or "it ended without a word"
            raise DeviceError(f"{EMULATOR} does not start: {reason}", hint="is QEMU 7.2 or newer installed?") from None

    def _last_words(self) -> str:
        """What the emulator wrote before it died."""
        assert self._process and self._log
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").splitlines()
        return lines[-1].strip() if lines else ""

    def reset(self) -> None:
        """Press the reset button."""
        assert self._control
        self._control.command("system_reset")

    def wait(self, timeout: float) -> int:
        """Exit status of the emulator once the firmware has ended it. Raises ``DeviceError`` if it goes on."""
        assert self._process
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise DeviceError(f"the emulator still runs after {timeout:g} s") from None

    def close(self) -> None:
        """End the emulator and release everything; a second call does nothing."""
        if self._port:
            self._port.close()
            self._port = None
        if self._control:
            self._control.close()
            self._control = None
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._log:
            self._log.close()
            self._log = None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def run_tensor(
    component: Path, inputs: Mapping[str, NDArray[Any]], build: Path | None = None
) -> dict[str, NDArray[Any]]:
    """Run the model of a component once in the emulator: input integers NHWC by name to output integers NHWC by name.

    Raises ``DeviceError`` for inputs that are not the model's, ``ToolMissingError`` if the emulator cannot be built.
    """
    with QemuDevice(build_elf(component, build or build_root() / "emulator")) as device:
        client = DeviceClient(device.port)
        info = client.hello()
        if list(inputs) != [info.input.name]:
            raise DeviceError(f"the model's input is {info.input.name}, not {', '.join(inputs) or 'nothing'}")
        client.configure(send_outputs=True)
        return client.infer_tensor(inputs[info.input.name]).outputs
