"""Hardware in the loop through pytest-embedded: the same test on an emulator and on a board.

``dut`` polls its port every 50 ms, so nothing here measures time.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from support.fakemodel import FakeModel
from support.twinlib import library
from uhd.device.link import Decoder, Frame, encode_frame
from uhd.device.messages import CODES, MESSAGES, PROTOCOL_VERSION, Message, pack, unpack
from uhd.errors import DeviceError

pytest.importorskip("pytest_embedded_serial", reason="pytest-embedded-serial is not installed")
pytestmark = pytest.mark.emu
TIMED = CODES["ConfigFlags"]["SEND_TIMING"]


class Talk:
    """Messages over a ``dut``."""

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
                    if message.name == "ERROR":
                        raise DeviceError(message.tail)
                    if message.name == name:
                        return message
        raise DeviceError(f"no {name} within {timeout} s")


@pytest.fixture
def talk(dut: Any) -> Talk:
    made = Talk(dut)
    made.send("HELLO", protocol_version=PROTOCOL_VERSION)
    return made


def infer(talk: Talk, info: Message, picture: bytes, frame_id: int) -> Message:
    """Send a network input under the device's credit and wait for its boxes."""
    shape = info.tail[0]
    head = {"frame_id": frame_id, "width": shape["width"], "height": shape["height"], "total": len(picture)}
    sent = acknowledged = 0
    while acknowledged < len(picture):
        while sent < min(len(picture), acknowledged + info["credit"]):
            piece = picture[sent : sent + 1024]
            talk.send("FRAME", piece, offset=sent, **head)
            sent += len(piece)
        acknowledged = talk.receive("ACK")["next_offset"]
    assert talk.receive("TIMING")["frame_id"] == frame_id
    return talk.receive("DETECTIONS")


def test_hello(talk: Talk, known_model: FakeModel | None) -> None:
    info = talk.receive("INFO")
    assert info["protocol_version"] == PROTOCOL_VERSION
    assert info["health"] == 0
    assert info["credit"] >= 1024
    assert len(info.tail) >= 2
    if known_model:
        assert info["model_hash"] == known_model.hash
        assert info["name"] == known_model.name


def test_one_picture(talk: Talk, known_model: FakeModel | None) -> None:
    info = talk.receive("INFO")
    shape = tuple(info.tail[0][n] for n in ("height", "width", "channels"))
    picture = np.random.default_rng(4).integers(0, 256, shape, dtype=np.uint8)
    talk.send("CONFIG", score_threshold=0, nms_iou=32768, top_k=100, limit=20, flags=TIMED, results_every=1)
    talk.receive("ACK")
    first = infer(talk, info, picture.tobytes(), 1)
    assert first["frame_id"] == 1
    assert first["count"] == len(first.tail) <= 20
    scores = [box["score"] for box in first.tail]
    assert scores == sorted(scores, reverse=True)
    again = infer(talk, info, picture.tobytes(), 2)
    assert again.tail == first.tail
    other = infer(talk, info, bytes(picture.size), 3)
    assert other["frame_id"] == 3
    if known_model:
        outputs = known_model.run(known_model.input_of(picture))
        rows, candidates = library(known_model).sent(outputs, 0, 32768, 100)
        names = ("score", "cls", "cx", "cy", "width", "height")
        assert [[box[n] for n in names] for box in first.tail] == rows[:20].tolist()
        assert first["candidates"] == candidates
        assert other.tail != first.tail
