from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from support.report_runs import make_run
from uhd.train.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (390, 1280)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here"),
    pytest.mark.slow,
]


def run_browser(profile: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={profile}", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)


def test_a_browser_shows_it_in_light_and_dark_and_on_a_phone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, photos=6)
    page = write_report(run)
    # the page measures itself: what is wider than the window, and what is not inside its box
    probe = tmp_path / "probe.html"
    script = (
        "<script>document.title = 'wide ' + (document.documentElement.scrollWidth - innerWidth)"
        " + ' tiles ' + [...document.querySelectorAll('.tile .figure')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1).length"
        " + ' pictures ' + [...document.querySelectorAll('.gallery svg')].filter(e => e.clientWidth > 90).length"
        " + ' width ' + innerWidth</script></body>"
    )
    probe.write_text(page.read_text().replace("</body>", script))
    pictures = {}
    for name, options in {
        "light": ("--window-size=1280,1600", "--blink-settings=preferredColorScheme=1"),
        "dark": ("--window-size=1280,1600", "--blink-settings=preferredColorScheme=0"),
    }.items():
        shot = tmp_path / f"{name}.png"
        run_browser(tmp_path / "profile", *options, f"--screenshot={shot}", page.as_uri())
        pictures[name] = cv2.imread(str(shot))
        assert pictures[name].shape == (1600, 1280, 3)
        assert len(np.unique(pictures[name].reshape(-1, 3), axis=0)) > 100
    assert pictures["light"][5, 5].min() > 230 and pictures["dark"][5, 5].max() < 40
    # a headless window cannot be narrower than 500 pixels, a frame can
    frame = tmp_path / "frame.html"
    frames = "".join(
        f'<iframe src="probe.html" width="{width}" height="900" frameborder="0"></iframe>' for width in WIDTHS
    )
    frame.write_text(
        f"{frames}<script>onload = () => {{ document.title ="
        " [...document.querySelectorAll('iframe')].map(e => e.contentDocument.title).join(', ') }</script>"
    )
    arguments = ("--allow-file-access-from-files", "--virtual-time-budget=4000", "--dump-dom", frame.as_uri())
    dom = run_browser(tmp_path / "profile", *arguments).stdout
    photos = page.read_text().count('class="photo"')
    wanted = [f"wide 0 tiles 0 pictures {photos} width {width}" for width in WIDTHS]
    assert dom.split("<title>")[1].split("</title>")[0] == ", ".join(wanted)
