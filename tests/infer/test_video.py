"""Films written and read, streams through a detector, keys."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.infer import write_clip
from uhd import Detector, zoo
from uhd.device.build import float_onnx
from uhd.errors import ConfigError, DataError
from uhd.infer.overlay import write_lines
from uhd.infer.stream import Seen, Stream
from uhd.infer.video import Recorder, Video
from uhd.infer.window import Controls


@pytest.fixture
def detector() -> Detector:
    return Detector.load(float_onnx(zoo.checkpoint_path("R")), threshold=0.2)


def frames_of(path: Path) -> list[np.ndarray]:
    return list(Video(str(path)))


@pytest.mark.parametrize(
    "name,size", [("a.mp4", (64, 64)), ("b.avi", (97, 61)), ("d.mp4", (97, 61)), ("c.mp4", (320, 240))]
)
def test_what_is_recorded_can_be_read(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    with Recorder(tmp_path / "new" / name, 12.5) as recorder:
        for index in range(7):
            recorder.write(np.full((size[1], size[0], 3), 30 * index, np.uint8))
    video = Video(str(tmp_path / "new" / name))
    even = tuple(side // 2 * 2 for side in size)
    assert (video.width, video.height, video.fps, video.count, video.live) == (*even, 12.5, 7, False)
    means = [frame.mean() for frame in video]
    assert np.allclose(means, [30 * index for index in range(7)], atol=4)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_an_error_leaves_a_whole_film(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Recorder(tmp_path / "a.mp4", 10) as recorder:
        recorder.write(np.zeros((48, 64, 3), np.uint8))
        raise RuntimeError("the camera was unplugged")
    assert len(frames_of(tmp_path / "a.mp4")) == 1


def test_no_frames_no_film(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mp4", 10):
        pass
    assert not list(tmp_path.iterdir())


def test_where_no_film_can_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="end the name in"):
        Recorder(tmp_path / "a.gif", 10)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ConfigError, match="--record"), Recorder(tmp_path / "taken" / "a.mp4", 10) as recorder:
        recorder.write(np.zeros((48, 64, 3), np.uint8))


@given(st.lists(st.floats(0.005, 0.2), min_size=1, max_size=30))
def test_a_film_runs_at_real_speed(gaps: list[float]) -> None:
    """Frames of a camera that is slower or faster than the film: as many frames as seconds times rate."""
    recorder = Recorder(Path("unused.mp4"), 20.0)
    written: list[int] = []

    class Counting:
        def write(self, frame: np.ndarray) -> None:
            written.append(1)

    recorder._open = lambda width, height: Counting()  # type: ignore[assignment,method-assign,return-value]
    frame = np.zeros((8, 8, 3), np.uint8)
    for gap in [0.0, *gaps]:
        recorder.write(frame, gap)
    assert abs(len(written) - (1 + sum(gaps) * 20)) <= 1 and recorder.frames == len(written)


def test_cameras_and_films_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="camera 77 cannot be opened"):
        Video("77")
    with pytest.raises(DataError, match="no such video file"):
        Video(str(tmp_path / "none.mp4"))
    (tmp_path / "bad.mp4").write_bytes(b"not a film" * 100)
    with pytest.raises(DataError, match="damaged"):
        Video(str(tmp_path / "bad.mp4"))


def test_a_stream_finds_what_single_pictures_show(tmp_path: Path, detector: Detector) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 9)
    seen: list[Seen] = []
    with Recorder(tmp_path / "out.mp4", 25) as recorder:
        summary = Stream(Video(str(clip)), detector, recorder=recorder).run(seen.append)
    assert [one.number for one in seen] == list(range(9)) and seen[5].seconds == pytest.approx(5 / 25)
    for one, frame in zip(seen, frames_of(clip), strict=True):
        assert np.allclose(one.rows, detector.rows([frame[..., ::-1]])[0], atol=1e-6)
    assert summary.frames == 9 and summary.boxes == sum(len(one.rows) for one in seen) > 0
    assert summary.ended == "end of the video" and len(frames_of(tmp_path / "out.mp4")) == 9


def test_a_stream_ends_when_asked(tmp_path: Path, detector: Detector) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 9)
    seen: list[Seen] = []
    with Recorder(tmp_path / "out.mp4", 25) as recorder:
        summary = Stream(Video(str(clip)), detector, recorder=recorder).run(seen.append, lambda: len(seen) == 4)
    assert summary.ended == "interrupted" and len(frames_of(tmp_path / "out.mp4")) == 4


def test_actual_size(tmp_path: Path, detector: Detector) -> None:
    """The film has the pixels that the network sees, and boxes, but no text."""
    clip = write_clip(tmp_path / "clip.mp4", 2)
    with Recorder(tmp_path / "out.avi", 25) as recorder:
        Stream(Video(str(clip)), detector, recorder=recorder, actual_size=True).run(lambda seen: None)
    frame = frames_of(tmp_path / "out.avi")[0]
    assert frame.shape == (64, 64, 3)


def test_keys(detector: Detector) -> None:
    controls = Controls(detector)
    assert controls.press("+") and detector.settings.threshold == pytest.approx(0.25)
    for _ in range(30):
        controls.press("-")
    assert detector.settings.threshold == 0.01 and not controls.press("-")
    assert controls.press("n") and detector.settings.nms_iou is None
    assert controls.press("n") and detector.settings.nms_iou == detector.manifest.nms_iou
    assert not controls.press(" ") and controls.paused and not controls.press("h") and controls.help
    assert not controls.press("s") and controls.save
    assert not controls.press("") and not controls.press("x") and not controls.quit
    assert not controls.press("\x1b") and controls.quit


def test_suppression_comes_back_where_it_began_off(detector: Detector) -> None:
    detector.choose(nms=False)
    assert Controls(detector).press("n") and detector.settings.nms_iou == detector.manifest.nms_iou


@pytest.mark.parametrize("size", [(24, 32), (64, 64), (480, 640), (1080, 1920)])
def test_text_is_readable_on_any_frame(size: tuple[int, int]) -> None:
    frame = np.full((*size, 3), 200, np.uint8)
    write_lines(frame, ["12.3 ms", "30.0 fps"])
    plate = frame[frame.min(-1) < 100]
    assert len(plate) and (frame.max() >= 250 or size[0] < 30)
    assert (frame[-1, -1] == 200).all() or max(size) <= 64
    assert cv2.countNonZero(frame[..., 0]) > 0
