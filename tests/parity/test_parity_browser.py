"""The page of a parity run in a browser: nothing is wider than the window, on a phone and on a desk."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.scene_folder import write_scenes
from uhd.host.__main__ import main

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (390, 1280)
pytestmark = [pytest.mark.skipif(BROWSER is None, reason="no Chromium here"), pytest.mark.slow]


def test_it_fits_and_shows_every_picture(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "scenes", 5, size=(60, 80))
    page = tmp_path / "parity.html"
    arguments = ["--photos", str(scenes), "--engines", "onnx,twin", "--inject", "camera"]
    assert main(["parity", *arguments, "--state", str(tmp_path / "state.jsonl"), "--report", str(page)]) == 0
    probe = (
        "<script>document.title = 'wide ' + (document.documentElement.scrollWidth - innerWidth)"
        " + ' pictures ' + [...document.querySelectorAll('.pair svg')].filter(e => e.clientWidth > 90).length"
        " + ' width ' + innerWidth</script></body>"
    )
    (tmp_path / "probe.html").write_text(page.read_text().replace("</body>", probe))
    frame = tmp_path / "frame.html"  # a headless window cannot be narrower than 500 pixels, a frame can
    frames = "".join(f'<iframe src="probe.html" width="{w}" height="900" frameborder="0"></iframe>' for w in WIDTHS)
    frame.write_text(
        f"{frames}<script>onload = () => {{ document.title ="
        " [...document.querySelectorAll('iframe')].map(e => e.contentDocument.title).join(', ') }</script>"
    )
    command = [
        *(
            str(BROWSER),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={tmp_path / 'profile'}",
        ),
        *("--allow-file-access-from-files", "--virtual-time-budget=4000", "--dump-dom", frame.as_uri()),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    pictures = page.read_text().count('class="photo"')
    assert pictures >= 4
    wanted = [f"wide 0 pictures {pictures} width {width}" for width in WIDTHS]
    assert dom.split("<title>")[1].split("</title>")[0] == ", ".join(wanted)
