"""Starts recording bridges as processes and kills them, for test_commands: arguments are the port, folder and count."""

from __future__ import annotations

import importlib
import os
import random
import signal
import sys
import time
from pathlib import Path

from uhd.host.__main__ import main


def warm_up() -> None:
    """Import what the command imports, once for all processes."""
    for name in ("server", "setup", "sinks"):
        importlib.import_module(f"uhd.bridge.{name}")


def run(port: str, folder: Path, count: int) -> None:
    warm_up()
    moments = random.Random(4)
    for number in range(count):
        path = folder / f"{number}.uhdr"
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os._exit(main(["bridge", "--port", port, "--record", str(path)]))
        while not path.exists():
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
