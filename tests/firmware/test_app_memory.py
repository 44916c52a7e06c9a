"""T33: each allocation of the firmware's start-up fails once. The outcome is a message with a number, never an end."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from support.fakemodel import FakeModel
from support.firmware_app import build_app, running
from support.idf_project import host_compiler
from support.live_app import CameraFile
from uhd.device.client import DeviceClient
from uhd.device.messages import CODES
from uhd.errors import DeviceError

MODEL = FakeModel()
PRELOADED = Path(__file__).parents[1] / "support" / "failing_alloc.cpp"


@pytest.fixture(scope="module")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("preload") / "failing_alloc.so"
    command = [host_compiler(), "-std=c++17", "-O1", "-shared", "-fPIC", str(PRELOADED), "-o", str(library), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return library


def test_every_allocation_of_the_start_up_may_fail(tmp_path: Path, preload: Path) -> None:
    camera = CameraFile(tmp_path, MODEL)
    program = build_app(tmp_path, MODEL)
    environment = {**camera.environment, "LD_PRELOAD": str(preload)}
    count = allocations(program, environment)
    assert count == 2, "activations and the camera's buffers; a new one needs an outcome of its own here"
    with running(program, **environment, UHD_FAIL_ALLOCATION="1") as app, app.connect() as port:
        info = DeviceClient(port).hello()  # internal memory is refused: PSRAM is the second choice
        assert info.faults == () and any(line.endswith("bytes of activations in PSRAM") for line in app.log), app.log
        assert app.process.poll() is None
    with running(program, **environment, UHD_FAIL_ALLOCATION="2") as app, app.connect() as port:
        client = DeviceClient(port)
        end = time.monotonic() + 5
        while not (info := client.hello()).faults and time.monotonic() < end:
            time.sleep(0.05)
        assert info.faults == ("CAMERA_MISSING",)
        assert any("fault 32" in line and "ESP_ERR_NO_MEM" in line for line in app.log_lines())
        assert client.infer_network(np.zeros((64, 64, 2), np.uint8)).candidates >= 0
        assert app.process.poll() is None
    with running(program, **camera.environment, UHD_NO_MEMORY="1") as app, app.connect() as port:
        client = DeviceClient(port)
        info = client.hello(require_ready=False)
        assert info.health == CODES["Health"]["MEMORY"] and info.faults == ("NO_MEMORY",)
        with pytest.raises(DeviceError, match="memory"):
            client.hello()
        assert any("fault 36" in line for line in app.log) and app.process.poll() is None


def allocations(program: Path, environment: dict[str, str]) -> int:
    """How many the program makes until it is ready, and a little longer."""
    process = subprocess.Popen(
        [str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "UHD_LINK_PORT": "0", **environment, "UHD_FAIL_ALLOCATION": "0"},
    )  # fmt: skip
    time.sleep(1.5)
    process.kill()
    return process.communicate()[1].count("allocation")
