"""A photo cache under killed processes and full disks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.photos import random_rgb, save_png
from uhd.data.cache import PhotoCache

PHOTOS = 24
PROGRAM = """
import resource, sys
from pathlib import Path
from uhd.data.cache import PhotoCache
from uhd.errors import DataError
photos, folder, limit = sorted(Path(sys.argv[1]).glob("*.png")), Path(sys.argv[2]), int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    PhotoCache(photos, directory=folder, progress=lambda done, total: print(done, flush=True))
except DataError as error:
    print("error:", error)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(PHOTOS):
        save_png(tmp_path / "photos" / f"{i:02d}.png", random_rgb(i))
    return tmp_path


def start(folder: Path, limit: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder / "photos"), str(folder / "cache"), str(limit)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def assert_usable(folder: Path) -> PhotoCache:
    cache = PhotoCache(sorted((folder / "photos").glob("*.png")), directory=folder / "cache")
    for seed, pixels in enumerate(cache):
        np.testing.assert_array_equal(pixels, random_rgb(seed))
    names = sorted(path.name for path in cache.folder.iterdir())
    assert len(names) == 2 and names[0] == "index.json" and names[1].startswith("pixels-")
    return cache


@pytest.mark.parametrize("moment", [1, 12, PHOTOS])
def test_killed_while_it_is_made(folder: Path, moment: int) -> None:
    process = start(folder)
    assert process.stdout is not None
    for _ in range(moment):
        process.stdout.readline()
    process.kill()
    process.communicate()
    assert_usable(folder)


def test_killed_while_it_is_renewed(folder: Path) -> None:
    assert_usable(folder)
    for i in range(10):
        path = folder / "photos" / f"{i:02d}.png"
        path.write_bytes(path.read_bytes() + b"more than before, IEND")
    process = start(folder)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    assert_usable(folder)


def test_full_disk(folder: Path) -> None:
    process = start(folder, limit=50_000)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "cannot write the photo cache (File too large); choose another cache folder" in output
    assert [p for p in (folder / "cache").rglob("*") if p.is_file() and p.suffix != ".lock"] == []
    assert_usable(folder)
