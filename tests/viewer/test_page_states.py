"""What the page says when something is wrong, and that it comes back by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.viewer_page import Stage, stage, text_is, wait_for, wait_until
from support.viewer_source import SceneSource


@pytest.fixture
def live(browser: Any) -> Iterator[Stage]:
    with stage(browser, SceneSource(fps=20)) as made:
        yield made


def banner(page: Any) -> str:
    page.wait_for_selector("#banner:not([hidden])")
    return str(page.inner_text("#banner"))


def test_unplugged_and_plugged_in_again(live: Stage) -> None:
    page = live.open()
    assert page.is_hidden("#banner")
    live.source.set_state("gone", "/dev/ttyACM0: unplugged; waiting for it to come back")
    text = banner(page)
    assert "The device is unplugged." in text and "/dev/ttyACM0" in text and "Plug it in again" in text
    assert page.inner_text("#pill-text") == "unplugged"
    page.wait_for_selector("#frame.stale")
    wait_for(page, "document.getElementById('frame-note').textContent.startsWith('Last picture')")
    number = live.source.number
    live.source.set_state("ready", "back")
    page.wait_for_selector("#banner", state="hidden")
    wait_until(lambda: live.source.number > number, "pictures")
    page.wait_for_selector("#frame:not(.stale)")
    text_is(page, "#pill-text", "ready")


@pytest.mark.parametrize(
    ("state", "text", "says"),
    [
        ("silent", "/dev/ttyACM0: open, but nothing was heard for 3 s", "Press the board's reset button"),
        ("refused", "the device speaks protocol version 9, this program 3", "Build and flash firmware"),
        ("connecting", "/dev/ttyACM0: waiting for the device", "no other program has the port open"),
        ("ended", "all 24 photos were sent", "What is shown is the last picture."),
    ],
)
def test_each_state_says_what_to_do(live: Stage, state: Any, text: str, says: str) -> None:
    page = live.open()
    live.source.set_state(state, text)
    shown = banner(page)
    assert text.lower() in shown.lower() and says in shown
    assert page.get_attribute("#banner", "role") == "status" and page.get_attribute("#banner", "aria-live") == "polite"


def test_the_host_program_ends_and_is_started_again(live: Stage) -> None:
    page = live.open()
    live.stop_server()
    text = banner(page)
    assert "The connection to the host program is lost." in text and "connects by itself" in text
    text_is(page, "#pill-text", "no host")
    page.keyboard.press("+")
    text_is(page, "#toast", "No connection to the host program.")
    text_is(page, "#threshold-value", "0.30")
    live.restart_server()
    page.wait_for_selector("#banner", state="hidden")
    page.wait_for_selector("#frame:not(.stale)")
    text_is(page, "#pill-text", "ready")
    live.errors.clear()  # the browser reports each connection that was refused


def test_another_device_clears_what_was_measured(live: Stage) -> None:
    from support.viewer_source import make_device

    page = live.open()
    page.click("#pause")
    wait_until(lambda: live.source.paused, "pausing")
    page.wait_for_timeout(300)
    assert not page.inner_text("#kept").startswith("0 pictures")
    live.source.publish(make_device(name="other", model_hash="ab" * 32))
    text_is(page, "#model-name", "other")
    text_is(page, "#kept", "0 pictures with 0 boxes kept for the export")


def test_strange_events_do_not_stop_the_page(live: Stage) -> None:
    """Another version of the host program may say things that this page does not know."""
    page = live.open()
    page.evaluate("""async () => {
        const { Link } = await import('/link.js');
        globalThis.seen = [];
        const link = new Link((event) => globalThis.seen.push(event.kind), () => {});
        link.open();
        await new Promise((resolve) => link.socket.addEventListener('open', resolve));
        for (const data of ['no json', '[]', 'null', '{"kind":7}', '{"kind":"new"}']) {
            link.socket.dispatchEvent(new MessageEvent('message', { data }));
        }
    }""")
    wait_for(page, "globalThis.seen.includes('new') && globalThis.seen.includes('picture')")


def test_the_page_names_its_source(live: Stage) -> None:
    page = live.open()
    text_is(page, "#source-text", "/dev/ttyACM0, synthetic street")
    live.source.say("I (312) uhd: ready")
    wait_for(page, "document.getElementById('console').textContent === 'I (312) uhd: ready'")
    assert page.title() == "ultratinyod_r – UHD viewer"


def test_faults_that_come_before_their_names_are_known_stay(live: Stage) -> None:
    """The page asks the host program for the names of faults once it is connected; the answer may take its time."""
    page, held = live.open(wait=False), []
    page.route("**/source.json*", lambda route: held.append(route))
    live.stop_server()
    live.restart_server()
    wait_until(lambda: page.wait_for_timeout(20) or bool(held), "a question for the names")
    live.source.fault(33, "CAMERA_STOPPED", "no picture for 2 s")
    live.source.fault(41, "LINK_STALLED", "128 bytes", stands=False)
    live.source.fault(40, "FAULT_40", "")  # as a host program would tell of one that it does not know
    page.wait_for_selector("#faults li.over")
    text_is(page, "#faults li:first-child span", "no picture for 2 s")
    with page.expect_response("**/source.json*"):
        held[0].continue_()
    text_is(page, "#faults li:nth-child(2) b", "40 DISPLAY_MISSING")
    assert page.inner_text("#faults li.over").startswith("41 LINK_STALLED (over)")
    assert "no picture for 2 s" in page.inner_text("#faults li:first-child")
