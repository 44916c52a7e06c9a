"""The firmware as ESP-IDF builds it for this machine: the real SDK, its FreeRTOS, our app. Where ESP-IDF is active."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from support.fakemodel import FakeModel
from support.firmware_app import device_tests, running
from support.shared import shared_dir
from uhd.device import idf
from uhd.device.client import DeviceClient

CMAKE = 'idf_component_register(SRCS "src/model.cpp" REQUIRES uhd_runtime)\n'

pytestmark = pytest.mark.idf


@pytest.fixture(autouse=True)
def _needs_esp_idf() -> None:
    if idf.find_idf() is None:
        pytest.skip("ESP-IDF is not active")


def test_app_answers_on_the_linux_target(tmp_path: Path) -> None:
    model = FakeModel(bits=16, maps=("obj", "quality", "cls"))
    component = model.write(tmp_path / "uhd_model")
    (component / "CMakeLists.txt").write_text(CMAKE)
    steps: list[int] = []
    program = idf.build(
        "R",
        "linux",
        tmp_path / "build",
        model_dir=component,
        progress=lambda done, total, what: steps.append(done),
    )
    assert steps and steps[-1] == max(steps)
    rng = np.random.default_rng(7)
    with running(program) as app, app.connect() as port:
        client = DeviceClient(port)
        client.hello(expect_hash=model.hash.hex())
        client.configure(send_outputs=True)
        for _ in range(3):
            network = rng.integers(0, 256, (64, 64, 2), dtype=np.uint8)
            outputs = client.infer_network(network).outputs
            for name, values in model.run(model.input_of(network)).items():
                np.testing.assert_array_equal(outputs[name], values)
        client.shutdown()
        assert app.process.wait(10) == 0


def test_generated_model_on_the_linux_target(tmp_path: Path) -> None:
    """A quantized network as codegen writes it, weights and file embedded, gives the quantizer's own integers."""
    from uhd.codegen import generate
    from uhd.espdl.reader import read_espdl
    from uhd.manifest import ModelManifest

    path = shared_dir("fixtures", "espdl", "w16_yuv_c.espdl")
    vectors = np.load(path.with_suffix(".npz"))
    espdl = read_espdl(path, "c")
    component = tmp_path / "uhd_model"
    generate(espdl, path.read_bytes(), ModelManifest(name="w16"), component)
    program = idf.build("w16", "linux", tmp_path / "build", model_dir=component)
    with running(program) as app, app.connect() as port:
        client = DeviceClient(port)
        info = client.hello(expect_hash=espdl.sha256)
        client.configure(send_outputs=True)
        result = client.infer_tensor(vectors[f"in_{info.input.name}"].astype(info.input.dtype))
        assert result.outputs.keys() == set(espdl.outputs)
        for name, values in result.outputs.items():
            np.testing.assert_array_equal(values.reshape(-1), vectors[f"out_{name}"].reshape(-1))


def test_committed_model_with_a_camera(tmp_path: Path) -> None:
    """What a fresh clone builds: the committed model; its own camera; the device tests."""
    program = idf.build("R", "linux", tmp_path / "build")
    pictures = np.random.default_rng(3).integers(0, 256, (4, 96, 192), dtype=np.uint8)
    (tmp_path / "camera.yuyv").write_bytes(pictures.tobytes())
    camera = {"UHD_CAMERA_FILE": str(tmp_path / "camera.yuyv"), "UHD_CAMERA_FORMAT": "yuyv:96x96@20"}
    with running(program, **camera) as app, app.connect() as port:
        client = DeviceClient(port)
        client.hello()
        client.configure(score_threshold=0.0, stream=True, send_thumbnail=True)
        live = list(islice(client.results(), 6))
        client.configure(score_threshold=0.0)
        for found in live[:2]:
            assert found.thumbnail is not None
            again = client.infer_network(found.thumbnail)
            np.testing.assert_array_equal(again.rows_q16, found.rows_q16)
        assert client.stats()["camera_inferences"] >= 6
    assert " passed" in device_tests(program)
