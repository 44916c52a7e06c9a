"""The view in a terminal, seen through a pty, and its picture of characters."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest
from rich.console import Console

from support.shared import ROOT
from support.terminal import terminal
from uhd.bridge.events import Config, Fault, Image, Picture, Stats
from uhd.viewer.blocks import BOX, TRUTH, Blocks, draw_box, fit, resize
from uhd.viewer.watch import Watch

PROGRAM = [sys.executable, str(ROOT / "tests" / "support" / "tui_program.py")]


def test_it_shows_the_picture_and_takes_keys() -> None:
    with terminal(PROGRAM) as shown:
        shown.wait_for("ready")
        shown.wait_for("20.0 pictures/s")
        shown.wait_for(re.compile(r"inference\s+9\.\d\d\s+1\d\.\d\d"))
        shown.wait_for(re.compile(r"\d+\s+person\s+0\.\d\d"))
        shown.wait_for("33 CAMERA_STOPPED")
        assert not shown.echoes
        shown.wait_for("▀" * 20)
        assert b"\x1b[38;2;" in shown.raw, "true colours"
        box = "38;2;" + ";".join(str(value & 0xF8 | 4) for value in BOX)
        assert box.encode() in shown.raw, "boxes as lines"
        shown.type("+")
        shown.wait_for("threshold 0.35")
        shown.type("-")
        shown.type("-")
        shown.wait_for("threshold 0.25")
        shown.type("p")
        shown.wait_for("paused")
        shown.type(".")
        shown.type("p")
        shown.type("q")
        assert shown.ended() == 0
        assert shown.echoes
        assert shown.raw.rfind(b"\x1b[?1049l") > shown.raw.rfind(b"\x1b[?1049h"), "the old screen is back"
        told = json.loads(shown.text().split("told ")[-1])
    assert [command["do"] for command in told] == ["configure", "configure", "configure", "pause", "step", "pause"]
    assert [command["score_threshold"] for command in told[:3]] == [0.35, 0.3, 0.25]
    assert [command["on"] for command in told if command["do"] == "pause"] == [True, False]


@pytest.mark.parametrize(("columns", "lines"), [(60, 16), (200, 60)])
def test_it_fits_terminals_of_any_size(columns: int, lines: int) -> None:
    with terminal(PROGRAM, columns, lines) as shown:
        shown.wait_for("pictures/s")
        shown.wait_for("▀▀▀")
        shown.type("q")
        assert shown.ended() == 0
        for line in re.split(r"\r?\n", shown.text()):
            assert line.count("▀") <= columns


def test_pixels_are_the_nearest_and_keep_their_shape() -> None:
    assert fit(64, 64, 60, 20) == (40, 40)
    assert fit(240, 320, 64, 60) == (48, 64)
    assert fit(64, 64, 3, 1) == (2, 2)
    rgb = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    assert (resize(rgb, 8, 8)[::2, ::2] == rgb).all() and (resize(rgb, 8, 8)[1::2, 1::2] == rgb).all()


def test_boxes_are_lines_that_stay_inside() -> None:
    pixels = np.zeros((20, 20, 3), np.uint8)
    draw_box(pixels, (0.5, 0.5, 0.5, 0.5), BOX)
    drawn = (pixels == BOX).all(axis=-1)
    assert drawn[5, 5:16].all() and drawn[15, 5:16].all() and drawn[5:16, 5].all() and drawn[5:16, 15].all()
    assert drawn.sum() == 40
    pixels[:] = 0
    draw_box(pixels, (0.0, 0.0, 1.0, 1.0), BOX)  # three quarters lie outside
    assert (pixels == BOX).all(axis=-1).sum() == 21
    draw_box(pixels, (5.0, 5.0, 1.0, 1.0), BOX)  # all of it does
    pixels[:] = 0
    draw_box(pixels, (0.5, 0.5, 0.9, 0.9), TRUTH, dashed=True)
    assert 0.3 < (pixels == TRUTH).all(axis=-1).sum() / 72 < 0.7


def test_two_pixels_in_a_character() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0] = (248, 0, 0)
    pixels[1] = (0, 0, 248)
    console = Console(force_terminal=True, color_system="truecolor", width=10, legacy_windows=False)
    with console.capture() as captured:
        console.print(Blocks(pixels), end="")
    assert "38;2;252;4;4" in captured.get() and "48;2;4;4;252" in captured.get() and "▀▀▀" in captured.get()


def picture(number: int, image: Image | None, inference_us: int = 1000) -> Picture:
    timing = {"inference_us": inference_us, "receive_us": 0, "preprocess_us": 0, "decode_us": 0}
    box = (0.5, 0, 0.5, 0.5, 0.1, 0.1)
    return Picture(0.0, 0.0, number, "camera", (box,), 1, timing, None, None, image)


def test_the_newest_of_everything() -> None:
    watch = Watch(pictures=3, detections=4)
    image = Image("rgb", b"\0" * 12, 2, 2)
    for number, time_us in enumerate((9000, 1000, 3000, 2000), 1):
        watch.take(picture(number, image if number == 3 else None, time_us))
    assert watch.stage_times()["inference"] == (1.0, 2.0, 3.0)
    assert watch.picture is not None and watch.picture.frame_id == 4 and watch.picture.image is image
    assert [frame for frame, _ in watch.detections] == [4, 3, 2, 1]
    watch.take(Fault(0.0, 0.0, "CAMERA_STOPPED", 33, "text", True))
    watch.take(Config(0.5, 0.5, 1, 1))
    assert list(watch.faults) == [33] and watch.config == Config(0.5, 0.5, 1, 1)
    for _ in range(2):  # what is over may be told twice
        watch.take(Fault(0.0, 0.0, "CAMERA_STOPPED", 33, "", False))
    assert not watch.faults and watch.class_name(3) == "class 3"
    for mask, stands in ((0b10, [33]), (0b100000010, [33, 40]), (0, [])):  # as a view that came later hears of them
        watch.take(Stats(0.0, 0.0, {"faults": mask}, {}, 0.0))
        assert sorted(watch.faults) == stands
