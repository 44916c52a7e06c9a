"""Sliders, buttons, keys and the player: what they do to the source, and what they show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.viewer_page import Stage, saved, stage, text_is, wait_for, wait_until
from support.viewer_source import HASH, SceneSource


@pytest.fixture
def live(browser: Any) -> Iterator[Stage]:
    """A device with a camera, twenty pictures a second."""
    with stage(browser, SceneSource(fps=20)) as made:
        yield made


@pytest.fixture
def played(browser: Any) -> Iterator[Stage]:
    """A recording of a minute."""
    with stage(browser, SceneSource(fps=20, length=60.0)) as made:
        yield made


def asked(stage: Stage, do: str) -> list[dict[str, Any]]:
    return [command for command in stage.source.commands if command["do"] == do]


def slide(page: Any, selector: str, value: float) -> None:
    page.evaluate(
        """([selector, value]) => {
            const input = document.querySelector(selector);
            input.valueAsNumber = value;
            input.dispatchEvent(new Event('input', { bubbles: true }));
            input.dispatchEvent(new Event('change', { bubbles: true }));
        }""",
        [selector, value],
    )


def shown_id(page: Any) -> int:
    return int(page.inner_text("#caption-picture").split(",")[0].removeprefix("picture ").replace(",", ""))


def settled_id(page: Any) -> int:
    """The picture that a page which stands still shows; on a busy machine it is drawn a while after it was taken."""
    before, after = -1, shown_id(page)
    while before != after:
        page.wait_for_timeout(1000)
        before, after = after, shown_id(page)
    return after


def test_sliders_reach_the_device_and_show_what_it_confirmed(live: Stage) -> None:
    page = live.open()
    text_is(page, "#threshold-value", "0.30")
    slide(page, "#threshold", 0.62)
    text_is(page, "#threshold-value", "0.62")
    assert live.source.config.score_threshold == pytest.approx(0.62, abs=1e-4)
    slide(page, "#nms", 0.4)
    text_is(page, "#nms-value", "0.40")
    assert asked(live, "configure")[-1] == {"do": "configure", "nms_iou": 0.4}
    # Somebody else changes it: the page follows.
    live.hub.command({"do": "configure", "score_threshold": 0.11})
    text_is(page, "#threshold-value", "0.11")
    assert page.input_value("#threshold") == "0.11"


def test_a_slider_goes_back_when_the_device_does_not_confirm(live: Stage) -> None:
    page = live.open()
    confirm, live.source.command = live.source.command, lambda command: None  # type: ignore[method-assign]
    slide(page, "#threshold", 0.9)
    text_is(page, "#threshold-value", "0.30 → 0.90")
    text_is(page, "#threshold-value", "0.30")
    assert page.input_value("#threshold") == "0.3"
    live.source.command = confirm  # type: ignore[method-assign]


def test_dragging_does_not_flood_the_link(live: Stage) -> None:
    page = live.open()
    seconds = page.evaluate("""async () => {
        const input = document.getElementById('threshold');
        const began = performance.now();
        for (let i = 0; i < 100; i += 1) {
            input.valueAsNumber = 0.3 + i / 200;
            input.dispatchEvent(new Event('input'));
            await new Promise((resolve) => setTimeout(resolve, 5));
        }
        return (performance.now() - began) / 1000;
    }""")
    text_is(page, "#threshold-value", "0.80")
    assert 2 <= len(asked(live, "configure")) <= seconds / 0.12 + 2 < 100


def test_pause_and_step(live: Stage) -> None:
    page = live.open()
    assert page.is_disabled("#step")
    page.click("#pause")
    text_is(page, "#pause", "Play")
    text_is(page, "#frame-note", "Paused")
    wait_until(lambda: live.source.paused, "pausing")
    before = settled_id(page)
    page.click("#step")
    wait_until(lambda: shown_id(page) > before, "one picture more")
    assert settled_id(page) == live.source.number, "just one"
    page.click("#pause")
    text_is(page, "#pause", "Pause")
    number = live.source.number
    wait_until(lambda: shown_id(page) > number + 2, "going on")


def test_a_page_stands_still_though_the_source_goes_on(live: Stage) -> None:
    """A source that cannot pause answers so; who wants to look at a picture can do that all the same."""
    page = live.open()
    page.click("#pause")
    wait_until(lambda: live.source.paused, "pausing")
    live.source.paused = False
    before = settled_id(page)
    number = live.source.number
    wait_until(lambda: live.source.number > number + 5, "pictures")
    assert shown_id(page) == before
    page.click("#step")
    wait_until(lambda: shown_id(page) > before, "the newest picture")


def test_record(live: Stage) -> None:
    page = live.open()
    page.click("#record")
    text_is(page, "#record", "Recording")
    text_is(page, "#toast", "Recording to recordings/street.uhdr")
    assert page.get_attribute("#record", "aria-pressed") == "true"
    page.click("#record")
    text_is(page, "#record", "Record")
    assert [command["on"] for command in asked(live, "record")] == [True, False]


def test_export_holds_what_was_shown_since_the_last_clear(browser: Any, tmp_path: Path) -> None:
    fixed = ((0.9, 0, 0.5, 0.5, 0.25, 0.5), (0.4, 0, 0.25, 0.25, 0.125, 0.125))
    with stage(browser, SceneSource(fps=20, fixed=fixed, truth=True)) as live:
        page = live.open()
        wait_until(lambda: live.source.number > 10, "pictures")
        first = json.loads(saved(page, lambda: page.click("#export"), tmp_path).read_text())
        page.click("#pause")
        page.wait_for_timeout(1000)
        page.click("#clear")
        for _ in range(2):
            number = live.source.number
            page.click("#step")
            wait_until(lambda number=number: live.source.number == number + 1, "a step")
            wait_until(lambda: f"street_{live.source.number % 120:03d}" in page.inner_text("#caption-picture"), "it")
        text_is(page, "#kept", "2 pictures with 4 boxes kept for the export")
        second = json.loads(saved(page, lambda: page.click("#export"), tmp_path).read_text())
    assert len(first["images"]) > 2 and len(first["annotations"]) == 2 * len(first["images"])
    assert len(second["images"]) == 2 and len(second["annotations"]) == 4
    assert second["images"][0]["file_name"].startswith("street_") and second["images"][0]["width"] == 64
    best = second["annotations"][0]
    assert best["bbox"] == [24, 16, 16, 32] and best["score"] == pytest.approx(0.9) and best["area"] == 512
    assert best["category_id"] == second["categories"][0]["id"] and second["categories"][0]["name"] == "person"
    assert second["info"]["model_hash"] == HASH and second["info"]["score_threshold"] == 0.3
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = second
    coco.createIndex()  # a data set that COCO's own tool reads
    assert len(coco.getAnnIds(imgIds=[second["images"][0]["id"]])) == 2


def test_keys(live: Stage, tmp_path: Path) -> None:
    page = live.open()
    page.keyboard.press("Space")
    text_is(page, "#pause", "Play")
    steps = len(asked(live, "step"))
    page.keyboard.press(".")
    wait_until(lambda: len(asked(live, "step")) == steps + 1, "a step")
    page.keyboard.press("Space")
    text_is(page, "#pause", "Pause")
    page.keyboard.press("+")
    text_is(page, "#threshold-value", "0.35")
    page.keyboard.press("-")
    page.keyboard.press("-")
    text_is(page, "#threshold-value", "0.25")
    page.keyboard.press("]")
    text_is(page, "#nms-value", "0.55")
    page.keyboard.press("r")
    text_is(page, "#record", "Recording")
    assert saved(page, lambda: page.keyboard.press("s"), tmp_path).suffix == ".png"
    assert saved(page, lambda: page.keyboard.press("e"), tmp_path).suffix == ".json"
    page.keyboard.press("c")
    text_is(page, "#toast", "Cleared.")
    page.keyboard.press("Alt+r")  # keys of the browser stay the browser's
    assert len(asked(live, "record")) == 1


def test_the_list_of_keys_and_switching_them_off(live: Stage) -> None:
    page = live.open()
    page.keyboard.press("?")
    page.wait_for_selector("#keys[open]")
    assert "export what was shown as COCO JSON" in page.inner_text("#key-list")
    page.keyboard.press("r")
    page.uncheck("#keys-on")
    page.keyboard.press("Escape")
    page.wait_for_selector("#keys", state="hidden")
    page.keyboard.press("r")
    page.keyboard.press("Space")  # not a letter: this one stays
    text_is(page, "#pause", "Play")
    assert asked(live, "record") == []


def test_space_presses_the_focused_button(live: Stage) -> None:
    page = live.open()
    page.focus("#record")
    page.keyboard.press("Space")
    text_is(page, "#record", "Recording")
    assert asked(live, "pause") == []


def test_colours(live: Stage) -> None:
    page = live.open(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.click("#theme")
    text_is(page, "#theme", "◐ Light")
    assert page.evaluate(ground) != dark
    page.reload()
    text_is(page, "#theme", "◐ Light")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.keyboard.press("t")
    text_is(page, "#theme", "◐ Dark")
    assert page.evaluate(ground) == dark


def test_stages_can_be_hidden_in_the_chart(live: Stage) -> None:
    page = live.open()
    button = page.locator("#stages button").nth(2)
    picture = "document.getElementById('latency-chart').toDataURL()"
    page.click("#pause")
    page.wait_for_timeout(500)
    before = page.evaluate(picture)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    wait_until(lambda: page.evaluate(picture) != before, "another chart")


def test_what_speed_says(live: Stage) -> None:
    page = live.open()
    text_is(page, "#fps", "20.0")
    rows = [row.split() for row in page.inner_text("#stages").splitlines() if row.strip()]
    assert [row[0] for row in rows] == ["receive", "preprocess", "inference", "decode", "together"]
    low, median, high = map(float, rows[2][1:])
    assert 9.7 <= low <= median <= high < 15
    assert 15 < float(rows[4][2]) < 18


def test_a_recording_is_played(played: Stage) -> None:
    page = played.open()
    assert page.is_visible("#player") and page.is_disabled("#record") and page.is_disabled("#threshold")
    assert page.inner_text("#position").endswith("/ 1:00")
    slide(page, "#seek", 30.0)
    wait_until(lambda: 30 <= played.source.position < 50, "seeking")
    wait_for(page, "document.getElementById('position').textContent.startsWith('0:3')")
    page.keyboard.press("ArrowLeft")
    wait_until(lambda: len(asked(played, "seek")) >= 2, "five seconds back")
    page.select_option("#speed", "4")
    wait_until(lambda: asked(played, "speed") == [{"do": "speed", "factor": 4}], "another speed")


def test_seeking_while_paused_shows_the_picture_there(played: Stage) -> None:
    page = played.open()
    page.click("#pause")
    wait_until(lambda: played.source.paused, "pausing")
    page.wait_for_timeout(300)
    before = page.inner_text("#caption-picture")
    slide(page, "#seek", 40.0)
    wait_until(lambda: page.inner_text("#caption-picture") != before, "another picture")
    text_is(page, "#position", "0:40 / 1:00")
    text_is(page, "#pause", "Play")


def test_the_end_of_a_recording(played: Stage) -> None:
    page = played.open()
    slide(page, "#seek", 59.9)
    page.wait_for_selector("#banner:not([hidden])")
    assert "Press Play to see it again" in page.inner_text("#banner")
    text_is(page, "#frame-note", "Ended")
