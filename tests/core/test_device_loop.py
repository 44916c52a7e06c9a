"""The C++ device loop, message by message: what it answers to the right, the wrong and the absurd."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from support.fakemodel import FakeModel
from support.integer_decode import all_candidates
from support.twinlib import SANITIZE, CppDevice, library
from uhd.device.link import Decoder, Frame, encode_frame
from uhd.device.messages import (
    BY_TYPE,
    CODES,
    LIMITS,
    MAX_PAYLOAD,
    MESSAGES,
    NO_TEMPERATURE,
    PROTOCOL_VERSION,
    Message,
    pack,
    unpack,
)

MODEL = FakeModel()
ERRORS = {value: name for name, value in CODES["ErrorCode"].items()}
HEAD = {"frame_id": 5, "format": 0, "width": 64, "height": 64, "stride": 0, "total": 8192}
PICTURE = np.random.default_rng(1).integers(0, 256, (64, 64, 2), dtype=np.uint8).tobytes()


class Talk:
    """A device and what it says, as messages."""

    def __init__(self, model: FakeModel = MODEL, *, hello: bool = True, credit: int = 4096) -> None:
        self.device = CppDevice(library(model), credit=credit)
        self.decoder, self.seq = Decoder(), 0
        if hello:
            self.say("HELLO", protocol_version=PROTOCOL_VERSION)

    def raw(self, data: bytes) -> list[Message]:
        self.device.write(data)
        items = self.decoder.feed(self.device.read(0) if self.device.said else b"")
        return [unpack(f.type, f.payload) for f in items if isinstance(f, Frame)]

    def say(self, name: str, tail: bytes = b"", **values: Any) -> list[Message]:
        self.seq += 1
        return self.raw(encode_frame(MESSAGES[name].type, self.seq, pack(name, tail, **values)))

    def frame(self, offset: int, data: bytes, **changes: Any) -> list[Message]:
        return self.say("FRAME", data, **{**HEAD, "offset": offset, **changes})

    def configure(self, **values: int) -> list[Message]:
        return self.say("CONFIG", **{"top_k": 100, "limit": 100, "results_every": 1, **values})

    def send(self, data: bytes = PICTURE, step: int = 4000, **changes: Any) -> list[Message]:
        """A whole picture; what the device says to its last piece."""
        answers: list[Message] = []
        for offset in range(0, len(data), step):
            answers = self.frame(offset, data[offset : offset + step], total=len(data), **changes)
        return answers


@pytest.fixture
def talk() -> Iterator[Talk]:
    made = Talk()
    yield made
    made.device.close()


def error_of(answers: list[Message]) -> str:
    assert [m.name for m in answers] == ["ERROR"]
    assert answers[0]["protocol_version"] == PROTOCOL_VERSION
    return ERRORS[answers[0]["code"]]


def test_nothing_works_before_hello() -> None:
    talk = Talk(hello=False)
    requests = (
        lambda: talk.say("CONFIG", top_k=1, limit=1, results_every=1),
        lambda: talk.frame(0, b"x"),
        lambda: talk.say("STATS_REQUEST"),
    )
    for request in requests:
        answers = request()
        assert error_of(answers) == "NO_SESSION"
        assert answers[0]["reply_to"] == talk.seq
    assert talk.say("SHUTDOWN", magic=LIMITS["SHUTDOWN_MAGIC"][0])[0].name == "ERROR"
    assert not talk.device.is_shut_down
    talk.device.close()


@pytest.mark.parametrize("name", ["HELLO", "CONFIG", "FRAME", "STATS_REQUEST", "SHUTDOWN"])
def test_wrong_sizes(talk: Talk, name: str) -> None:
    spec = MESSAGES[name]
    good = pack(name, **({"protocol_version": PROTOCOL_VERSION} if name == "HELLO" else {}))
    for payload in (good + b"x", good[:-1]):
        if (len(payload) > spec.size and spec.tail) or payload == good:
            continue
        assert error_of(talk.raw(encode_frame(spec.type, 77, payload))) == "BAD_MESSAGE"


def test_a_picture_in_pieces(talk: Talk) -> None:
    for offset in range(0, 8192, 1000):
        answers = talk.frame(offset, PICTURE[offset : offset + 1000])
        ack = answers[0]
        assert (ack.name, ack["reply_to"], ack["reply_type"], ack["frame_id"]) == ("ACK", talk.seq, 0x83, 5)
        assert ack["next_offset"] == min(offset + 1000, 8192)
        assert ack["credit"] == 4096
    assert [m.name for m in answers] == ["ACK", "DETECTIONS"]
    outputs = MODEL.run(MODEL.input_of(np.frombuffer(PICTURE, np.uint8).reshape(64, 64, 2)))
    rows, candidates = library(MODEL).sent(outputs, 9830, 32768, 100)
    assert answers[1]["candidates"] == candidates
    names = ("score", "cls", "cx", "cy", "width", "height")
    assert [[box[n] for n in names] for box in answers[1].tail] == rows.tolist()


def test_pieces_may_repeat_overlap_and_come_early(talk: Talk) -> None:
    expected = talk.send()[-1]
    talk.say("HELLO", protocol_version=PROTOCOL_VERSION)
    assert talk.frame(0, PICTURE[:100])[0]["next_offset"] == 100
    assert talk.frame(0, PICTURE[:100])[0]["next_offset"] == 100  # again
    assert talk.frame(500, PICTURE[500:900])[0]["next_offset"] == 100  # too early: not taken
    assert talk.frame(8192, b"")[0]["next_offset"] == 100  # a question
    assert talk.frame(50, PICTURE[50:4000])[0]["next_offset"] == 4000  # the new part of it is taken
    assert talk.frame(20, PICTURE[20:90])[0]["next_offset"] == 4000
    assert talk.frame(4000, b"")[0]["next_offset"] == 4000
    talk.frame(4000, PICTURE[4000:8000])
    answers = talk.frame(8000, PICTURE[8000:])
    assert answers[-1].tail == expected.tail


def test_results_come_again_when_asked_and_are_not_computed_again(talk: Talk) -> None:
    first = talk.send()[-1]
    again = talk.frame(8192, b"")
    assert [m.name for m in again] == ["ACK", "DETECTIONS"]
    assert (again[1].fields, again[1].tail) == (first.fields, first.tail)
    assert [m.name for m in talk.frame(4000, PICTURE[4000:8000])] == ["ACK"]
    assert talk.say("STATS_REQUEST")[0]["inferences"] == 1
    assert [m.name for m in talk.send(frame_id=6)] == ["ACK", "DETECTIONS"]
    assert talk.frame(8192, b"", frame_id=5)[0]["next_offset"] == 0  # forgotten by now
    assert talk.say("STATS_REQUEST")[0]["inferences"] == 2


def test_a_new_picture_replaces_an_unfinished_one(talk: Talk) -> None:
    talk.frame(0, PICTURE[:4000])
    other = bytes(reversed(PICTURE))
    assert talk.frame(4000, other[4000:8000], frame_id=6)[0]["next_offset"] == 0  # its start is missing
    assert talk.frame(4000, PICTURE[4000:8000])[0]["next_offset"] == 8000  # the old one goes on
    answers = talk.send(other, frame_id=6)
    outputs = MODEL.run(MODEL.input_of(np.frombuffer(other, np.uint8).reshape(64, 64, 2)))
    assert [b["score"] for b in answers[-1].tail] == library(MODEL).sent(outputs, 9830, 32768, 100)[0][:, 0].tolist()


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 3}, {"format": 255}, {"width": 63}, {"height": 65}, {"stride": 1}, {"total": 8191}, {"total": 0},
        {"total": 8193}, {"format": 1}, {"format": 1, "stride": 127}, {"format": 1, "stride": 128, "width": 63},
        {"format": 1, "stride": 128, "total": 8191}, {"format": 1, "stride": 128, "height": 0},
        {"format": 1, "stride": 0xFFFFFFFF, "height": 0xFFFF}, {"total": LIMITS["MAX_FRAME_BYTES"][0] + 1},
        {"offset": 8192}, {"offset": 0xFFFFFFFF}, {"offset": 8000}, {"format": 2, "total": 16384},
    ],
    ids=str,
)  # fmt: skip
def test_absurd_pictures(talk: Talk, changes: dict[str, int]) -> None:
    offset = changes.pop("offset", 0)
    answers = talk.frame(offset, PICTURE[:300], **changes)
    assert error_of(answers) == "BAD_FRAME"
    assert answers[0]["frame_id"] == 5
    assert talk.send(frame_id=9)[-1].name == "DETECTIONS"


def test_a_piece_that_contradicts_its_picture(talk: Talk) -> None:
    talk.frame(0, PICTURE[:4000])
    assert error_of(talk.frame(4000, PICTURE[4000:8000], format=2)) == "BAD_FRAME"
    assert talk.frame(4000, PICTURE[4000:8000])[0]["next_offset"] == 8000


def test_bad_configuration_changes_nothing(talk: Talk) -> None:
    assert [m.name for m in talk.configure(score_threshold=65535, nms_iou=1, top_k=9, limit=9)] == ["ACK"]
    for wrong in ({"top_k": 0}, {"top_k": 1025}, {"limit": 0}, {"limit": 251}, {"flags": 8}, {"results_every": 0}):
        assert error_of(talk.configure(**wrong)) == "BAD_CONFIG"
    assert talk.send()[-1]["count"] == 0


def test_outputs_and_thumbnail_come_before_the_boxes(talk: Talk) -> None:
    talk.configure(score_threshold=1, nms_iou=65535, top_k=1024, limit=250, flags=7, thumbnail_every=1)
    answers = talk.send()
    assert [m.name for m in answers] == ["ACK"] + ["OUTPUT"] * 3 + ["THUMBNAIL"] * 8 + ["TIMING", "DETECTIONS"]
    thumbnail = b"".join(m.tail for m in answers if m.name == "THUMBNAIL")
    assert thumbnail == PICTURE
    outputs = MODEL.run(MODEL.input_of(np.frombuffer(PICTURE, np.uint8).reshape(64, 64, 2)))
    for i, value in enumerate(outputs.values()):
        assert b"".join(m.tail for m in answers if m.name == "OUTPUT" and m["index"] == i) == value.tobytes()
    best = sorted((r[0] for r in all_candidates(MODEL, outputs) if r[0] > 0), reverse=True)
    assert len(best) > 100
    assert [box["score"] for box in answers[-1].tail] == best
    assert [m.name for m in talk.frame(8192, b"")] == [m.name for m in answers]


@pytest.mark.parametrize("limit", [1, 10, 100])
def test_a_result_costs_24_bytes_and_10_a_box(talk: Talk, limit: int) -> None:
    """On the wire, framing and stuffing included."""
    talk.configure(score_threshold=1, nms_iou=65535, top_k=1024, limit=limit)
    talk.send()
    talk.device.write(encode_frame(MESSAGES["FRAME"].type, 0, pack("FRAME", **HEAD, offset=8192)))
    said = talk.device.read(0)
    ack, result = (b"\0" + body + b"\0" for body in said.split(b"\0") if body)
    (frame,) = Decoder().feed(result)
    assert isinstance(frame, Frame) and unpack(frame.type, frame.payload)["count"] == limit
    assert len(ack) + len(result) == len(said)
    assert len(result) <= 24 + 10 * limit


def test_sides_are_rounded_in_one_place(talk: Talk) -> None:
    """Every side that the table of sizes holds, as the device sends it, beside its exact value."""
    talk.configure(score_threshold=1, nms_iou=65535, top_k=1024, limit=250)
    sides, longest = 0, 0
    for seed in range(5):
        data = np.random.default_rng(seed).integers(0, 256, (64, 64, 2), dtype=np.uint8)
        outputs = MODEL.run(MODEL.input_of(data))
        exact = library(MODEL).decode(outputs, 1, 65535, 1024)[0].tolist()
        boxes = talk.send(data.tobytes(), frame_id=10 + seed)[-1].tail
        for box, (*_, w, h) in zip(boxes, exact, strict=True):
            for sent, side in ((box["width"], w), (box["height"], h)):
                assert sent == min((side + 2) // 4, 65535)
                assert abs(sent / 16384 - side / 65535) <= 0.5 / 16384 + side / 65535 / 65535 or sent == 65535
                sides, longest = sides + 1, max(longest, side)
    assert sides > 1000 and longest > 65535


def test_times_of_the_last_pictures(talk: Talk) -> None:
    assert talk.say("STATS_REQUEST")[0]["timed_pictures"] == 0
    talk.configure(flags=CODES["ConfigFlags"]["SEND_TIMING"])
    timings = []
    for i in range(LIMITS["TIMED_PICTURES"][0] + 5):
        timings.append(talk.send(frame_id=100 + i)[-2])
        stats = talk.say("STATS_REQUEST")[0]
        kept = timings[-LIMITS["TIMED_PICTURES"][0] :]
        assert stats["timed_pictures"] == len(kept)
        stages = {name: sorted(t[f"{name}_us"] for t in kept) for name in ("preprocess", "inference", "decode")}
        stages["total"] = sorted(t["preprocess_us"] + t["inference_us"] + t["decode_us"] for t in kept)
        for name, values in stages.items():
            figures = [stats[f"{name}_{figure}_us"] for figure in ("min", "median", "max")]
            assert figures == [values[0], values[(len(values) - 1) // 2], values[-1]], name
    assert stats["temperature_x10"] == NO_TEMPERATURE


def test_the_most_boxes_fit_one_message() -> None:
    talk = Talk(FakeModel(anchors=5))  # 320 candidates
    talk.configure(score_threshold=0, nms_iou=65535, top_k=1024, limit=250)
    last = talk.send()[-1]
    assert last["count"] == len(last.tail) == 250
    assert 250 < last["candidates"] <= 320
    talk.device.close()


def test_wrong_shutdown_word(talk: Talk) -> None:
    assert error_of(talk.say("SHUTDOWN", magic=1)) == "UNSUPPORTED"
    assert not talk.device.is_shut_down


def test_a_broken_model_is_announced_at_boot() -> None:
    talk = Talk(FakeModel(broken="hash"), hello=False)
    answers = talk.raw(b"\0")
    assert error_of(answers) == "NOT_READY"
    assert "SHA-256" in answers[0].tail
    assert answers[0]["reply_type"] == 0
    talk.device.close()


def test_long_names_are_cut() -> None:
    talk = Talk(FakeModel(name="n" * 40), hello=False)
    info = talk.say("HELLO", protocol_version=PROTOCOL_VERSION)[0]
    assert info["name"] == "n" * 32
    talk.device.close()


def test_noise_between_requests_is_counted_only(talk: Talk) -> None:
    assert talk.raw(b"AT+RST\r\n" + random.Random(5).randbytes(20_000)) == []
    stats = talk.say("STATS_REQUEST")
    assert [m.name for m in stats] == ["STATS"]
    assert stats[0]["malformed"] > 20
    assert stats[0]["frames_received"] == 2


@pytest.mark.parametrize("name", [name for name, spec in MESSAGES.items() if spec.direction == "to device"])
def test_requests_cut_off_at_every_offset(talk: Talk, name: str) -> None:
    """T5 at the device: nothing is answered, nothing changes, and the next request is understood."""
    tail = PICTURE[:9] if MESSAGES[name].tail else b""
    good = {"HELLO": {"protocol_version": PROTOCOL_VERSION}, "FRAME": HEAD}.get(name, {})
    frame = encode_frame(MESSAGES[name].type, 9, pack(name, tail, **good))
    for cut in range(len(frame) - 1):
        answers = talk.raw(frame[:cut] + encode_frame(MESSAGES["STATS_REQUEST"].type, 10))
        assert [m.name for m in answers] == ["STATS"], cut
    stats = talk.say("STATS_REQUEST")[0]
    assert stats["frames_received"] == 1 + len(frame) - 1 + 1
    assert stats["crc_errors"] + stats["malformed"] == len(frame) - 3  # all but the cuts that leave nothing or a zero


def test_absurd_requests_never_harm_the_device(talk: Talk) -> None:
    """Well-framed messages with random content: each gets an answer or none, and the device lives on."""
    generator = random.Random(7)
    types = [m.type for m in MESSAGES.values() if m.name != "SHUTDOWN"] + [0x80, 0x99, 0xBF]
    small = [0, 1, 2, 63, 64, 128, 8192, 0xFFFF, 0xFFFFFFFF]
    for i in range(4000 if SANITIZE else 15_000):
        type_ = generator.choice(types)
        size = generator.choice((0, 1, 8, 10, 22, 23, 40, 1046, MAX_PAYLOAD))
        payload = generator.randbytes(size)
        if type_ == MESSAGES["FRAME"].type and size >= 22 and i % 4:
            head = {f.name: generator.choice(small) & (2 ** (8 * f.size) - 1) for f in MESSAGES["FRAME"].fields}
            payload = pack("FRAME", payload[22:], **{**head, "format": generator.randrange(4)})
        if type_ == MESSAGES["HELLO"].type and i % 3:
            payload = pack("HELLO", protocol_version=PROTOCOL_VERSION)
        for message in talk.raw(encode_frame(type_, i & 0xFFFF, payload)):
            assert BY_TYPE[MESSAGES[message.name].type].direction == "to host"
    talk.say("HELLO", protocol_version=PROTOCOL_VERSION)
    assert talk.send(frame_id=123456)[-1].name == "DETECTIONS"
