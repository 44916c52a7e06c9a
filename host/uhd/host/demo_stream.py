"""``demo`` on videos and cameras."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from uhd.errors import ConfigError
from uhd.host.bridge import asked_to_end
from uhd.host.demo_photos import DEFAULT_OUTPUT, plain
from uhd.host.ui import track
from uhd.infer.detector import Detector
from uhd.infer.stream import Seen, Stream, Summary
from uhd.infer.video import Frame, Recorder, Video
from uhd.infer.window import Window, no_window

DEFAULT_RECORD = "camera_record.mp4"


def run_camera(detector: Detector, source: str, options: Mapping[str, Any]) -> None:
    """A camera's pictures in a window, and recorded; without a display only recorded. Ctrl-C ends it, too."""
    as_json, record = options["as_json"], options["record"]
    if record is None and not as_json:
        record = DEFAULT_RECORD
    why = "not with --json" if as_json else no_window()
    video = Video(source)
    small = options["actual_size"]
    size = (detector.manifest.input_width, detector.manifest.input_height) if small else (video.width, video.height)
    with contextlib.ExitStack() as stack:
        recorder = stack.enter_context(Recorder(Path(record), video.fps)) if record else None
        window = None if why else Window(*size)
        if window is not None:
            stack.callback(window.close)
        elif not as_json:
            until = "Ctrl-C ends it" if video.live else "to the end of the file"
            click.echo(
                f"no window: {why}; {f'recording to {record}' if record else 'counting boxes'}, {until}", err=True
            )
        stream = Stream(
            video,
            detector,
            window=window,
            recorder=recorder,
            snapshots=options["output"] or DEFAULT_OUTPUT,
            actual_size=small,
        )
        summary = _run(stream, video, as_json, f"camera {source}", quiet=window is not None)
    _tell(summary, recorder, as_json)


def run_videos(detector: Detector, files: Sequence[Path], options: Mapping[str, Any]) -> None:
    """Videos with boxes into the output folder; with JSON a line a frame, and films only if a folder is given."""
    as_json, output = options["as_json"], options["output"]
    folder = None if as_json and output is None else output or DEFAULT_OUTPUT
    for file in files:
        video = Video(str(file))
        path = folder / f"{file.stem}.mp4" if folder else None
        if path is not None and path.resolve() == file.resolve():
            raise ConfigError(f"{file}: would be replaced", hint="choose another folder as --output")
        with contextlib.ExitStack() as stack:
            recorder = stack.enter_context(Recorder(path, video.fps)) if path else None
            stream = Stream(video, detector, recorder=recorder, status=False)
            summary = _run(stream, video, as_json, file.name)
        _tell(summary, recorder, as_json)
        if summary.ended == "interrupted":
            break


def _run(stream: Stream, video: Video, as_json: bool, name: str, *, quiet: bool = False) -> Summary:
    def tell(seen: Seen) -> None:
        if as_json:
            click.echo(
                json.dumps(
                    {
                        "source": video.source,
                        "frame": seen.number,
                        "time_s": round(seen.seconds, 3),
                        "latency_ms": round(seen.latency_ms, 2),
                        "boxes": plain(seen.rows),
                    }
                )
            )

    def progress(frames: Iterable[Frame]) -> Iterable[Frame]:
        return track(frames, name, quiet=quiet or as_json, total=video.count)

    with asked_to_end() as asked:
        return stream.run(tell, asked, progress)


def _tell(summary: Summary, recorder: Recorder | None, as_json: bool) -> None:
    """What came of it, on stdout, with JSON on stderr."""
    say: Callable[[str], None] = lambda text: click.echo(text, err=as_json)  # noqa: E731
    rate = summary.frames / summary.seconds if summary.seconds else 0.0
    say(
        f"{summary.ended}: {summary.frames} frames in {summary.seconds:.1f} s ({rate:.1f} fps), "
        f"{summary.latency_ms:.1f} ms from frame to boxes"
    )
    say(f"{summary.boxes} boxes, in {summary.frames_with_boxes} of the frames")
    for path in summary.saved:
        say(f"saved: {path}")
    if recorder is not None and recorder.frames:
        say(f"film: {recorder.path} ({recorder.frames} frames)")
