"""The firmware's program with a camera: boxes of every picture, and what happens when something is missing or stops."""

from __future__ import annotations

import socket
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from support.fakemodel import FakeModel
from support.firmware_app import build_app, running
from support.live_app import CameraFile
from uhd.device.client import DeviceClient
from uhd.device.messages import CODES
from uhd.errors import DeviceError

MODEL = FakeModel()

#: A display that writes what it is shown to the log.
DISPLAY = """
#include "uhd/display.hpp"
#include <stdlib.h>
#include <unistd.h>
#include "esp_log.h"
namespace uhd {
namespace {
class LogDisplay final : public Display {
 public:
  esp_err_t start() override { return getenv("TEST_DISPLAY_FAILS") ? ESP_ERR_NO_MEM : ESP_OK; }
  void show(const DisplayJob& job) override {
    usleep(1000 * atoi(getenv("TEST_DISPLAY_MS")));
    const CameraPicture& picture = job.frame.picture;
    ESP_LOGI("display", "%ux%u %u boxes", unsigned(picture.width), unsigned(picture.height), job.count);
  }
};
}  // namespace
Display* display() {
  static LogDisplay made;
  return getenv("TEST_DISPLAY_MS") ? &made : nullptr;
}
}  // namespace uhd
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app")
    (folder / "display.cpp").write_text(DISPLAY)
    return build_app(folder, MODEL, display=folder / "display.cpp")


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> CameraFile:
    return CameraFile(tmp_path_factory.mktemp("camera"), MODEL)


def faults(client: DeviceClient) -> tuple[str, ...]:
    return client.hello(require_ready=False).faults


def wait_for(condition: object, seconds: float = 12) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_boxes_of_the_camera_are_those_of_the_twin(program: Path, camera: CameraFile) -> None:
    with running(program, **camera.environment) as app, app.connect() as port:
        client = DeviceClient(port)
        client.hello()
        client.configure(score_threshold=9830 / 65535, stream=True, send_thumbnail=True)
        seen = set()
        for found in islice(client.results(), 12):
            number = next(i for i, n in enumerate(camera.networks) if np.array_equal(n, found.thumbnail))
            assert found.rows_q16.tolist() == camera.rows[number]
            seen.add(number)
        assert len(seen) >= 3
        info, stats = client.hello(), client.stats()
        assert info.camera is not None and (info.camera.format, info.camera.width) == ("yuyv", 64)
        assert info.faults == () and info.reset_reason == "POWER_ON"
        assert stats["camera_captured"] >= stats["camera_inferences"] + stats["camera_dropped"] >= 12


def test_pictures_of_the_host_and_of_the_camera_in_turns(program: Path, camera: CameraFile) -> None:
    network = np.random.default_rng(2).integers(0, 256, (64, 64, 2), dtype=np.uint8)
    expected = camera.rows_of(network)
    with running(program, **camera.environment) as app, app.connect() as port:
        client = DeviceClient(port)
        client.hello()
        for _ in range(5):
            client.configure(score_threshold=9830 / 65535, stream=True)
            assert all(found.rows_q16.tolist() in camera.rows for found in islice(client.results(), 2))
            assert client.infer_network(network).rows_q16.tolist() == expected


def test_a_missing_camera_is_a_fault_and_the_host_is_served(program: Path, camera: CameraFile) -> None:
    with running(program, **camera.environment, UHD_CAMERA_FAULT="missing") as app, app.connect() as port:
        client = DeviceClient(port)
        wait_for(lambda: faults(client) == ("CAMERA_MISSING",))
        assert any(line.startswith("E uhd: fault 32: the camera does not start") for line in app.log_lines())
        assert client.infer_network(np.zeros((64, 64, 2), np.uint8)).candidates >= 0
        client.configure(stream=True)
        with pytest.raises(DeviceError, match="no picture of its camera"):
            next(client.results(timeout=1))


def test_a_camera_that_stops_is_set_up_again(program: Path, camera: CameraFile) -> None:
    with running(program, **camera.environment, UHD_CAMERA_FAULT="stops:7") as app, app.connect() as port:
        client = DeviceClient(port)
        client.hello()
        client.configure(stream=True)
        results = list(islice(client.results(), 12))  # more than it gives before it stops
        assert len(results) == 12
        assert client.stats()["camera_restarts"] >= 1
        assert any(line.startswith("E uhd: fault 33: the camera delivers no pictures") for line in app.log_lines())
        wait_for(lambda: "I uhd: the camera works" in app.log_lines())


def test_a_slow_display_slows_nothing_down(program: Path, camera: CameraFile) -> None:
    with running(program, **camera.environment, TEST_DISPLAY_MS="300") as app, app.connect() as port:
        client = DeviceClient(port)
        client.hello()
        client.configure(stream=True)
        started = time.monotonic()
        list(islice(client.results(), 25))
        shown = sum("display: 64x64" in line for line in app.log_lines())
        assert 25 / (time.monotonic() - started) > 2.5 * 1 / 0.3 and shown >= 1


def test_a_display_that_does_not_start_is_a_fault(program: Path, camera: CameraFile) -> None:
    environment = {"TEST_DISPLAY_MS": "0", "TEST_DISPLAY_FAILS": "1", **camera.environment}
    with running(program, **environment) as app, app.connect() as port:
        client = DeviceClient(port)
        assert faults(client) == ("DISPLAY_MISSING",)
        client.configure(stream=True)
        assert next(client.results()).frame_id


def test_a_brown_out_is_told(program: Path) -> None:
    reason = str(CODES["ResetReason"]["BROWN_OUT"])
    with running(program, UHD_RESET_REASON=reason, UHD_RESET_FAILURES="1") as app, app.connect() as port:
        info = DeviceClient(port).hello()
        assert (info.health, info.faults, info.reset_reason) == (0, ("BROWN_OUT",), "BROWN_OUT")
        assert any(line.startswith("E uhd: fault 38") for line in app.log)


@pytest.mark.parametrize("reason", ["PANIC", "WATCHDOG", "BROWN_OUT"])
def test_the_third_failure_in_a_row_leaves_camera_and_model_off(program: Path, camera: CameraFile, reason: str) -> None:
    failures = {"UHD_RESET_REASON": str(CODES["ResetReason"][reason]), "UHD_RESET_FAILURES": "2"}
    with running(program, **failures, **camera.environment) as app, app.connect() as port:
        client = DeviceClient(port)
        info = client.hello(require_ready=False)
        assert info.health == CODES["Health"]["RESTARTS"] and "RESTARTS" in info.faults
        assert any(line.startswith("E uhd: fault 39") for line in app.log)
        with pytest.raises(DeviceError, match="cut the power|stay off"):
            client.hello()
        assert app.process.poll() is None
    failures["UHD_RESET_FAILURES"] = "0"
    with running(program, **failures) as app, app.connect() as port:
        assert DeviceClient(port).hello().health == 0


def test_a_host_that_stops_reading_is_told_what_it_missed(program: Path, camera: CameraFile) -> None:
    with running(program, **camera.environment) as app:
        with app.connect() as port:
            client = DeviceClient(port)
            client.hello()
            client.configure(stream=True, send_outputs=True, send_thumbnail=True)
            next(client.results())
            time.sleep(3)  # nobody reads; the pipe holds little
            before = client.stats()["dropped_bytes"]
        assert before > 0 or app.process.poll() is None
        with app.connect() as port:
            assert DeviceClient(port).hello().health == 0


def test_without_a_camera_the_log_says_nothing_of_one(program: Path) -> None:
    with running(program) as app, app.connect() as port, socket.socket():
        assert DeviceClient(port).hello().camera is None
        assert not any("camera" in line or "fault" in line for line in app.log), app.log
