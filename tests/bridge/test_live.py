"""A device on a port: its pictures, its commands, and each way in which it can be away."""

from __future__ import annotations

import os
import pty
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from support.fakemodel import FakeModel
from support.pty_board import CameraFirmware, Firmware, PictureFirmware, PtyBoard, cut_points, pty_board
from support.scene_folder import write_scenes
from support.twinlib import Library, library
from support.watched import Watch, watching
from uhd.bridge import events, models
from uhd.bridge.commands import Settings
from uhd.bridge.photos import PhotoFeed
from uhd.bridge.pixels import rgb_of_network
from uhd.bridge.recording_reader import RecordingReader
from uhd.data.yolo import read_labels
from uhd.device.compile import CORE
from uhd.device.messages import CODES, PROTOCOL_VERSION
from uhd.device.serial_ports import SerialPort
from uhd.image.colour import yuv422_u8
from uhd.image.files import read_rgb
from uhd.image.resize import network_input_u8

MODEL = FakeModel()


def camera() -> Firmware:
    return CameraFirmware(MODEL, rate=40)


@pytest.fixture(autouse=True)
def stats_come_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tests which wait for the next ones do not wait long."""
    monkeypatch.setattr("uhd.bridge.source_live._STATS_EVERY", 0.2)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return write_scenes(tmp_path / "scenes", 6)


def test_photos_come_back_with_their_boxes_labels_and_pixels(line: Path, scenes: Path) -> None:
    with pty_board(line), watching(line, photos=PhotoFeed(scenes)) as watch:
        assert watch.source.done.wait(30)
        watch.state("ended")
        pictures = watch.of("picture")
    assert [p.photo for p in pictures] == [f"scene_{i:03d}.png" for i in range(6)]
    for shown in pictures:
        path = scenes / shown.photo
        network = network_input_u8(read_rgb(path), (64, 64), "opencv_inter_nearest_yuv422")
        rows, candidates = library(MODEL).sent(MODEL.run(MODEL.input_of(network)), 9830, 32768, 100)
        expected = rows / np.array([65535, 1, 65535, 65535, 16384, 16384])
        np.testing.assert_allclose(np.array(shown.boxes), expected)
        assert shown.candidates == candidates and shown.source == "host"
        np.testing.assert_allclose(np.array(shown.truth).reshape(-1, 5), read_labels(path.with_suffix(".txt")))
        assert shown.timing is not None and shown.timing["receive_us"] > 0
        assert shown.image is not None and shown.image.format == "jpeg"
        jpeg = cv2.imdecode(np.frombuffer(shown.image.data, np.uint8), cv2.IMREAD_COLOR)
        assert jpeg.shape == (120, 160, 3)
        rgb = read_rgb(path).astype(int)  # scenes are noisy, which JPEG smooths
        assert np.abs(jpeg[..., ::-1] - rgb).mean() < min(10, np.abs(jpeg - rgb).mean() / 2)
    assert watch.states() == ["connecting", "ready", "ended"]
    assert len(watch.of("device")) == 1 and watch.of("device")[0].name == "fake"
    (config,) = watch.of("config")
    assert (config.thumbnail_every, config.results_every) == (0, 1)
    assert watch.of("stats")[-1].device["inferences"] == 6 and watch.of("stats")[-1].host["frames"] > 12


def test_photos_without_labels_have_no_truth_and_go_round(line: Path, scenes: Path) -> None:
    (scenes / "scene_000.txt").unlink()
    (scenes / "scene_001.txt").write_text("")
    with pty_board(line), watching(line, photos=PhotoFeed(scenes, loop=True), pictures=8) as watch:
        assert watch.source.done.wait(30)
        watch.state("ended")
        pictures = watch.of("picture")
    assert len(pictures) == 8 and pictures[6].photo == "scene_000.png"
    assert pictures[0].truth is None and pictures[1].truth == () and pictures[2].truth


def test_photos_as_camera_frames(line: Path, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "odd", 2, size=(75, 101))
    with pty_board(line), watching(line, photos=PhotoFeed(folder, inject="camera")) as watch:
        assert watch.source.done.wait(30)
        watch.state("ended")
    assert len(watch.of("picture")) == 2


def test_the_camera_is_shown_as_the_network_sees_it(line: Path) -> None:
    with pty_board(line, camera), watching(line) as watch:
        first = watch.picture()
        watch.wait(lambda e: isinstance(e, events.Stats) and e.fps > 20, after=first)
        pictures = watch.of("picture")
    for shown in pictures[:10]:
        assert shown.source == "camera" and shown.boxes and shown.image is not None
        assert (shown.image.format, shown.image.width, shown.image.height) == ("rgb", 64, 64)
        assert len(shown.image.data) == 64 * 64 * 3
    numbers = [shown.frame_id for shown in pictures]
    assert numbers == sorted(set(numbers))


def test_colours_survive_the_way_to_the_screen() -> None:
    rgb = np.zeros((2, 8, 3), np.uint8)
    rgb[:, 0:2], rgb[:, 2:4], rgb[:, 4:6], rgb[:, 6:8] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 200, 200)
    shown = rgb_of_network(yuv422_u8(rgb))
    assert np.abs(shown.astype(int) - rgb).max() <= 3
    assert (rgb_of_network(rgb) == rgb).all() and rgb_of_network(rgb[..., :1]).shape == (2, 8, 3)
    assert rgb_of_network(yuv422_u8(rgb)[:, :7]).shape == (2, 7, 3)


def test_configure_is_confirmed_by_the_device(line: Path) -> None:
    with pty_board(line, camera), watching(line) as watch:
        place = watch.picture()
        command = {"do": "configure", "score_threshold": 0.9, "nms_iou": 0.3, "thumbnail_every": 0}
        assert watch.hub.command(command) is None
        place = watch.wait(lambda e: isinstance(e, events.Config) and abs(e.score_threshold - 0.9) < 1e-4, after=place)
        place = watch.picture(after=place + 1)
        place = watch.picture(after=place + 1)
        shown = watch.seen[place]
        assert isinstance(shown, events.Picture) and shown.image is None
        assert all(box[0] >= 0.9 - 1e-4 for box in shown.boxes)
        watch.hub.command({"do": "configure", "score_threshold": 0.5})
        place = watch.wait(lambda e: isinstance(e, events.Config) and abs(e.score_threshold - 0.5) < 1e-4, after=place)
        confirmed = watch.seen[place]
        assert isinstance(confirmed, events.Config) and abs(confirmed.nms_iou - 0.3) < 1e-4, "what was not named stays"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ({"do": "configure", "score_threshold": 2}, "score_threshold is 2; give a number from 0 to 1"),
        ({"do": "configure", "nms_iou": "x"}, "nms_iou must be a number"),
        ({"do": "configure", "thumbnail_every": 1.5}, "whole number"),
        ({"do": "configure", "score_threshold": float("nan")}, "must be a number"),
        ({"do": "pause", "on": 1}, "true or false"),
        ({"do": "step"}, "paused"),
        ({"do": "seek", "t": 1}, "does not know 'seek'"),
        ({"do": "fly"}, "does not know 'fly'"),
    ],
)
def test_commands_that_are_refused(line: Path, command: dict[str, object], text: str) -> None:
    with pty_board(line, camera), watching(line) as watch:
        answer = watch.hub.command(command)
        assert isinstance(answer, events.Refused) and text in answer.text


def test_pause_and_step_with_photos(line: Path, scenes: Path) -> None:
    with pty_board(line), watching(line, photos=PhotoFeed(scenes, loop=True), rate=50) as watch:
        watch.picture()
        watch.hub.command({"do": "pause", "on": True})
        place = watch.wait(lambda e: isinstance(e, events.Stats), after=len(watch.seen))
        before = len(watch.of("picture"))
        place = watch.wait(lambda e: isinstance(e, events.Stats), after=place + 1)
        assert len(watch.of("picture")) == before, "paused, and still alive"
        watch.hub.command({"do": "step"})
        watch.hub.command({"do": "step"})
        place = watch.picture(after=place)
        place = watch.picture(after=place + 1)
        place = watch.wait(lambda e: isinstance(e, events.Stats), after=place)
        watch.wait(lambda e: isinstance(e, events.Stats), after=place + 1)
        assert len(watch.of("picture")) == before + 2
        watch.hub.command({"do": "pause", "on": False})
        watch.picture(after=len(watch.seen))


def test_pause_stops_the_camera(line: Path) -> None:
    with pty_board(line, camera), watching(line) as watch:
        watch.picture()
        watch.hub.command({"do": "pause", "on": True})
        place = watch.wait(lambda e: isinstance(e, events.Config), after=len(watch.seen))
        place = watch.wait(lambda e: isinstance(e, events.Stats), after=place)
        before = len(watch.of("picture"))
        place = watch.wait(lambda e: isinstance(e, events.Stats), after=place + 1)
        assert len(watch.of("picture")) == before
        watch.hub.command({"do": "pause", "on": False})
        watch.picture(after=place)


def test_unplugged_two_hundred_times_in_mid_frame(line: Path) -> None:
    """T7: back in under 2 s each time, and nothing is left behind."""
    count = int(os.environ.get("UHD_UNPLUGS", "200"))
    fast = pty_board(line, lambda: CameraFirmware(MODEL, rate=150))
    with fast as board, watching(line, settings=Settings(thumbnail_every=0)) as watch:
        place = watch.picture()
        one_life(board, watch, place, 3000)
        threads, descriptors = threading.active_count(), open_descriptors()
        recoveries = []
        for cut in cut_points(count, 600):
            recoveries.append(one_life(board, watch, len(watch.seen), cut))
            del watch.seen[:], watch.times[:]
        assert max(recoveries) < 2.0, sorted(recoveries)[-5:]
        assert threading.active_count() == threads
        assert open_descriptors() == descriptors
    print(f"recovery: median {sorted(recoveries)[count // 2] * 1000:.0f} ms, most {max(recoveries) * 1000:.0f} ms")


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def one_life(board: PtyBoard, watch: Watch, place: int, cut: int) -> float:
    """Unplug after ``cut`` bytes, plug in again; seconds from then to the first picture."""
    board.unplug_after(cut)
    assert board.unplugged.wait(20)
    place = watch.state("gone", after=place)
    board.plug()
    back = time.monotonic()
    place = watch.state("ready", after=place)
    place = watch.picture(after=place)
    return watch.times[place] - back


def test_a_restart_is_told_and_survived(line: Path, scenes: Path) -> None:
    makes: list[tuple[Callable[[], Firmware], PhotoFeed | None]] = [
        (camera, None),
        (PictureFirmware, PhotoFeed(scenes, loop=True)),
    ]
    for make, photos in makes:
        with pty_board(line, make) as board, watching(line, photos=photos, rate=100 if photos else None) as watch:
            place = watch.picture()
            board.reset()
            place = watch.state("connecting", after=place)
            told = watch.seen[place]
            assert isinstance(told, events.State) and "restarted" in told.text
            place = watch.state("ready", after=place)
            place = watch.picture(after=place)
            place = watch.wait(lambda e: isinstance(e, events.Stats), after=place)
            assert watch.of("stats")[-1].host["restarts"] == 1


def test_silence_is_told_and_so_is_its_end(line: Path) -> None:
    with pty_board(line, camera) as board, watching(line) as watch:
        place = watch.picture()
        board.mute = True
        silent = watch.state("silent", after=place)
        assert watch.times[silent] - watch.times[silent - 1] > 2.5
        assert watch.states().count("silent") == 1
        board.mute = False
        place = watch.state("ready", after=silent)
        watch.picture(after=place)
    assert watch.states() == ["connecting", "ready", "silent", "connecting", "ready"]


def test_a_port_with_something_else_on_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uhd.bridge.guard.SILENCE", 0.5)
    master, slave = pty.openpty()
    with watching(Path(os.ttyname(slave))) as watch:
        watch.state("silent")
        assert watch.states() == ["connecting", "silent"]
    os.close(slave)
    os.close(master)


def test_a_device_of_another_version_is_refused_until_it_is_updated(
    line: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uhd.bridge.source_live._REFUSED_PAUSE", 0.1)
    headers = tmp_path / "next" / "uhd"
    headers.mkdir(parents=True)
    text = (CORE / "include" / "uhd" / "link_enums.hpp").read_text()
    now = f"kProtocolVersion = {PROTOCOL_VERSION};"
    (headers / "link_enums.hpp").write_text(text.replace(now, f"kProtocolVersion = {PROTOCOL_VERSION + 1};"))
    newer = Library(MODEL, first_include=headers.parent)
    kinds: list[Callable[[], Firmware]] = [lambda: PictureFirmware(of=newer)]
    with pty_board(line, lambda: kinds[-1]()) as board, watching(line) as watch:
        place = watch.state("refused")
        told = watch.seen[place]
        assert isinstance(told, events.State)
        assert f"version {PROTOCOL_VERSION + 1}, this host version {PROTOCOL_VERSION}" in told.text
        kinds.append(camera)
        board.unplug()
        board.plug()
        place = watch.state("ready", after=place)
        watch.picture(after=place)
        assert watch.states().count("refused") == 1


def test_a_model_that_cannot_run_is_refused(line: Path) -> None:
    with pty_board(line, lambda: PictureFirmware(FakeModel(broken="hash"))), watching(line) as watch:
        told = watch.seen[watch.state("refused")]
        assert isinstance(told, events.State) and "SHA-256" in told.text


def test_a_board_that_comes_back_under_another_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its USB serial number finds it."""
    first, second = tmp_path / "ttyACM0", tmp_path / "ttyACM1"
    ports: list[SerialPort] = []

    def listed() -> list[SerialPort]:
        return [p for p in ports if Path(p.path).exists()]

    monkeypatch.setattr("uhd.bridge.setup.list_serial_ports", listed)
    ports += [SerialPort(str(first), "a", 0x303A, 0x1001, "S1"), SerialPort(str(second), "a", 0x303A, 0x1001, "S1")]
    with pty_board(first, camera) as board, watching(first) as watch:
        place = watch.picture()
        board.unplug()
        place = watch.state("gone", after=place)
        board.path = second
        board.plug()
        place = watch.state("ready", after=place)
        told = watch.seen[place]
        assert isinstance(told, events.State) and told.port == str(second)
        watch.picture(after=place)


