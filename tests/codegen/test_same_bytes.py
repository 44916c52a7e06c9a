"""The same model gives the same bytes in another language, time zone, folder and with other string hashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from support.foreign import foreign_environment
from support.same_bytes import written
from support.shared import ROOT

PROGRAM = ROOT / "tests" / "support" / "same_bytes.py"


def test_exports_and_components(tmp_path: Path) -> None:
    """Quantized files have their own test (tests/quantize/test_adapter.py)."""
    here, there = tmp_path / "here", tmp_path / "sonst wo"
    there.mkdir()
    reach = os.pathsep.join([str(ROOT / "host"), str(ROOT / "tests")])
    environment = {**os.environ, **foreign_environment(tmp_path), "PYTHONPATH": reach}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "."], capture_output=True, text=True, cwd=there, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["point"] == ",", "the other language did not take effect"
    digests = written(here)
    assert len(digests) >= 8 and {"parts", "raw", "post", "manifest.json"} <= set(digests)
    assert said["digests"] == digests
