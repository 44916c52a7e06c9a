"""A replay says what the device said: event by event, times included; and it can be paused, stepped and sought in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.pty_board import CameraFirmware, PictureFirmware, pty_board
from support.scene_folder import write_scenes
from support.twinlib import CppDevice, library
from support.watched import Watch, watching
from uhd.bridge import events
from uhd.bridge.hub import Hub
from uhd.bridge.journal import Journal
from uhd.bridge.photos import PhotoFeed
from uhd.bridge.recorded_map import map_of_recording
from uhd.bridge.recording_reader import RecordingReader
from uhd.bridge.source_replay import ReplaySource
from uhd.data.yolo import Sample, load_split
from uhd.device.client import DeviceClient
from uhd.device.detectors import EVERY_SCORE, DeviceDetector, Settings
from uhd.device.parity import run_parity
from uhd.errors import DataError
from uhd.image.files import read_rgb
from uhd.manifest import ModelManifest


@contextmanager
def replaying(path: Path, **options: Any) -> Iterator[Watch]:
    hub = Hub()
    watch = Watch(hub, ReplaySource(path, **options), patient=options.get("speed") == 0)
    try:
        watch.source.start(hub)
        yield watch
    finally:
        watch.end()


def told(watch: Watch) -> list[events.Event]:
    """What the device did, as a reader saw it: without what is about the recording itself."""
    return [e for e in watch.seen if not isinstance(e, events.Recording | events.Timeline)]


def assert_same(live: Watch, path: Path) -> list[events.Event]:
    with replaying(path, speed=0.0) as watch:
        assert watch.source.done.wait(30)
    assert watch.source.error is None
    replayed = told(watch)
    end = replayed.pop()
    assert isinstance(end, events.State) and end.state == "ended"
    assert replayed == told(live)
    return replayed


def test_replay_equals_live_with_photos(tmp_path: Path) -> None:
    path = tmp_path / "x.uhdr"
    photos = PhotoFeed(write_scenes(tmp_path / "scenes", 5), loop=True)
    with pty_board(tmp_path / "tty"), watching(tmp_path / "tty", photos=photos, record=path, pictures=12) as live:
        assert live.source.done.wait(30)
        live.state("ended")
    replayed = assert_same(live, path)
    pictures = [e for e in replayed if isinstance(e, events.Picture)]
    assert len(pictures) == 12 and all(p.image and p.image.format == "jpeg" and p.truth for p in pictures)


def test_replay_equals_live_with_camera_through_unplug_restart_and_faults(tmp_path: Path) -> None:
    path = tmp_path / "x.uhdr"
    line = tmp_path / "tty"
    with pty_board(line, lambda: CameraFirmware(rate=40)) as board, watching(line, record=path) as live:
        place = live.picture()
        live.hub.command({"do": "configure", "score_threshold": 0.6, "thumbnail_every": 2})
        place = live.wait(lambda e: isinstance(e, events.Config) and abs(e.score_threshold - 0.6) < 1e-4)
        board.say(b"\0hello\n")
        board.unplug_after(500)
        place = live.state("gone", after=place)
        board.plug()
        place = live.picture(after=live.state("ready", after=place))
        board.reset()
        place = live.picture(after=live.state("ready", after=live.state("connecting", after=place)))
        assert isinstance(board.firmware, CameraFirmware)
        board.firmware.device.fault(33)
        live.wait(lambda e: isinstance(e, events.Fault), after=place)
    replayed = assert_same(live, path)
    kinds = {e.kind for e in replayed}
    assert kinds == {"state", "device", "config", "picture", "stats", "fault", "console"}
    images = [e.image for e in replayed if isinstance(e, events.Picture)]
    assert None in images and any(images), "every second picture came with pixels"


def test_a_recording_that_begins_in_the_middle_is_understood(tmp_path: Path) -> None:
    photos = PhotoFeed(write_scenes(tmp_path / "scenes", 5), loop=True)
    line = tmp_path / "tty"
    with pty_board(line), watching(line, photos=photos, rate=60, record_folder=tmp_path / "kept") as live:
        place = live.wait(lambda e: isinstance(e, events.Picture) and e.frame_id > 5)
        assert live.hub.command({"do": "record", "on": True}) is None
        refused = live.hub.command({"do": "record", "on": True})
        assert isinstance(refused, events.Refused) and "running already" in refused.text
        place = live.wait(lambda e: isinstance(e, events.Recording) and e.on, after=place)
        place = live.wait(lambda e: isinstance(e, events.Picture) and e.frame_id > 15, after=place)
        live.hub.command({"do": "record", "on": False})
        place = live.wait(lambda e: isinstance(e, events.Recording) and not e.on, after=place)
        recording = live.seen[place]
    assert isinstance(recording, events.Recording)
    path = Path(recording.path)
    assert path.parent == tmp_path / "kept"
    with replaying(path, speed=0.0) as watch:
        assert watch.source.done.wait(30)
    kinds = [e.kind for e in told(watch)]
    assert {"state", "device", "config"} <= set(kinds[: kinds.index("picture")])
    pictures = watch.of("picture")
    assert len(pictures) >= 9 and all(p.image and p.photo and p.t < 5 for p in pictures)
    by_id = {p.frame_id: p for p in live.of("picture")}
    for shown in pictures:
        assert replace(shown, t=0, wall=0) == replace(by_id[shown.frame_id], t=0, wall=0)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[events.Event]]:
    """About three seconds of a camera, the threshold changed on the way."""
    folder = tmp_path_factory.mktemp("recording")
    with (
        pty_board(folder / "tty", lambda: CameraFirmware(rate=30)),
        watching(folder / "tty", record=folder / "x.uhdr") as live,
    ):
        live.wait(lambda e: isinstance(e, events.Picture) and e.t > 1.5)
        live.hub.command({"do": "configure", "score_threshold": 0.7})
        live.wait(lambda e: isinstance(e, events.Picture) and e.t > 3)
    return folder / "x.uhdr", told(live)


def test_speed(recording: tuple[Path, list[events.Event]]) -> None:
    path, original = recording
    length = original[-1].t if hasattr(original[-1], "t") else 3.0
    started = time.monotonic()
    with replaying(path, speed=4.0) as watch:
        assert watch.source.done.wait(30)
        took = time.monotonic() - started
    assert length / 4 - 0.1 < took < length / 4 + 2
    assert len(watch.of("picture")) == sum(e.kind == "picture" for e in original)


def test_seek_knows_how_things_stood(recording: tuple[Path, list[events.Event]]) -> None:
    path, original = recording
    with replaying(path, stay=True, paused=True) as watch:
        place = watch.wait(lambda e: isinstance(e, events.Timeline))
        line = watch.seen[place]
        assert isinstance(line, events.Timeline) and not line.playing and line.length > 2.9
        watch.hub.command({"do": "seek", "t": 2.5})
        watch.hub.command({"do": "step"})
        place = watch.picture(after=place)
        shown = watch.seen[place]
        assert shown == next(e for e in original if isinstance(e, events.Picture) and e.t >= 2.5)
        before = watch.seen[:place]
        config = [e for e in before if isinstance(e, events.Config)][-1]
        assert abs(config.score_threshold - 0.7) < 1e-4
        assert [e for e in before if isinstance(e, events.State)][-1].state == "ready"
        assert any(isinstance(e, events.Device) for e in before)
        watch.hub.command({"do": "seek", "t": 0.5})
        watch.hub.command({"do": "step"})
        place = watch.picture(after=place + 1)
        assert watch.seen[place] == next(e for e in original if isinstance(e, events.Picture) and e.t >= 0.5)
        config = [e for e in watch.seen[:place] if isinstance(e, events.Config)][-1]
        assert abs(config.score_threshold - 0.15) < 1e-3


def test_pause_step_and_play_on(recording: tuple[Path, list[events.Event]]) -> None:
    path, original = recording
    pictures = [e for e in original if isinstance(e, events.Picture)]
    with replaying(path, stay=True, paused=True) as watch:
        for number in range(3):
            watch.hub.command({"do": "step"})
            assert (
                watch.seen[watch.picture(after=watch.seen.index(pictures[number - 1]) + 1 if number else 0)]
                == (pictures[number])
            )
        assert len(watch.of("picture")) == 3
        watch.hub.command({"do": "speed", "factor": 0})
        watch.hub.command({"do": "pause", "on": False})
        place = watch.state("ended")
        assert watch.of("picture") == pictures
        watch.hub.command({"do": "seek", "t": 0})
        watch.state("ended", after=place + 1)
        assert watch.of("picture") == pictures * 2


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ({"do": "configure", "score_threshold": 0.5}, "takes no configure"),
        ({"do": "record", "on": True}, "takes no record"),
        ({"do": "seek"}, 'needs "t"'),
        ({"do": "seek", "t": -1}, "t is -1"),
        ({"do": "speed", "factor": "fast"}, "must be a number"),
        ({"do": "step"}, "paused"),
        ({"do": "dance"}, "does not know"),
    ],
)
def test_commands_that_are_refused(
    recording: tuple[Path, list[events.Event]], command: dict[str, object], text: str
) -> None:
    with replaying(recording[0], stay=True) as watch:
        answer = watch.hub.command(command)
        assert isinstance(answer, events.Refused) and text in answer.text


def test_a_recording_that_is_cut_is_played_to_there_and_says_so(
    recording: tuple[Path, list[events.Event]], tmp_path: Path
) -> None:
    data = recording[0].read_bytes()
    path = tmp_path / "cut.uhdr"
    path.write_bytes(data[: len(data) * 2 // 3])
    with replaying(path, speed=0.0) as watch:
        assert watch.source.done.wait(30)
    replayed = told(watch)
    assert replayed[:-1] == recording[1][: len(replayed) - 1] and len(replayed) > 20
    end = replayed[-1]
    assert isinstance(end, events.State) and "is cut off at byte" in end.text


def test_replay_leaves_nothing_behind(recording: tuple[Path, list[events.Event]]) -> None:
    before = threading.active_count()
    for _ in range(5):
        with replaying(recording[0]) as watch:
            watch.picture()
    assert threading.active_count() == before


# ---- mAP


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    return load_split(write_scenes(tmp_path / "scenes", 12))


def test_map_of_a_recording_is_what_parity_measured_in_the_same_run(tmp_path: Path, samples: list[Sample]) -> None:
    journal = Journal(Hub())
    path = tmp_path / "x.uhdr"
    journal.start_recording(path)
    device = CppDevice(library())
    client = DeviceClient(device, tap=journal.tap)
    detector = DeviceDetector(client, "device", Settings(EVERY_SCORE, 0.5), want_outputs=True)

    def noted(items: Sequence[Sample]) -> Iterator[Sample]:
        for index, sample in enumerate(items):
            height, width = read_rgb(sample.image).shape[:2]
            boxes = sample.boxes.astype(float).tolist()
            journal.photo(bytes(16), b"", name=sample.image.name, index=index, height=height, width=width, truth=boxes)
            yield sample

    report = run_parity(samples, ModelManifest(name="fake"), [detector], noted)
    journal.stop_recording()
    device.close()
    measured = report.runs["device"].result
    with RecordingReader(path) as reader:
        found = map_of_recording(reader)
    assert (found.photos, found.missing) == (12, 0)
    assert measured is not None and found.result == measured and measured.detections > 100


def test_map_leaves_out_what_has_no_result(tmp_path: Path, samples: list[Sample]) -> None:
    path = tmp_path / "x.uhdr"
    photos = PhotoFeed(samples[0].image.parent)
    with pty_board(tmp_path / "tty", PictureFirmware), watching(tmp_path / "tty", photos=photos, record=path) as live:
        assert live.source.done.wait(30)
    with RecordingReader(path) as reader:
        whole = map_of_recording(reader)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with RecordingReader(path) as reader:
        half = map_of_recording(reader)
        assert reader.problems
    assert whole.photos == 12 and 3 <= half.photos < 12 and half.missing <= 1


def test_map_needs_labels(recording: tuple[Path, list[events.Event]]) -> None:
    with RecordingReader(recording[0]) as reader, pytest.raises(DataError, match="no results of photos"):
        map_of_recording(reader)