def test_faults_and_console_lines(line: Path) -> None:
    with pty_board(line, camera) as board, watching(line) as watch:
        place = watch.picture()
        firmware = board.firmware
        assert isinstance(firmware, CameraFirmware)
        code = CODES["ErrorCode"]["CAMERA_STOPPED"]
        board.say(b"I (31) boot: hello\r\n")
        firmware.device.fault(code)
        place = watch.wait(lambda e: isinstance(e, events.Fault), after=place)
        fault = watch.seen[place]
        assert isinstance(fault, events.Fault) and (fault.name, fault.code, fault.stands) == (
            "CAMERA_STOPPED",
            code,
            True,
        )
        firmware.device.mended(code)
        place = watch.wait(lambda e: isinstance(e, events.Fault) and not e.stands, after=place)
        assert len(watch.of("fault")) == 2
        assert [e.text for e in watch.of("console")] == ["I (31) boot: hello"]


def test_a_photo_that_cannot_be_read_ends_it_with_a_reason(line: Path, scenes: Path) -> None:
    (scenes / "scene_003.png").write_bytes(b"no picture")
    with pty_board(line), watching(line, photos=PhotoFeed(scenes)) as watch:
        assert watch.source.done.wait(30)
        assert watch.source.error is not None and "scene_003.png" in str(watch.source.error)
        told = watch.seen[watch.state("ended")]
        assert isinstance(told, events.State) and "scene_003.png" in told.text
        answer = watch.hub.command({"do": "pause", "on": True})
        assert isinstance(answer, events.Refused) and "has ended" in answer.text


def test_a_full_disk_ends_the_recording_and_nothing_else(line: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.uhdr"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pty_board(line, camera), watching(line, record=path) as watch:
        place = watch.picture()
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20_000, before[1]))
            place = watch.wait(lambda e: isinstance(e, events.Recording) and not e.on, after=place)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        told = watch.seen[place]
        assert isinstance(told, events.Recording) and "the recording ends here (File too large)" in told.text
        watch.picture(after=place)
    with RecordingReader(path) as reader:
        assert len(list(reader.records())) > 5 and not reader.problems


def test_manifests_are_found_by_hash() -> None:
    from uhd import zoo

    shipped = zoo.shipped_espdl("R", "c", "speed")
    assert shipped is not None and shipped.manifest.quantization is not None
    found = models.find_manifest(shipped.manifest.quantization.espdl_sha256)
    assert found is not None and found.name == "ultratinyod_r" and found.quantization is not None
    assert models.find_manifest("00" * 32) is None
