"""The viewer's page in a browser without a window, before a source that the test turns on and off."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.viewer_source import SceneSource
from uhd.bridge.hub import Hub
from uhd.bridge.server import EventServer
from uhd.viewer.page import page_files

#: Milliseconds that a busy machine may take for anything that usually takes a few.
PATIENCE = 20_000
TITLE = "/dev/ttyACM0, synthetic street"


def find_chromium() -> str | None:
    """The system's Chromium; none is downloaded."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A running browser; skips the test where there is none."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the test extra)")
    options = ["--enable-precise-memory-info", "--js-flags=--expose-gc"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium's sandbox refuses to work for root
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=options)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Stage:
    """A source, the server before it, and pages that look at it. ``errors``: what the pages complained about."""

    browser: Any
    source: SceneSource
    hub: Hub = field(default_factory=Hub)
    errors: list[str] = field(default_factory=list)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # beside the page's own

    def __post_init__(self) -> None:
        self.hub.attach(self.source)
        self.server = EventServer(self.hub, "127.0.0.1", 0, files=page_files(TITLE) | self.files)
        self.port = self.server.port
        self._contexts: list[Any] = []
        self.source.start(self.hub)

    @property
    def url(self) -> str:
        return self.server.url

    def open(
        self, size: tuple[int, int] = (1440, 900), *, wait: bool = True, url: str | None = None, **options: Any
    ) -> Any:
        """A new page of a new user, connected; with ``wait`` it has shown a picture."""
        context = self.browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        context.set_default_timeout(PATIENCE)
        self._contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" and ":" in m.text else None)
        page.goto(url or self.url)
        if url not in (None, self.url):
            return page
        wait_for(page, "document.getElementById('device').childElementCount > 0")
        if wait:
            wait_for(page, "document.getElementById('caption-shown').textContent !== ''")
        return page

    def stop_server(self) -> None:
        """As if the host program ended."""
        self.server.close()

    def restart_server(self) -> None:
        """As if it was started again, at the same address."""
        self.server = EventServer(self.hub, "127.0.0.1", self.port, files=page_files(TITLE) | self.files)

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        self.source.close()
        self.server.close()
        self.hub.close()


@contextlib.contextmanager
def stage(browser: Any, source: SceneSource, files: dict[str, tuple[str, bytes]] | None = None) -> Iterator[Stage]:
    """A stage that is taken down at the end, and whose pages did not complain."""
    made = Stage(browser, source, files=files or {})
    try:
        yield made
        assert made.errors == [], made.errors
    finally:
        made.close()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE / 1000) -> None:
    """Wait for something outside the page."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds:g} s"
        time.sleep(0.01)


def wait_for(page: Any, script: str, arg: Any = None) -> None:
    """Wait until JavaScript is true on the page. (Playwright's own waiting needs eval, which the page forbids.)"""
    wait_until(lambda: bool(page.evaluate(script, arg)), script)


def text_is(page: Any, selector: str, text: str) -> None:
    """Wait until an element has exactly this text."""
    wait_until(lambda: page.text_content(selector).strip() == text, f"{selector} = {text!r}")


def saved(page: Any, action: Callable[[], Any], folder: Path) -> Path:
    """The file that an action makes the browser download."""
    with page.expect_download() as started:
        action()
    path = folder / str(started.value.suggested_filename)
    started.value.save_as(path)
    return path
