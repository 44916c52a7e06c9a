"""Hardware in the loop through pytest-embedded: the same tests on an emulator, on the app as a program and on a board.

What is expected follows from the hash of the device's model (``support.known_device``). ``UHD_SOAK_SECONDS`` makes the
soak longer, ``UHD_DEVICE_PHOTOS`` says how many photos the parity takes.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.known_device import Known, known_by
from uhd.data.synthetic import make_scene
from uhd.device.client import DeviceClient
from uhd.device.detectors import Settings
from uhd.device.frames import camera_pixels
from uhd.device.link import Decoder, Frame, encode_frame
from uhd.device.messages import MESSAGES, PROTOCOL_VERSION, Message, pack, unpack
from uhd.device.parity_record import digest
from uhd.device.ports import FdPort, Port
from uhd.errors import DeviceError
from uhd.image.resize import network_input_u8
from uhd.image.yuyv import camera_to_network, rgb_to_yuyv

pytest.importorskip("pytest_embedded_serial", reason="pytest-embedded-serial is not installed")
pytestmark = pytest.mark.emu

PHOTOS = int(os.environ.get("UHD_DEVICE_PHOTOS", "100"))
SOAK_SECONDS = float(os.environ.get("UHD_SOAK_SECONDS", "5"))
DEFAULT = Settings(0.2, 0.5, 100, 50)


def scene_input(client: DeviceClient, seed: int) -> NDArray[np.uint8]:
    """The network input of a generated scene, in the model's channels."""
    _, height, width, channels = client.info.input.shape
    mode = {1: "opencv_inter_nearest_y", 2: "opencv_inter_nearest_yuv422", 3: "opencv_inter_nearest"}[channels]
    return network_input_u8(make_scene(seed, (72, 96))[0], (height, width), mode)


def use(client: DeviceClient, settings: Settings, **options: Any) -> None:
    client.configure(
        score_threshold=settings.score_threshold,
        nms_iou=settings.nms_iou,
        top_k=settings.top_k,
        limit=settings.limit,
        **{"send_outputs": True, **options},
    )


def assert_same(client: DeviceClient, known: Known, picture: NDArray[np.uint8], settings: Settings = DEFAULT) -> None:
    """The device's boxes and integers of a picture are the known ones."""
    result = client.infer_network(picture)
    rows, outputs = known.expected(picture, settings)
    assert digest(result.outputs) == digest(outputs)
    np.testing.assert_array_equal(result.rows, rows)


def pictures_of_the_host(stats: dict[str, int]) -> int:
    """Inferences without those of the device's own camera."""
    return stats["inferences"] - stats["camera_inferences"]


