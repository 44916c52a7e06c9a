"""Running the firmware's native program and connecting to its link."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uhd.device.ports import FdPort, open_port


class Running:
    """A started program: its process, what it has logged, and its port."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.log: list[str] = []
        self.number = 0
        for line in process.stdout:
            self.log.append(line.strip())
            if line.startswith("link on 127.0.0.1:"):
                self.number = int(line.rpartition(":")[2])
            if "ready on" in line or "does not open" in line:
                break

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
        process.communicate()
