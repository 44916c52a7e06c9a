"""How the page looks and how fast: accessibility, narrow screens, first paint, the pictures in the guide."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import cv2
import pytest

from support.shared import ROOT
from support.viewer_page import TITLE, Stage, stage, text_is, wait_for, wait_until
from support.viewer_source import SceneSource

PHONE = (360, 740)
DESK = (1280, 800)
#: File -> (size in CSS pixels, colours, kind of source).
PICTURES: dict[str, tuple[tuple[int, int], str, str]] = {
    "viewer-light.png": (DESK, "light", "camera"),
    "viewer-dark.png": (DESK, "dark", "recording"),
    "viewer-phone.png": (PHONE, "dark", "camera"),
    "viewer-unplugged.png": (DESK, "light", "unplugged"),
}
FOLDER = ROOT / "docs" / "pictures"
PATIENCE = 20.0  # seconds of trying, beside other tests on the same cores


def source(kind: str = "camera") -> SceneSource:
    return SceneSource(fps=30, length=40.0, truth=True) if kind == "recording" else SceneSource(fps=30)


@pytest.mark.parametrize(
    ("size", "colours"), [(DESK, "light"), (DESK, "dark"), (PHONE, "light")], ids=["light", "dark", "phone"]
)
def test_accessibility(browser: Any, size: tuple[int, int], colours: str) -> None:
    """No serious or critical violation, with everything shown that can be shown."""
    axe = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")
    with stage(browser, source("recording")) as live:
        # The page's own policy forbids foreign scripts; axe has to be let in.
        page = live.open(size, color_scheme=colours, bypass_csp=True, reduced_motion="reduce")
        live.source.fault(33, "CAMERA_STOPPED", "no picture for 2 s")
        live.source.fault(41, "LINK_STALLED", "128 bytes", stands=False)
        live.source.say("I (312) uhd: ready")
        page.wait_for_selector("#faults li.over")
        page.wait_for_selector("#detections tr")
        page.keyboard.press("c")
        page.add_script_tag(path=str(axe.AXE_FILE_PATH))
        for what in ("page", "banner", "dialog"):
            if what == "banner":
                live.source.set_state("gone", "unplugged")
                page.wait_for_selector("#banner:not([hidden])")
            elif what == "dialog":
                page.keyboard.press("?")
            found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
            bad = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
            told = [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in bad]
            assert not bad, f"{what}: {json.dumps(told, indent=1)}"
            assert found["passes"], "axe looked at nothing"


@pytest.mark.parametrize("kind", ["camera", "recording"])
def test_a_phone_scrolls_one_way_only(browser: Any, kind: str) -> None:
    with stage(browser, source(kind)) as live:
        page = live.open(PHONE)
        live.source.fault(33, "CAMERA_STOPPED", "x" * 200)
        live.source.say("y" * 300)
        live.source.set_state("refused", "z" * 200)
        page.wait_for_selector("#banner:not([hidden])")
        page.wait_for_selector("#faults li")
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        box = page.locator("#picture").bounding_box()
        assert box["width"] > 320 and box["y"] < 400, "the picture is what one sees first"
        smallest = page.evaluate(
            "Math.min(...[...document.querySelectorAll('.toolbar button')].map((b) => b.offsetHeight))"
        )
        assert smallest >= 40, "large enough for a thumb"


def first_paint(live: Stage, url: str) -> float:
    """Milliseconds from the request to the first words on the screen of a new user."""
    page = live.open(wait=False, url=url)
    wait_for(page, "performance.getEntriesByType('paint').length === 2")
    entries = page.evaluate("performance.getEntriesByType('paint').map((e) => [e.name, e.startTime])")
    page.context.close()
    return float(dict(entries)["first-contentful-paint"])


def test_first_paint(browser: Any) -> None:
    """Under 300 ms, the best of several. Where a page of one word takes long, the machine is busy: four of those."""
    bare = {"/bare.html": ("text/html", b"<!doctype html><title>bare</title><link rel=icon href=icon.svg><p>bare")}
    own: list[float] = []
    word: list[float] = []
    with stage(browser, SceneSource(fps=5), files=bare) as live:
        until = time.monotonic() + PATIENCE
        while len(own) < 3 or (min(own) >= max(300, 4 * min(word)) and time.monotonic() < until):
            own.append(first_paint(live, live.url))
            word.append(first_paint(live, f"{live.url}bare.html"))
    print(f"\nfirst paint: {min(own):.0f} ms, of a page of one word {min(word):.0f} ms")
    assert min(own) < max(300, 4 * min(word)), (own, word)


def test_nothing_comes_from_elsewhere(browser: Any) -> None:
    """The page loads its own files only, each of the right type, and works under its own policy."""
    with stage(browser, source()) as live:
        page = live.open(wait=False)
        seen: list[tuple[str, int, str]] = []
        page.on("response", lambda r: seen.append((r.url, r.status, r.headers.get("content-type", ""))))
        page.reload()
        text_is(page, "#pill-text", "ready")
        text_is(page, "#source-text", TITLE)  # which came last
        assert len(seen) > 10
        for url, status, _ in seen:
            assert url.startswith(live.url) and status == 200, url
        policy = page.get_attribute("meta[http-equiv]", "content")
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert page.evaluate("document.querySelectorAll('[style], style, script:not([src])').length") <= 1  # --ratio
        violated = page.evaluate("""() => new Promise((resolve) => {
            document.addEventListener('securitypolicyviolation', (event) => resolve(event.effectiveDirective));
            const script = document.createElement('script');
            script.textContent = 'globalThis.evil = 1';
            document.body.append(script);
        })""")
        assert violated.startswith("script-src") and page.evaluate("globalThis.evil") is None


def test_the_page_is_written_with_care() -> None:
    folder = ROOT / "host" / "uhd" / "viewer" / "page"
    for path in folder.iterdir():
        text = path.read_text()
        assert (
            "innerHTML" not in text
            and "document.write" not in text
            and "http://" not in text.replace("http://www.w3.org/2000/svg", "")
        ), path
        assert len(text.splitlines()) <= 400, path


def _stage_of_picture(live: Any, page: Any, kind: str) -> None:
    live.source.say("I (312) uhd: ultratinyod_r, 24,864 B of activations")
    live.source.say("I (518) camera: 320 x 240 YUYV")
    wait_until(lambda: live.source.number > 260, "enough pictures", 30)
    if kind == "unplugged":
        live.source.set_state("gone", "/dev/ttyACM0: unplugged")
        page.wait_for_selector("#frame.stale")
        page.wait_for_timeout(400)


@pytest.mark.skipif(not os.environ.get("UHD_SCREENSHOTS"), reason="set UHD_SCREENSHOTS=1 to make the guide's pictures")
@pytest.mark.parametrize("name", list(PICTURES))
def test_make_the_pictures_of_the_guide(browser: Any, name: str) -> None:
    size, colours, kind = PICTURES[name]
    FOLDER.mkdir(exist_ok=True)
    with stage(browser, source(kind)) as live:
        page = live.open(size, color_scheme=colours, device_scale_factor=1)
        _stage_of_picture(live, page, kind)
        page.screenshot(path=str(FOLDER / name))


@pytest.mark.parametrize("name", list(PICTURES))
def test_the_pictures_of_the_guide_are_there(name: str) -> None:
    path = FOLDER / name
    picture = cv2.imread(str(path))
    assert picture is not None, f"{path} is missing: UHD_SCREENSHOTS=1 pytest tests/viewer/test_page_looks.py"
    assert picture.shape[1::-1] == PICTURES[name][0]
    assert picture.std() > 20, "not an empty page"
    assert path.stat().st_size < 400_000
    assert f"pictures/{name}" in (ROOT / "docs" / "viewer.md").read_text()


def test_the_guide_shows_only_these() -> None:
    assert {p.name for p in Path(FOLDER).glob("viewer-*.png")} == set(PICTURES)
