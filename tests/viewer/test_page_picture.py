"""The picture, its boxes and what is written about them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from support.viewer_page import Stage, saved, stage, text_is, wait_for, wait_until
from support.viewer_source import HASH, SceneSource, make_device
from uhd.bridge.events import Image, Picture

BOX_COLOUR = (47, 230, 210)
BOX = (0.87, 0, 0.5, 0.45, 0.3, 0.5)
TRUTH = (0, 0.3, 0.55, 0.25, 0.6)


def picture(number: int, **changes: Any) -> Picture:
    grey = Image("rgb", bytes([96]) * 64 * 64 * 3, 64, 64)
    fields: dict[str, Any] = {
        "t": number / 10,
        "wall": 0.0,
        "frame_id": number,
        "source": "host",
        "boxes": (BOX,),
        "candidates": 7,
        "timing": None,
        "photo": None,
        "truth": None,
        "image": grey,
    }
    return Picture(**{**fields, **changes})


@pytest.fixture
def quiet(browser: Any) -> Iterator[Stage]:
    """A source that says only what the test has it say."""
    source = SceneSource()
    source.paused = True
    with stage(browser, source) as made:
        yield made


def show(quiet: Stage, page: Any, shown: Picture) -> None:
    """Publish a picture and wait until it is on the page."""
    quiet.source.publish(shown)
    name = shown.photo or f"picture {shown.frame_id}"
    wait_for(page, "name => document.getElementById('caption-picture').textContent.startsWith(name)", name)


def canvas_pixels(page: Any) -> np.ndarray[Any, Any]:
    """The canvas as RGB [H, W, 3]."""
    url = page.evaluate("document.getElementById('picture').toDataURL('image/png')")
    return cv2.imdecode(np.frombuffer(base64.b64decode(url.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def is_colour(pixels: np.ndarray[Any, Any], colour: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    return (np.abs(pixels.astype(int) - colour) <= 12).all(axis=-1)


def check_box(pixels: np.ndarray[Any, Any]) -> None:
    """The frame of BOX lies where it should, and only there."""
    height, width = pixels.shape[:2]
    _, _, cx, cy, w, h = BOX
    left, right = (cx - w / 2) * width, (cx + w / 2) * width
    top, bottom = (cy - h / 2) * height, (cy + h / 2) * height
    coloured = is_colour(pixels, BOX_COLOUR)
    rows, columns = np.nonzero(coloured[round(top) - 2 :])  # the label stands above
    assert abs(columns.min() - left) <= 2 and abs(columns.max() - right) <= 2
    assert abs(rows.max() + round(top) - 2 - bottom) <= 2
    middle = slice(round(top) + 8, round(bottom) - 8)
    for x in (left, right):
        assert coloured[middle, round(x) - 1 : round(x) + 2].any(axis=1).all(), "a side of the frame has gaps"
    assert coloured[round(bottom) - 1 : round(bottom) + 2, round(left) + 8 : round(right) - 8].any(axis=0).all()
    inside = pixels[round(top) + 24 : round(bottom) - 8, round(left) + 8 : round(right) - 8]
    assert (inside == 96).all(), "the picture itself shows inside the frame"


def test_boxes_lie_where_they_should(quiet: Stage) -> None:
    page = quiet.open((1000, 800), wait=False)
    show(quiet, page, picture(1))
    check_box(canvas_pixels(page))
    assert page.get_attribute("#picture", "aria-label") == "picture 1: 1 box of 7 candidates, best person 0.87"
    assert page.inner_text("#detections tr:first-child").split("\t") == [
        "#1", "person", "0.87", "0.50, 0.45", "0.30 × 0.50",
    ]  # fmt: skip


def test_labels_are_dashed_and_can_be_hidden(quiet: Stage) -> None:
    page = quiet.open((1000, 800), wait=False)
    show(quiet, page, picture(1, boxes=(), truth=(TRUTH,)))

    def white() -> np.ndarray[Any, Any]:
        pixels = canvas_pixels(page)
        x = round((TRUTH[1] - TRUTH[3] / 2) * pixels.shape[1])
        return is_colour(pixels[:, x - 1 : x + 2], (255, 255, 255)).any(axis=1)

    column = white()
    rows = np.flatnonzero(column)
    height = len(column)
    assert abs(rows.min() - 0.25 * height) < 12 and abs(rows.max() - 0.85 * height) < 12
    share = column[rows.min() : rows.max()].mean()
    assert 0.4 < share < 0.9, "dashes and gaps"
    page.uncheck("#truth")
    wait_until(lambda: not white().any(), "the labels going away")


def test_enlarged_pixels_stay_crisp(quiet: Stage) -> None:
    page = quiet.open((1000, 800), wait=False)
    board = np.indices((8, 8)).sum(axis=0) % 2 * 200
    pixels = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    show(quiet, page, picture(1, boxes=(), image=Image("rgb", pixels.tobytes(), 8, 8)))
    seen = canvas_pixels(page)
    assert set(np.unique(seen)) <= {0, 200}, "no mixed colours at the borders"
    assert seen[5, 5, 0] == 0 and seen[5, seen.shape[1] // 8 + 5, 0] == 200


def test_a_photo_is_shown_in_its_own_shape(quiet: Stage) -> None:
    page = quiet.open((1000, 800), wait=False)
    rgb = np.full((240, 320, 3), (200, 60, 20), np.uint8)
    _, data = cv2.imencode(".jpg", rgb[..., ::-1])
    show(quiet, page, picture(3, photo="red.jpg", boxes=(), image=Image("jpeg", data.tobytes())))
    seen = canvas_pixels(page)
    assert abs(seen.shape[1] / seen.shape[0] - 320 / 240) < 0.01
    assert is_colour(seen, (200, 60, 20)).mean() > 0.99
    assert page.inner_text("#caption-picture") == "red.jpg, 320 × 240"


def test_a_snapshot_has_picture_and_boxes(quiet: Stage, tmp_path: Path) -> None:
    page = quiet.open(wait=False)
    show(quiet, page, picture(12))
    path = saved(page, lambda: page.click("#snapshot"), tmp_path)
    assert path.name.startswith("uhd_picture_12_") and path.suffix == ".png"
    bgr = cv2.imread(str(path))
    assert bgr.shape == (640, 640, 3)
    check_box(bgr[..., ::-1])


def test_boxes_without_pixels(quiet: Stage) -> None:
    page = quiet.open(wait=False)
    show(quiet, page, picture(1, image=None))
    text_is(page, "#frame-note", "No pixels: boxes only")
    show(quiet, page, picture(2))
    show(quiet, page, picture(3, image=None))
    text_is(page, "#frame-note", "Pixels of picture 2")


@pytest.mark.parametrize(
    "image",
    [Image("rgb", b"123", 64, 64), Image("jpeg", b"\xff\xd8 no picture")],
    ids=["wrong size", "no jpeg"],
)
def test_damaged_pixels_do_not_stop_the_page(quiet: Stage, image: Image) -> None:
    page = quiet.open(wait=False)
    show(quiet, page, picture(1, image=image))
    text_is(page, "#frame-note", "No pixels: boxes only")
    show(quiet, page, picture(2))
    page.wait_for_selector("#frame-note", state="hidden")


def test_text_of_the_device_stays_text(quiet: Stage) -> None:
    evil = "<img src=x onerror='globalThis.evil=1'><b>bold</b>"
    page = quiet.open(wait=False)
    quiet.source.publish(make_device(name=evil, class_names=[evil], reset_reason=evil, resize_mode=evil))
    quiet.source.say(evil)
    quiet.source.fault(33, evil, evil)
    quiet.source.set_state("refused", evil)
    show(quiet, page, picture(1, photo=evil))
    for selector in ("#device", "#console", "#faults", "#banner-text", "#caption-picture", "#detections"):
        wait_for(
            page, "([selector, text]) => document.querySelector(selector).textContent.includes(text)", [selector, evil]
        )
        assert page.locator(f"{selector} img, {selector} b:has-text('bold') b").count() == 0
    assert page.evaluate("globalThis.evil") is None


def test_the_device_card(quiet: Stage) -> None:
    page = quiet.open(wait=False, permissions=["clipboard-read", "clipboard-write"])
    card = page.inner_text("#device")
    for part in ("ultratinyod_r", "64 × 64 × 2", "esp32s3, esp-dl", "159,744 B", "power on", f"{HASH[:12]}…"):
        assert part in card
    accuracy = " ".join(page.inner_text("#accuracy-box").split())
    assert accuracy == "Measured mAP (960 images, coco-voc-val) Engine @0.5 @0.5:0.95 onnx 0.226 0.090 twin 0.219 0.084"
    page.click("#device button")
    text_is(page, "#toast", "Copied the hash.")
    assert page.evaluate("navigator.clipboard.readText()") == HASH


def test_counters_and_faults(quiet: Stage) -> None:
    page = quiet.open(wait=False)
    quiet.source.fault(33, "CAMERA_STOPPED", "no picture for 2 s")
    text_is(page, "#faults li:not(.over) b", "33 CAMERA_STOPPED")
    assert "docs/faults.md" in page.inner_text("#faults-help")
    quiet.source.fault(33, "CAMERA_STOPPED", "", stands=False)
    page.wait_for_selector("#faults li.over")
    quiet.source.faults = 1 << 8  # only STATS tells of this one
    text_is(page, "#faults li:not(.over) b", "40 DISPLAY_MISSING")
    counters = page.inner_text("#device-counters")
    assert "heap free\n148,212" in counters and "uptime\n3,7" in counters
    assert "retries\n0" in page.inner_text("#host-counters")


def test_the_log_keeps_the_newest(quiet: Stage) -> None:
    """The memory of the export is of fixed size: the oldest pictures go, whole ones only."""
    page = quiet.open(wait=False)
    kept = page.evaluate("""async () => {
        const { Log } = await import('/history.js');
        const log = new Log(5, 6);
        for (let n = 1; n <= 9; n += 1) {
            const boxes = Array.from({ length: n % 4 }, (_, i) => [0.5, 0, n, i, 1, 1]);
            log.push({ frame_id: n, t: n, photo: n === 9 ? 'nine.jpg' : null, boxes }, 64, 64);
        }
        return [...log.entries()].map((e) => [e.frame_id, e.photo, e.boxes.map((b) => [b[2], b[3]])]);
    }""")
    assert kept == [
        [6, None, [[6, 0], [6, 1]]],
        [7, None, [[7, 0], [7, 1], [7, 2]]],
        [8, None, []],
        [9, "nine.jpg", [[9, 0]]],
    ]


def test_charts_do_their_sums(quiet: Stage) -> None:
    page = quiet.open(wait=False)
    result = page.evaluate("""async () => {
        const { Ring, Timings } = await import('/history.js');
        const { ceiling } = await import('/charts.js');
        const ring = new Ring(4);
        const empty = ring.summary();
        for (const value of [9, 1, 5, 3, 4]) ring.push(value);
        const timings = new Timings(2);
        timings.push({ receive_us: 9000, preprocess_us: 2000, inference_us: 10000, decode_us: 500 }, 'host');
        timings.push({ receive_us: 9000, preprocess_us: 2000, inference_us: 10000, decode_us: 500 }, 'camera');
        const sums = [timings.sum.at(0), timings.sum.at(1)];
        return [empty, ring.summary(), ring.at(0), ...sums, [0, 0.7, 12, 13, 101].map(ceiling)];
    }""")
    assert result == [None, {"min": 1, "median": 3.5, "max": 5}, 1, 19.5, 21.5, [1, 0.8, 15, 15, 150]]
