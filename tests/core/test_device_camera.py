"""The device's own camera in the C++ loop: which pictures go through the model, who hears of them, and faults."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from support.fakemodel import FakeModel
from support.live import LiveDevice
from support.twinlib import library
from uhd.device.messages import CODES, LIMITS, NO_TEMPERATURE
from uhd.image.yuyv import camera_to_network

MODEL = FakeModel()
CODE, HEALTH = CODES["ErrorCode"], CODES["Health"]
FROM_CAMERA = CODES["DetectionFlags"]["CAMERA"]
CAMERA_FRAMES = LIMITS["CAMERA_FRAMES"][0]
PAUSE_US = LIMITS["HOST_PAUSE_MS"][0] * 1000
NAMES = ("score", "cls", "cx", "cy", "width", "height")
RNG = np.random.default_rng(3)
PICTURE = RNG.integers(0, 256, (240, 480), dtype=np.uint8)
NETWORK = RNG.integers(0, 256, (64, 64, 2), dtype=np.uint8)


@pytest.fixture
def live() -> Iterator[LiveDevice]:
    made = LiveDevice(MODEL)
    yield made
    made.close()


def inject(live: LiveDevice, frame_id: int = 1, end: int = 8192) -> list[str]:
    """Send the first ``end`` bytes of a network input; names of the answers to the last piece."""
    answers = []
    for offset in range(0, end, 4000):
        tail = NETWORK.tobytes()[offset : min(end, offset + 4000)]
        answers = live.say("FRAME", tail, frame_id=frame_id, width=64, height=64, total=8192, offset=offset)
    return [message.name for message in answers]


def test_the_camera_waits_for_nobody_but_sends_only_when_asked(live: LiveDevice) -> None:
    live.clock(5_000)
    live.picture(PICTURE, 240, 240)
    assert live.watch() and not live.watch()
    assert live.heard() == [] and live.counters["given_back"] == 1
    info = live.hello()
    assert (info["camera_format"], info["camera_width"], info["camera_height"]) == (1, 240, 240)
    assert info["reset_reason"] == CODES["ResetReason"]["BROWN_OUT"]
    live.picture(PICTURE, 240, 240)
    assert live.watch() and live.heard() == [], "a session alone asks for nothing"
    assert [m.name for m in live.stream()] == ["ACK"]
    live.picture(PICTURE, 240, 240)
    assert live.watch()
    assert [m.name for m in live.heard()] == ["DETECTIONS"]


@pytest.mark.parametrize(("width", "height", "stride"), [(240, 240, 480), (320, 240, 640), (642, 35, 1300)])
def test_results_are_those_of_the_same_picture_from_the_host(
    live: LiveDevice, width: int, height: int, stride: int
) -> None:
    picture = RNG.integers(0, 256, (height, stride), dtype=np.uint8)
    live.hello()
    live.stream(score_threshold=9830, flags=4 | 2 | 1, thumbnail_every=1)
    live.clock(1_000_000)
    live.picture(picture, width, height, stride=stride, captured=990_000)
    assert live.watch()
    messages = live.heard()
    network = camera_to_network(picture.tobytes(), width, height, stride)
    thumbnail = b"".join(m.tail for m in messages if m.name == "THUMBNAIL")
    assert thumbnail == network.tobytes()
    expected = MODEL.run(MODEL.input_of(network))
    for index, values in enumerate(expected.values()):
        sent = b"".join(m.tail for m in messages if m.name == "OUTPUT" and m["index"] == index)
        assert sent == values.tobytes()
    result = messages[-1]
    rows, candidates = library(MODEL).sent(expected, 9830, 32768, 100)
    assert result.name == "DETECTIONS" and result["candidates"] == candidates
    assert [[box[n] for n in NAMES] for box in result.tail] == rows.tolist()
    assert result["flags"] == FROM_CAMERA and result["frame_id"] == CAMERA_FRAMES + 1
    timing = messages[-2]
    assert timing.name == "TIMING" and timing["frame_id"] == CAMERA_FRAMES + 1
    assert (timing["timestamp_us"], timing["receive_us"]) == (990_000, 10_000)


@pytest.mark.parametrize("format_", ["rgb565le", "rgb565be"])
def test_rgb565_goes_through_its_own_conversion(live: LiveDevice, format_: str) -> None:
    live.hello()
    live.stream(thumbnail_every=1)
    grey = np.full((64, 64), 0x8410, "<u2" if format_ == "rgb565le" else ">u2")
    live.picture(grey.tobytes(), 64, 64, format_=format_)
    assert live.watch()
    thumbnail = np.frombuffer(b"".join(m.tail for m in live.heard() if m.name == "THUMBNAIL"), np.uint8)
    luma, chroma = thumbnail.reshape(64, 64, 2)[..., 0], thumbnail.reshape(64, 64, 2)[..., 1]
    expected = 16 + (0.299 * 132 + 0.587 * 130 + 0.114 * 132) * 219 / 255  # the bytes that 16, 32 and 16 stand for
    assert np.ptp(luma) == 0 and abs(luma[0, 0] - expected) <= 0.5 and abs(int(chroma[0, 0]) - 128) <= 1
    assert live.hello()["camera_format"] == CODES["CameraFormat"][format_.upper()]


def test_a_picture_of_the_host_comes_first_and_the_camera_goes_on_later(live: LiveDevice) -> None:
    live.hello()
    live.stream()
    live.clock(10_000)
    inject(live, end=4000)
    live.picture(PICTURE, 240, 240)
    assert not live.watch(), "its input would overwrite the half of the host's"
    for offset in (4000, 8000):
        tail = NETWORK.tobytes()[offset : offset + 4000]
        answers = live.say("FRAME", tail, frame_id=1, width=64, height=64, total=8192, offset=offset)
    expected = library(MODEL).sent(MODEL.run(MODEL.input_of(NETWORK)), 0, 32768, 100)[0]
    assert [[box[n] for n in NAMES] for box in answers[-1].tail] == expected.tolist()
    assert not live.watch(), "its results are kept for a host that asks again"
    again = live.say("FRAME", frame_id=1, width=64, height=64, total=8192, offset=8192)
    assert [[box[n] for n in NAMES] for box in again[-1].tail] == expected.tolist()
    live.clock(10_000 + PAUSE_US - 1)
    assert not live.watch()
    live.clock(10_000 + PAUSE_US)
    assert live.watch(), "the host has been silent for long enough"
    assert [m["flags"] for m in live.heard()] == [FROM_CAMERA]
    forgotten = live.say("FRAME", frame_id=1, width=64, height=64, total=8192, offset=8192)
    assert [(m.name, m["next_offset"]) for m in forgotten] == [("ACK", 0)], "the host sends it once more"
    assert inject(live) == ["ACK", "DETECTIONS"]


@pytest.mark.parametrize("request_", ["hello", "stream"])
def test_the_host_can_have_the_camera_back_at_once(live: LiveDevice, request_: str) -> None:
    live.hello()
    inject(live)
    live.picture(PICTURE, 240, 240)
    live.stream(flags=0)
    assert not live.watch(), "a configuration without the stream does not ask for it"
    getattr(live, request_)()
    assert live.watch()


def test_numbers_of_the_camera_are_not_for_the_host(live: LiveDevice) -> None:
    live.hello()
    for frame_id, name in ((CAMERA_FRAMES - 1, "ACK"), (CAMERA_FRAMES, "ERROR")):
        assert live.say("FRAME", b"x", frame_id=frame_id, width=64, height=64, total=8192)[0].name == name


def test_display(live: LiveDevice) -> None:
    for keeps in (False, True):
        shown = LiveDevice(MODEL, viewer=True, keeps=keeps)
        for number in range(4):
            shown.clock(number * 500_000)
            shown.picture(PICTURE, 240, 240)
            assert shown.watch()
        counters = shown.counters
        assert counters["shown"] == 4 and counters["given_back"] == (0 if keeps else 4)
        assert counters["boxes"] > 0 and counters["fps_x10"] == 20
        assert counters["threshold"] == counters["model_threshold"] > 0
        shown.set_threshold(65_535)
        shown.picture(PICTURE, 240, 240)
        assert shown.watch() and shown.counters["boxes"] == 0 and shown.counters["threshold"] == 65_535
        shown.hello()
        shown.picture(PICTURE, 240, 240)
        assert shown.watch() and shown.counters["threshold"] == counters["model_threshold"]
        shown.close()


def test_figures_of_the_camera(live: LiveDevice) -> None:
    live.hello()
    for number in range(31):  # 25 pictures a second
        live.clock(number * 40_000)
        live.picture(PICTURE, 240, 240)
        assert live.watch()
    live.drop(77)
    stats = live.say("STATS_REQUEST")[0]
    assert stats["camera_fps_x10"] == 250 and stats["camera_inferences"] == stats["camera_captured"] == 31
    assert (stats["camera_dropped"], stats["camera_restarts"], stats["dropped_bytes"]) == (3, 2, 77)
    assert (stats["heap_free"], stats["heap_low_water"]) == (1000, 900)
    live.clock(30 * 40_000 + 2_000_001)
    assert live.say("STATS_REQUEST")[0]["camera_fps_x10"] == 0, "it stands still"


def test_results_and_network_input_of_every_nth_picture(live: LiveDevice) -> None:
    live.hello()
    live.stream(results_every=3, thumbnail_every=2, flags=4 | 2)
    said: dict[int, list[str]] = {}
    for number in range(1, 14):
        live.picture(PICTURE, 240, 240)
        assert live.watch()
        for message in live.heard():
            said.setdefault(message["frame_id"] - CAMERA_FRAMES, []).append(message.name)
            assert message["frame_id"] == CAMERA_FRAMES + number
    plain, whole = ["TIMING", "DETECTIONS"], ["THUMBNAIL"] * 8 + ["TIMING", "DETECTIONS"]
    assert said == {3: plain, 6: whole, 9: plain, 12: whole}
    assert live.say("STATS_REQUEST")[0]["camera_inferences"] == 13, "the others went through the model, too"


def test_temperature(live: LiveDevice) -> None:
    live.hello()
    for tenths in (NO_TEMPERATURE, -52, 0, 613):
        live.temperature(tenths)
        assert live.say("STATS_REQUEST")[0]["temperature_x10"] == tenths


@pytest.mark.parametrize(
    ("width", "height", "stride", "size"),
    [(241, 240, 482, 240 * 482), (240, 240, 480, 240 * 480 - 1), (0, 240, 480, 480), (240, 240, 470, 240 * 470)],
)
def test_a_picture_that_does_not_fit_is_a_fault(
    live: LiveDevice, width: int, height: int, stride: int, size: int
) -> None:
    live.hello()
    live.picture(bytes(size), width, height, stride=stride)
    assert live.watch() and live.counters["given_back"] == 1
    live.picture(bytes(size), width, height, stride=stride)
    assert live.watch()
    said = live.heard()
    assert [(m.name, m["code"]) for m in said] == [("ERROR", CODE["CAMERA_FORMAT"])], "told once, not with each"
    assert live.say("STATS_REQUEST")[0]["faults"] == 1 << (CODE["CAMERA_FORMAT"] - 32)
    live.picture(PICTURE, 240, 240)
    assert live.watch()
    assert live.hello()["faults"] == 0


def test_faults_are_told_at_once_and_for_as_long_as_they_stand(live: LiveDevice) -> None:
    live.fault(CODE["CAMERA_MISSING"], "no sensor (error 261)")
    live.fault(CODE["CAMERA_MISSING"], "no sensor (error 261)")
    live.fault(CODE["PSRAM_MISSING"])
    first, second = live.heard()
    assert (first["code"], first["reply_type"], first.tail) == (CODE["CAMERA_MISSING"], 0, "no sensor (error 261)")
    assert second.tail.startswith("no PSRAM answers")
    both = 1 << (CODE["CAMERA_MISSING"] - 32) | 1 << (CODE["PSRAM_MISSING"] - 32)
    assert live.hello()["faults"] == live.say("STATS_REQUEST")[0]["faults"] == both
    live.mended(CODE["CAMERA_MISSING"])
    assert live.hello()["faults"] == 1 << (CODE["PSRAM_MISSING"] - 32)
    live.fault(CODE["CAMERA_MISSING"])
    assert [m["code"] for m in live.heard()] == [CODE["CAMERA_MISSING"]], "a new one is told again"


@pytest.mark.parametrize("health", ["BACKEND", "RESTARTS", "MEMORY"])
def test_a_device_that_refuses_answers_and_takes_no_pictures(health: str) -> None:
    live = LiveDevice(MODEL, refuse=HEALTH[health])
    assert [m["code"] for m in live.heard()] == [CODE["NOT_READY"]]
    live.picture(PICTURE, 240, 240)
    assert not live.watch()
    assert live.hello()["health"] == HEALTH[health]
    assert live.say("FRAME", frame_id=1, width=64, height=64, total=8192)[0]["code"] == CODE["NOT_READY"]
    live.close()


def test_a_model_that_fails_is_told(live: LiveDevice) -> None:
    live.hello()
    live.stream()
    live.let_model_fail(True)
    live.picture(PICTURE, 240, 240)
    assert live.watch()
    assert [(m.name, m["code"]) for m in live.heard()] == [("ERROR", CODE["MODEL_FAILED"])]
    live.let_model_fail(False)
    live.picture(PICTURE, 240, 240)
    assert live.watch() and [m.name for m in live.heard()] == ["DETECTIONS"]
