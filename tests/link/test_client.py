"""The client against the real device loop in memory: requests, pictures, refusals, restarts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from support.camera import slow_camera_to_network
from support.fakemodel import FakeModel
from support.twinlib import CppDevice, Library, library
from uhd.device.client import DeviceClient, to_q16
from uhd.device.compile import CORE
from uhd.device.link import encode_frame
from uhd.device.messages import CODES, MESSAGES, PROTOCOL_VERSION, pack
from uhd.errors import ConfigError, DeviceError

MODEL = FakeModel()


def connect(device: CppDevice) -> DeviceClient:
    return DeviceClient(device, timeout=0.05, retries=3, patience=2)


@pytest.fixture
def device() -> Iterator[CppDevice]:
    made = CppDevice(library(MODEL))
    yield made
    made.close()


@pytest.fixture
def client(device: CppDevice) -> DeviceClient:
    return connect(device)


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (64, 64, 2), dtype=np.uint8)


def test_hello_tells_what_the_device_is(client: DeviceClient) -> None:
    info = client.hello(expect_hash=MODEL.hash.hex())
    assert (info.name, info.variant, info.target, info.backend) == ("fake", "R", "c", "host twin")
    assert info.model_hash == hashlib.sha256(MODEL.espdl).hexdigest()
    assert info.espdl_size == len(MODEL.espdl)
    assert (info.input.name, info.input.shape, info.input.dtype, info.input.exponent) == (
        "input",
        (1, 64, 64, 2),
        np.int8,
        -7,
    )
    assert {o.name: o.shape for o in info.outputs} == {n: (1, 8, 8, c) for n, c in MODEL.output_channels.items()}
    assert {o.exponent for o in info.outputs} == {MODEL.exponent}
    assert (info.score_threshold_q16, info.nms_iou_q16, info.top_k, info.class_count) == (9830, 32768, 100, 1)
    assert info.health == 0
    assert info.counters["frames_received"] == 1


def test_unknown_hash_is_refused_naming_both(client: DeviceClient) -> None:
    known = ["00" * 32, "11" * 32]
    with pytest.raises(DeviceError) as caught:
        client.hello(expect_hash=known)
    for part in (*known, MODEL.hash.hex(), "fake"):
        assert part in str(caught.value)
    assert client.hello(expect_hash=[*known, MODEL.hash.hex()]).name == "fake"


def test_network_input_to_boxes(client: DeviceClient, picture: NDArray[np.uint8]) -> None:
    client.configure(score_threshold=0.4, nms_iou=0.6, top_k=50, limit=7, send_outputs=True, send_thumbnail=True)
    result = client.infer_network(picture)
    outputs = MODEL.run(MODEL.input_of(picture))
    assert result.outputs.keys() == outputs.keys()
    for name, expected in outputs.items():
        assert result.outputs[name].dtype == expected.dtype
        np.testing.assert_array_equal(result.outputs[name], expected)
    rows, candidates = library(MODEL).sent(outputs, to_q16(0.4), to_q16(0.6), 50)
    np.testing.assert_array_equal(result.rows_q16, rows[:7])
    assert result.candidates == candidates > len(rows)
    np.testing.assert_array_equal(result.rows[:, [0, 2, 3]], rows[:7][:, [0, 2, 3]] / 65535)
    np.testing.assert_array_equal(result.rows[:, 4:], rows[:7][:, 4:] / 16384)
    np.testing.assert_array_equal(result.rows[:, 1], rows[:7, 1])
    assert result.thumbnail is not None
    np.testing.assert_array_equal(result.thumbnail, picture)
    assert result.timings.receive_us >= result.timings.preprocess_us >= 0
    assert result.timings.inference_ticks > 0


def test_times_come_only_when_asked_for(client: DeviceClient, picture: NDArray[np.uint8]) -> None:
    untimed = client.infer_network(picture)
    assert untimed.timings.round_trip_s > 0
    assert not any(value for name, value in vars(untimed.timings).items() if name != "round_trip_s")
    client.configure()
    timed = client.infer_network(picture)
    assert timed.timings.inference_ticks > 0 and timed.timings.timestamp_us > 0
    client.configure(send_timing=False)
    assert client.infer_network(picture).timings.inference_ticks == 0


def test_network_input_of_every_nth_picture(client: DeviceClient, picture: NDArray[np.uint8]) -> None:
    client.configure(thumbnail_every=3)
    thumbnails = [client.infer_network(picture).thumbnail for _ in range(7)]
    assert [i for i, thumbnail in enumerate(thumbnails, 1) if thumbnail is not None] == [3, 6]
    np.testing.assert_array_equal(thumbnails[2], picture)
    client.configure(send_thumbnail=True, thumbnail_every=0)
    assert client.infer_network(picture).thumbnail is None, "the longer form wins"


@pytest.mark.parametrize("classes", [1, 3])
def test_classes_of_a_model_with_several(classes: int, picture: NDArray[np.uint8]) -> None:
    model = FakeModel(classes=classes)
    device = CppDevice(library(model))
    client = connect(device)
    client.configure(score_threshold=0.2)
    result = client.infer_network(picture)
    rows, _ = library(model).sent(model.run(model.input_of(picture)), to_q16(0.2), 32768, 100)
    np.testing.assert_array_equal(result.rows_q16, rows)
    assert len(set(rows[:, 1].tolist())) == classes, "the model finds all of them"
    device.close()


def test_tensor_and_network_input_give_the_same(client: DeviceClient, picture: NDArray[np.uint8]) -> None:
    client.configure(send_outputs=True, send_thumbnail=True)
    by_network = client.infer_network(picture)
    by_tensor = client.infer_tensor(MODEL.input_of(picture).astype(np.int64)[0])
    np.testing.assert_array_equal(by_tensor.rows_q16, by_network.rows_q16)
    for name in by_network.outputs:
        np.testing.assert_array_equal(by_tensor.outputs[name], by_network.outputs[name])
    assert by_tensor.thumbnail is None
    assert by_tensor.frame_id != by_network.frame_id


@pytest.mark.parametrize(("width", "height", "stride"), [(64, 64, 0), (240, 240, 481), (322, 7, 700), (2, 1, 5)])
def test_camera_picture(client: DeviceClient, width: int, height: int, stride: int) -> None:
    step = stride or 2 * width
    frame = np.random.default_rng(2).integers(0, 256, step * (height - 1) + 2 * width, dtype=np.uint8)
    client.configure(send_outputs=True, send_thumbnail=True)
    result = client.infer_camera(frame, width, height, stride)
    network = slow_camera_to_network(frame.tobytes(), width, height, step, (64, 64))
    assert result.thumbnail is not None
    np.testing.assert_array_equal(result.thumbnail, network)
    np.testing.assert_array_equal(result.outputs["box"], MODEL.run(MODEL.input_of(network))["box"])


def test_int16_model_and_classless_head(picture: NDArray[np.uint8]) -> None:
    model = FakeModel(bits=16, maps=("obj",), exponent=-11)
    device = CppDevice(library(model))
    client = connect(device)
    client.configure(send_outputs=True)
    result = client.infer_network(picture)
    tensor = model.input_of(picture)
    assert tensor.dtype == np.int16
    for name, expected in model.run(tensor).items():
        np.testing.assert_array_equal(result.outputs[name], expected)
    np.testing.assert_array_equal(client.infer_tensor(tensor).rows_q16, result.rows_q16)
    with pytest.raises(ConfigError, match="40000"):
        client.infer_tensor(np.full((1, 64, 64, 2), 40000))
    device.close()


def test_model_without_head_still_gives_outputs(picture: NDArray[np.uint8]) -> None:
    model = FakeModel(head=False)
    device = CppDevice(library(model))
    client = connect(device)
    client.configure(send_outputs=True)
    result = client.infer_network(picture)
    assert result.rows.shape == (0, 6)
    np.testing.assert_array_equal(result.outputs["cls"], model.run(model.input_of(picture))["cls"])
    device.close()


def test_configuration_is_replaced_and_forgotten_by_hello(client: DeviceClient, picture: NDArray[np.uint8]) -> None:
    default = client.infer_network(picture)
    client.configure(score_threshold=0.99)
    strict = client.infer_network(picture)
    assert len(strict.rows) < len(default.rows)
    assert (strict.rows[:, 0] >= 0.99).all()
    client.configure()
    np.testing.assert_array_equal(client.infer_network(picture).rows_q16, default.rows_q16)
    client.configure(limit=1)
    assert len(client.infer_network(picture).rows) == 1
    client.hello()
    np.testing.assert_array_equal(client.infer_network(picture).rows_q16, default.rows_q16)


@pytest.mark.parametrize(
    "wrong",
    [
        {"score_threshold": 1.5},
        {"nms_iou": -0.1},
        {"top_k": 0},
        {"top_k": 1025},
        {"limit": 0},
        {"limit": 251},
        {"thumbnail_every": -1},
        {"thumbnail_every": 65536},
        {"results_every": 0},
    ],
)
def test_configuration_out_of_range(client: DeviceClient, wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(wrong.values())))):
        client.configure(**wrong)  # type: ignore[arg-type]


def test_pictures_that_do_not_fit(client: DeviceClient, picture: NDArray[np.uint8]) -> None:
    with pytest.raises(ConfigError, match="float32"):
        client.infer_network(picture.astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="63"):
        client.infer_network(picture[:63])
    for size, stride in (((63, 64), 0), ((64, 0), 0), ((64, 64), 100), ((0, 64), 0)):
        with pytest.raises(ConfigError, match="camera picture"):
            client.infer_camera(bytes(20000), *size, stride)
    with pytest.raises(ConfigError, match="8192 to 16777216"):
        client.infer_camera(bytes(8191), 64, 64)
    with pytest.raises(ConfigError, match="float64"):
        client.infer_tensor(np.zeros((1, 64, 64, 2)))
    assert client.stats()["inferences"] == 0


def test_camera_picture_for_a_model_that_takes_none() -> None:
    device = CppDevice(library(FakeModel(channels=3)))
    with pytest.raises(DeviceError, match="does not fit.*BAD_FRAME"):
        connect(device).infer_camera(bytes(8192), 64, 64)
    device.close()


def test_failing_model_is_reported(picture: NDArray[np.uint8]) -> None:
    device = CppDevice(library(FakeModel(broken="run")))
    client = connect(device)
    with pytest.raises(DeviceError, match="corrupt.*MODEL_FAILED"):
        client.infer_network(picture)
    assert client.stats()["inferences"] == 0
    device.close()


def test_model_of_another_hash_is_not_run(picture: NDArray[np.uint8]) -> None:
    device = CppDevice(library(FakeModel(broken="hash")))
    client = connect(device)
    with pytest.raises(DeviceError, match="not ready.*SHA-256"):
        client.hello()
    assert client.hello(require_ready=False).health == CODES["Health"]["MODEL_HASH"]
    with pytest.raises(DeviceError, match="SHA-256.*NOT_READY"):
        client.infer_network(picture)
    assert client.stats()["inferences"] == 0
    device.close()


def test_too_little_memory_is_said() -> None:
    device = CppDevice(library(MODEL), memory=9000)
    client = connect(device)
    with pytest.raises(DeviceError, match="not ready.*memory"):
        client.hello()
    client.hello(require_ready=False)
    assert client.stats()["memory_size"] == 9000
    device.close()


def test_stats_count(device: CppDevice, client: DeviceClient, picture: NDArray[np.uint8]) -> None:
    client.hello()
    for _ in range(3):
        client.infer_network(picture)
    device.write(encode_frame(0x9E, 0, b"from the future") + encode_frame(0x84, 0, b"")[:-4] + b"\0")
    stats = client.stats()
    assert stats["inferences"] == 3
    assert stats["unknown"] == 1
    assert stats["crc_errors"] + stats["malformed"] == 1
    assert stats["memory_used"] == stats["memory_size"] > 9344


# ---- restarts, versions, silence ----


class RestartingDevice(CppDevice):
    """Loses power when the n-th byte has been sent to it."""

    def __init__(self, at: int, restarts: int = 1) -> None:
        super().__init__(library(MODEL))
        self.left, self.restarts, self.at = at, restarts, at

    def write(self, data: bytes, timeout: float = 5.0) -> None:
        if self.restarts and self.left <= len(data):
            super().write(data[: self.left])
            self.reset()
            data, self.left = data[self.left :], self.at
            self.restarts -= 1
        self.left -= len(data)
        super().write(data)


@pytest.mark.parametrize("at", range(60, 8400, 971))
def test_restart_in_the_middle_is_survived(at: int, picture: NDArray[np.uint8]) -> None:
    device = RestartingDevice(at)
    client = connect(device)
    client.configure(score_threshold=0.5, send_outputs=True)
    result = client.infer_network(picture)
    expected = MODEL.run(MODEL.input_of(picture))
    np.testing.assert_array_equal(result.outputs["box"], expected["box"])
    rows, _ = library(MODEL).sent(expected, to_q16(0.5), 32768, 100)
    np.testing.assert_array_equal(result.rows_q16, rows)
    assert client.connection.counters.restarts == 1
    device.close()


def test_restart_between_pictures_keeps_the_configuration(device: CppDevice, picture: NDArray[np.uint8]) -> None:
    client = connect(device)
    client.configure(limit=2)
    assert len(client.infer_network(picture).rows) == 2
    device.reset()
    assert len(client.infer_network(picture).rows) == 2
    device.reset()
    assert client.stats()["inferences"] == 0
    device.reset()
    client.configure(limit=3)
    assert len(client.infer_network(picture).rows) == 3
    assert client.connection.counters.restarts == 3


def test_device_that_never_stays_up_is_given_up(picture: NDArray[np.uint8]) -> None:
    device = RestartingDevice(5000, restarts=100)
    with pytest.raises(DeviceError, match="restarts again and again"):
        connect(device).infer_network(picture)
    device.close()


NEXT = PROTOCOL_VERSION + 1


def test_old_firmware_new_host(device: CppDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """T9: the host speaks the next version; the C++ device of today's refuses, and the host names both."""
    monkeypatch.setattr("uhd.device.client.PROTOCOL_VERSION", NEXT)
    monkeypatch.setattr("uhd.device.connection.PROTOCOL_VERSION", NEXT)
    with pytest.raises(
        DeviceError, match=f"device speaks protocol version {PROTOCOL_VERSION}, this host version {NEXT}"
    ):
        connect(device).hello()


