"""A device that fails, goes away and comes back; a photo that never gets through."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.parity_rig import MODEL, FakeTwin, MoodyDevice, fake_device
from support.scene_folder import write_scenes
from uhd.data.yolo import Sample, load_split
from uhd.device.detectors import DeviceDetector
from uhd.device.lossy import Loss
from uhd.device.messages import MESSAGES
from uhd.device.parity import Progress, run_parity
from uhd.device.parity_record import PhotoRecord
from uhd.device.parity_steady import DeviceGone, PhotoLost, SteadyDevice
from uhd.errors import DeviceError
from uhd.manifest import ModelManifest

MANIFEST = ModelManifest(name="m", anchors=[(0.1, 0.2)], wh_scale=[(1.0, 1.0)])
FRAME = MESSAGES["FRAME"].type


@pytest.fixture
def device() -> Iterator[MoodyDevice]:
    made = MoodyDevice()
    yield made
    made.close()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return load_split(write_scenes(tmp_path_factory.mktemp("scenes"), 6, size=(60, 80)))


def is_frame(data: bytes) -> bool:
    """A FRAME message: its type stands after the border and the first COBS code."""
    return data[2] == FRAME


def test_what_fails_once_is_sent_again(device: MoodyDevice) -> None:
    notes: list[str] = []
    with SteadyDevice("device", lambda: fake_device(device), note=notes.append) as steady:
        hellos: list[bytes] = []

        def deaf_until_hello(data: bytes) -> bool:
            hellos.extend([data] * (data[2] == MESSAGES["HELLO"].type))
            return not hellos

        device.mood = deaf_until_hello
        picture = np.random.default_rng(1).integers(0, 256, (64, 64, 2), dtype=np.uint8)
        found = steady.detect(picture)
    for name, value in MODEL.run(MODEL.input_of(picture)).items():
        np.testing.assert_array_equal(found.outputs[name], value)
    assert found.link["attempts"] == 2 and found.link["reconnects"] == 1 and found.link["retries"] > 0
    assert len(notes) == 1 and "attempt 1 of 3: in memory: picture 1: no answer" in notes[0]


def test_lost_photos_are_named_and_the_rest_goes_on(device: MoodyDevice, samples: list[Sample]) -> None:
    """The fourth photo never gets through; a later run takes it up and only it."""
    kept: dict[int, PhotoRecord] = {}
    twin = FakeTwin()
    asked: list[str] = []

    class Counting(FakeTwin):
        def detect(self, network_input: np.ndarray) -> object:
            asked.append("photo")
            device.mood = (lambda data: is_frame(data)) if len(asked) == 4 else (lambda data: False)
            return twin.detect(network_input)

    with SteadyDevice("device", lambda: fake_device(device), attempts=2) as steady:
        report = run_parity(samples, MANIFEST, [Counting(), steady], progress=Progress({}, kept.__setitem__))
    assert [path for path, _ in report.lost] == [samples[3].image]
    assert "no answer" in report.lost[0][1] and "2 attempts" in report.lost[0][1]
    assert report.exact and not report.complete and len(report.photos) == 5
    figures = report.as_dict()
    assert figures["complete"] is False and figures["lost"][0]["photo"] == str(samples[3].image)
    assert figures["link"]["sent_again"] == 1 and figures["link"]["attempts"] == 7

    device.mood = lambda data: False
    asked.clear()
    with SteadyDevice("device", lambda: fake_device(device)) as steady:
        again = run_parity(samples, MANIFEST, [Counting(), steady], progress=Progress(kept))
    assert len(asked) == 1 and again.complete and again.exact
    assert again.as_dict()["link"]["attempts"] == 8, "earlier attempts are not forgotten"


def test_a_bad_line_changes_no_figure(device: MoodyDevice, samples: list[Sample]) -> None:
    """Bytes are dropped and bits flipped both ways; everything is repaired, and counted."""
    bad = Loss(drop_rate=2e-4, flip_rate=2e-5, seed=4)
    with SteadyDevice("device", lambda: fake_device(bad.wrap(device), retries=30, patience=20)) as steady:
        report = run_parity(samples, MANIFEST, [FakeTwin(), steady])
    assert report.exact and report.complete
    link = report.as_dict()["link"]
    assert link["retries"] > 0 and link["line to device, dropped"] > 0 and link["line to host, flipped"] > 0


def test_a_device_that_stays_away_ends_the_run(device: MoodyDevice, samples: list[Sample]) -> None:
    opened: list[float] = []
    kept: dict[int, PhotoRecord] = {}

    @contextlib.contextmanager
    def connect() -> Iterator[DeviceDetector]:
        opened.append(time.monotonic())
        if len(opened) > 1:
            raise DeviceError("/dev/ttyACM0: cannot open the serial port")
        with fake_device(device) as detector:
            yield detector

    with SteadyDevice("device", connect, patience=0.5) as steady:
        run_parity(samples[:2], MANIFEST, [FakeTwin(), steady], progress=Progress({}, kept.__setitem__))
        device.mood = lambda data: True
        with pytest.raises(DeviceGone, match=r"cannot open .* \(for 0.5 s\); plug it in again .*--resume"):
            run_parity(samples, MANIFEST, [FakeTwin(), steady], progress=Progress(kept, kept.__setitem__))
    assert len(opened) > 2 and sorted(kept) == [0, 1]


def test_the_first_opening_is_not_waited_for() -> None:
    @contextlib.contextmanager
    def connect() -> Iterator[DeviceDetector]:
        raise DeviceError("/dev/nothing: cannot open")
        yield

    started = time.monotonic()
    with pytest.raises(DeviceError, match="/dev/nothing"), SteadyDevice("device", connect, patience=60):
        pass
    assert time.monotonic() - started < 10


def test_lost_photo_says_what_it_took(device: MoodyDevice) -> None:
    with SteadyDevice("device", lambda: fake_device(device), attempts=3) as steady:
        device.mood = is_frame
        with pytest.raises(PhotoLost) as caught:
            steady.detect(np.zeros((64, 64, 2), np.uint8))
    assert caught.value.link["attempts"] == 3 and caught.value.link["reconnects"] == 2


def test_camera_frames_reach_the_device(device: MoodyDevice, tmp_path: Path) -> None:
    """Sizes that even a camera has not: odd, tiny, wide. Network inputs and integers are those of NumPy."""
    samples = []
    for number, size in enumerate([(16, 17), (64, 64), (33, 200), (120, 97)]):
        samples += load_split(write_scenes(tmp_path / str(number), 1, size=size))
    with SteadyDevice("device", lambda: fake_device(device)) as steady:
        report = run_parity(samples, MANIFEST, [FakeTwin(), steady], inject="camera")
        assert steady.stats()["inferences"] == 4
    assert report.exact and report.complete
    camera = report.as_dict()["camera"]
    assert camera["photos_with_other_network_input"] == {"twin": 0, "device": 0}
    assert camera["other_luma_bytes"] == 0 < camera["other_chroma_bytes"]


def test_a_device_that_picks_other_pixels_is_found_out(device: MoodyDevice, samples: list[Sample]) -> None:
    class Crooked(FakeTwin):
        name = "crooked"

        def detect_frame(self, frame: object) -> object:
            found = FakeTwin().detect_frame(frame)
            assert found.network is not None
            found.network[5, 5, 0] ^= 1
            return found

    with SteadyDevice("device", lambda: fake_device(device)) as steady:
        report = run_parity(samples, MANIFEST, [Crooked(), steady], inject="camera")
    assert not report.exact
    assert report.as_dict()["camera"]["photos_with_other_network_input"] == {"crooked": 6, "device": 0}