class Talk:
    """Messages over a ``dut``, which polls its port every 50 ms."""

    def __init__(self, dut: Any) -> None:
        self.dut, self.seq, self.decoder = dut, 0, Decoder()

    def send(self, name: str, tail: bytes = b"", **values: Any) -> None:
        self.dut.write(encode_frame(MESSAGES[name].type, self.seq, pack(name, tail, **values)))
        self.seq += 1

    def receive(self, name: str, timeout: float = 20) -> Message:
        """The next message of that name; console text and other messages in front of it are skipped."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            segment = self.dut.expect(rb"([^\x00]+)\x00", timeout=timeout).group(1)
            for item in self.decoder.feed(b"\0" + segment + b"\0"):
                if isinstance(item, Frame):
                    message = unpack(item.type, item.payload)
                    if message.name == name:
                        return message
        raise DeviceError(f"no {name} within {timeout} s")


def test_boot(dut: Any, reset: Callable[[], None]) -> None:
    """A device that has just started knows no session, says so, and then introduces itself with clean counters."""
    talk = Talk(dut)
    talk.send("HELLO", protocol_version=PROTOCOL_VERSION)
    talk.receive("INFO")
    reset()
    for _ in range(30):
        talk.send("STATS_REQUEST")
        try:
            answer = talk.receive("ERROR", timeout=1)
            break
        except Exception as silence:  # pexpect's own, not an Exception of ours: still starting
            last = silence
    else:
        raise last
    assert answer["code"] == 2, answer.tail
    talk.send("HELLO", protocol_version=PROTOCOL_VERSION)
    info = talk.receive("INFO")
    assert info["health"] == 0 and info["faults"] == 0
    if not info["camera_format"]:
        assert info["inferences"] == 0


def test_hello(dut: Any) -> None:
    talk = Talk(dut)
    talk.send("HELLO", protocol_version=PROTOCOL_VERSION)
    info = talk.receive("INFO")
    assert info["protocol_version"] == PROTOCOL_VERSION
    assert info["health"] == 0
    assert info["credit"] >= 1024
    assert len(info.tail) >= 2
    assert info["arena_size"] > 0


def test_one_known_photo(client: DeviceClient, known: Known) -> None:
    """Integers by the oracle, which shares no code with the device; boxes in order and within the limit."""
    use(client, DEFAULT)
    picture = scene_input(client, 3)
    result = client.infer_network(picture)
    expected = known.oracle(picture)
    assert result.outputs.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(result.outputs[name].reshape(-1), np.asarray(values).reshape(-1), name)
    rows, _ = known.expected(picture, DEFAULT)
    np.testing.assert_array_equal(result.rows, rows)
    assert len(result.rows) <= DEFAULT.limit and (np.diff(result.rows[:, 0]) <= 0).all()
    assert result.timings.inference_us > 0 and result.timings.timestamp_us > 0
    again = client.infer_network(picture)
    assert again.frame_id != result.frame_id
    np.testing.assert_array_equal(again.rows_q16, result.rows_q16)


def test_parity_on_many_photos(client: DeviceClient, known: Known) -> None:
    use(client, DEFAULT)
    for seed in range(PHOTOS):
        assert_same(client, known, scene_input(client, seed))
    counters = client.connection.counters
    assert counters.restarts == 0


def test_camera_frames(client: DeviceClient, known: Known) -> None:
    """The device picks the network input out of camera frames as the image contract says."""
    if client.info.input.shape[3] != 2:
        pytest.skip("the model takes no camera frames")
    use(client, DEFAULT, send_thumbnail=True)
    for seed, size in enumerate([(64, 64), (37, 101), (96, 128)]):
        frame = rgb_to_yuyv(camera_pixels(make_scene(seed, size)[0]))
        height, stride = frame.shape
        result = client.infer_camera(frame, stride // 2, height)
        network = camera_to_network(frame, stride // 2, height, out=client.info.input.shape[1:3])
        assert result.thumbnail is not None
        np.testing.assert_array_equal(result.thumbnail, network)
        np.testing.assert_array_equal(result.rows, known.expected(network, DEFAULT)[0])


@pytest.mark.parametrize(
    "settings",
    [
        Settings(1 / 65535, 0.5, 1024, 250),
        Settings(0.5, 0.5, 100, 100),
        Settings(1.0, 0.5, 100, 100),
        Settings(0.05, 0.1, 60, 100),
        Settings(0.05, 1.0, 60, 100),
        Settings(0.05, 0.5, 1, 100),
        Settings(0.05, 0.5, 30, 3),
    ],
    ids=str,
)
def test_reconfiguration(client: DeviceClient, known: Known, settings: Settings) -> None:
    picture = scene_input(client, 11)
    use(client, DEFAULT)
    assert_same(client, known, picture)
    use(client, settings)
    assert_same(client, known, picture, settings)
    use(client, DEFAULT)
    assert_same(client, known, picture)


def test_a_bad_configuration_changes_nothing(client: DeviceClient, known: Known) -> None:
    use(client, DEFAULT)
    with pytest.raises(DeviceError, match="BAD_CONFIG"):
        client.connection.request("CONFIG", "ACK", top_k=0, limit=1)
    assert_same(client, known, scene_input(client, 5))


class Scripted:
    """A port on which something happens before some of the writes."""

    def __init__(self, port: FdPort, before: Callable[[int], None]) -> None:
        self.name, self._port, self._before, self.writes = port.name, port, before, 0

    def read(self, timeout: float) -> bytes:
        return self._port.read(timeout)

    def write(self, data: bytes, timeout: float = 5.0) -> None:
        self._before(self.writes)
        self.writes += 1
        self._port.write(data, timeout)

    def close(self) -> None:
        self._port.close()


def client_on(port: Port) -> tuple[DeviceClient, Known]:
    made = DeviceClient(port, timeout=5)
    info = made.hello()
    known = known_by(info.model_hash)
    if known is None:
        pytest.skip(f"the device runs {info.name} ({info.model_hash}), which is not of this release")
    return made, known


def rubbish(rng: random.Random) -> bytes:
    """Noise, runs of zeros and of 255, text, half a frame, a frame of an unknown type, one that is far too long."""
    frame = encode_frame(MESSAGES["FRAME"].type, 9, rng.randbytes(200))
    return rng.choice(
        [
            rng.randbytes(rng.randrange(1, 300)),
            bytes(rng.randrange(1, 50)),
            b"\xff" * rng.randrange(1, 300),
            b"hello, is this a shell?\r\n",
            frame[: rng.randrange(1, len(frame))],
            encode_frame(0xBE, 1, b"?"),
            b"\x01" * 6000,
        ]
    )


def test_garbage_before_and_between_frames(link: FdPort) -> None:
    rng = random.Random(6)
    link.write(rubbish(rng))
    client, known = client_on(Scripted(link, lambda number: link.write(rubbish(rng))))
    use(client, DEFAULT)
    for seed in range(6):
        assert_same(client, known, scene_input(client, seed))
    counted = client.stats()
    assert counted["crc_errors"] + counted["malformed"] + counted["overlong"] > 0
    assert client.connection.counters.restarts == 0


def test_reset_in_the_middle_of_a_frame(link: FdPort, reset: Callable[[], None]) -> None:
    """The reset button within a picture: the session is taken up again, the boxes are those of the whole picture."""
    due: list[int] = []

    def press(number: int) -> None:
        if due and number == due[0]:
            due.clear()
            reset()

    port = Scripted(link, press)
    client, known = client_on(port)
    use(client, DEFAULT)
    for seed in range(3):
        due.append(port.writes + 1 + seed)
        assert_same(client, known, scene_input(client, seed))
        assert client.connection.counters.restarts == seed + 1
    assert pictures_of_the_host(client.stats()) <= 1, "counted since the last reset"


def test_soak(client: DeviceClient, known: Known) -> None:
    """Pictures, configurations and noise for a while: every answer right, memory still, no fault, no restart."""
    rng = random.Random(1)
    use(client, DEFAULT)
    assert_same(client, known, scene_input(client, 0))  # what is set up on first use is set up now
    started, end = client.stats(), time.monotonic() + SOAK_SECONDS
    pictures = 0
    settings = DEFAULT
    while time.monotonic() < end or pictures < 5:
        if rng.random() < 0.2:
            settings = Settings(rng.choice([0.05, 0.2, 0.5]), rng.choice([0.3, 0.5]), rng.choice([20, 100]), 50)
            use(client, settings)
        if rng.random() < 0.2:
            client.connection.port.write(b"\0" + rng.randbytes(100) + b"\0")
        assert_same(client, known, scene_input(client, rng.randrange(10_000)), settings)
        pictures += 1
    ended = client.stats()
    assert pictures_of_the_host(ended) - pictures_of_the_host(started) == pictures
    assert ended["memory_used"] == started["memory_used"] and ended["memory_size"] == started["memory_size"]
    assert ended["heap_low_water"] == started["heap_low_water"]
    assert ended["faults"] == 0 and client.connection.counters.restarts == 0