def test_device_says_the_versions_too(device: CppDevice) -> None:
    device.write(encode_frame(MESSAGES["HELLO"].type, 0, pack("HELLO", protocol_version=7)))
    said = device.read(0)
    assert b"another protocol version is spoken here" in said
    device.write(encode_frame(MESSAGES["STATS_REQUEST"].type, 1, b""))
    assert b"HELLO first" in device.read(0)


@pytest.fixture(scope="module")
def next_version(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Firmware of the next protocol version."""
    folder = tmp_path_factory.mktemp("next") / "uhd"
    folder.mkdir()
    header = (CORE / "include" / "uhd" / "link_enums.hpp").read_text()
    header = header.replace(f"kProtocolVersion = {PROTOCOL_VERSION};", f"kProtocolVersion = {NEXT};")
    (folder / "link_enums.hpp").write_text(header)
    return Library(MODEL, first_include=folder.parent)


def test_new_firmware_old_host(next_version: Library) -> None:
    """T9, the other way round."""
    device = CppDevice(next_version)
    with pytest.raises(
        DeviceError, match=f"device speaks protocol version {NEXT}, this host version {PROTOCOL_VERSION}"
    ):
        connect(device).hello()
    device.close()


class Scripted:
    """A port that answers every write with fixed bytes."""

    name = "scripted"

    def __init__(self, answer: bytes) -> None:
        self.answer, self.waiting, self.writes = answer, b"", 0

    def write(self, data: bytes, timeout: float = 5.0) -> None:
        self.writes += 1
        self.waiting = self.answer

    def read(self, timeout: float) -> bytes:
        data, self.waiting = self.waiting, b""
        return data

    def close(self) -> None:
        pass


def test_silent_device(monkeypatch: pytest.MonkeyPatch) -> None:
    port = Scripted(b"ets Jul 29 2019\r\nrst:0x10\r\n")
    lines: list[str] = []
    client = DeviceClient(port, timeout=0.02, retries=2, on_console=lines.append)
    with pytest.raises(DeviceError, match=r"scripted: no answer to HELLO \(3 attempts"):
        client.hello()
    assert port.writes == 3
    assert lines == ["ets Jul 29 2019", "rst:0x10"] * 3
    assert list(client.connection.console) == lines


class Truncated:
    """A port whose answer to everything is cut off, and whose waits pass in no time. ``now``: its clock."""

    name = "truncated"

    def __init__(self, answer: bytes) -> None:
        self.answer, self.waiting, self.now = answer, b"", 100.0

    def write(self, data: bytes, timeout: float = 5.0) -> None:
        self.waiting = self.answer

    def read(self, timeout: float) -> bytes:
        data, self.waiting = self.waiting, b""
        self.now += 0 if data else timeout
        return data

    def close(self) -> None:
        pass


@pytest.mark.parametrize("name", [name for name, spec in MESSAGES.items() if spec.direction == "to host"])
def test_answers_cut_off_at_every_offset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """T5 at the host: an error after the time-outs that were asked for and no more, whatever is cut off where."""
    spec = MESSAGES[name]
    values = {f.name: PROTOCOL_VERSION for f in spec.fields if f.name == "protocol_version"}
    tails = {"text": b"why", "bytes": b"\0\1\2", "TensorRow": [{"name": b"x"}]}
    frame = encode_frame(spec.type, 0, pack(name, tails.get(spec.tail, b""), **values))
    for cut in range(len(frame) - 1):
        port = Truncated(frame[:cut])
        monkeypatch.setattr("uhd.device.connection.time.monotonic", lambda port=port: port.now)
        client = DeviceClient(port, timeout=2, retries=1)
        with pytest.raises(DeviceError, match="no answer to HELLO"):
            client.hello()
        assert port.now - 100 <= 2 * 2 * 1.1


def test_info_of_another_layout_is_no_answer() -> None:
    port = Scripted(encode_frame(MESSAGES["INFO"].type, 0, pack("INFO", protocol_version=PROTOCOL_VERSION)[:-1]))
    client = DeviceClient(port, timeout=0.02, retries=1)
    with pytest.raises(DeviceError, match="no answer"):
        client.hello()
    assert client.connection.decoder.counters.malformed == 2
    port.answer = encode_frame(MESSAGES["INFO"].type, 0, pack("INFO", protocol_version=PROTOCOL_VERSION))
    with pytest.raises(DeviceError, match="no input tensor"):
        client.hello()


def test_unknown_messages_are_skipped_and_counted(device: CppDevice) -> None:
    client = connect(device)
    device.said += encode_frame(0xBE, 4, b"news") + encode_frame(MESSAGES["STATS"].type, 5, pack("STATS"))
    assert client.hello().name == "fake"
    assert client.connection.decoder.counters.unknown == 1
    assert client.connection.counters.stale == 1


def test_shutdown(device: CppDevice) -> None:
    client = connect(device)
    client.hello()
    assert not device.is_shut_down
    client.shutdown()
    assert device.is_shut_down


def test_q16() -> None:
    assert [to_q16(v) for v in (0, 0.5, 1, 1 / 65535)] == [0, 32768, 65535, 1]
    with pytest.raises(ConfigError, match="score is 1.1"):
        to_q16(1.1, "score")
