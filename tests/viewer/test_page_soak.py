"""Sixty pictures a second for a while: smooth, and nothing grows. UHD_SOAK_SECONDS makes it longer."""

from __future__ import annotations

import os
import time
from typing import Any

from support.viewer_page import stage, wait_until
from support.viewer_source import SceneSource

SECONDS = float(os.environ.get("UHD_SOAK_SECONDS", "8"))


def test_sixty_pictures_a_second_without_growth(browser: Any) -> None:
    with stage(browser, SceneSource(fps=60)) as live:
        page = live.open()
        tools = page.context.new_cdp_session(page)

        def measure() -> tuple[float, int]:
            """Bytes of the JavaScript heap and nodes of the page, after a collection."""
            tools.send("HeapProfiler.collectGarbage")
            values = {m["name"]: m["value"] for m in tools.send("Performance.getMetrics")["metrics"]}
            return values["JSHeapUsedSize"], int(values["Nodes"])

        tools.send("Performance.enable")
        wait_until(lambda: live.source.number > 200, "a full table and full charts")
        heap, nodes = measure()
        number, began = live.source.number, time.monotonic()
        shown = []
        while time.monotonic() - began < SECONDS:
            page.wait_for_timeout(500)
            shown.append(int(page.inner_text("#caption-shown").removeprefix("shown ").removesuffix("/s")))
        rate = (live.source.number - number) / (time.monotonic() - began)
        heap_after, nodes_after = measure()

    print(f"\n{rate:.1f} pictures/s sent, {sorted(shown)[len(shown) // 2]} shown (median) in {SECONDS:g} s;"
          f" heap {heap / 1e6:.1f} -> {heap_after / 1e6:.1f} MB, nodes {nodes} -> {nodes_after}")  # fmt: skip
    assert rate > 40, "the source itself was held up"
    # A busy machine shows fewer pictures than come; what it shows is the newest, and it must go on moving.
    assert sorted(shown)[len(shown) // 2] > 10
    assert heap_after - heap < 4e6
    assert nodes_after - nodes < 200
