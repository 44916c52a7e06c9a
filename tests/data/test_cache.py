from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from support.photos import random_rgb, save_png
from uhd.data import cache as cache_module
from uhd.data.cache import PhotoCache, default_directory, shrink
from uhd.data.problems import Problem
from uhd.errors import ConfigError, DataError
from uhd.image.files import read_rgb


class Decoded:
    """Counts what a cache decodes when it is opened."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.calls.append((done, total))


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Five photos of different sizes, old enough to be believed."""
    paths = [save_png(tmp_path / "photos" / f"{i}.png", random_rgb(i, 20 + i, 31 + 2 * i)) for i in range(5)]
    for path in paths:
        os.utime(path, ns=(10**18, 10**18))
    return paths


def opened(photos: list[Path], tmp_path: Path, max_side: int | None = None) -> tuple[PhotoCache, int]:
    decoded = Decoded()
    return PhotoCache(photos, directory=tmp_path / "cache", max_side=max_side, progress=decoded), len(decoded.calls)


def assert_pixels(cache: PhotoCache, seeds: list[int]) -> None:
    assert len(cache) == len(seeds)
    for got, seed in zip(cache, seeds, strict=True):
        np.testing.assert_array_equal(got, random_rgb(seed, *got.shape[:2]))


def test_first_opening_decodes_and_the_second_does_not(photos: list[Path], tmp_path: Path) -> None:
    cache, count = opened(photos, tmp_path)
    assert count == 5
    assert_pixels(cache, [0, 1, 2, 3, 4])
    again, count = opened(photos, tmp_path)
    assert count == 0
    assert_pixels(again, [0, 1, 2, 3, 4])
    assert again.size(2) == (22, 35) and again[2].shape == (22, 35, 3)
    assert not again[2].flags.writeable
    assert [a.shape for a in again[1:3]] == [(21, 33, 3), (22, 35, 3)]
    assert cache.images == photos


def test_order_subset_and_repeats_share_one_cache(photos: list[Path], tmp_path: Path) -> None:
    opened(photos, tmp_path)
    cache, count = opened([photos[3], photos[1], photos[3]], tmp_path)
    assert count == 0
    assert_pixels(cache, [3, 1, 3])
    everything, count = opened(photos, tmp_path)
    assert count == 0
    assert_pixels(everything, [0, 1, 2, 3, 4])


def test_added_changed_and_removed_photos(photos: list[Path], tmp_path: Path) -> None:
    opened(photos, tmp_path)
    save_png(photos[1], random_rgb(11, 21, 33))
    added = save_png(photos[0].with_name("new.png"), random_rgb(12))
    photos[4].unlink()
    cache, count = opened([*photos[:4], added], tmp_path)
    assert count == 2
    assert_pixels(cache, [0, 11, 2, 3, 12])
    index = (cache.folder / "index.json").read_text()
    assert str(photos[4]) not in index and str(added) in index
    assert len(list(cache.folder.glob("pixels-*.bin"))) == 1
    with pytest.raises(DataError, match=r"4\.png: cannot read the picture \(No such file"):
        opened(photos, tmp_path)


def test_changed_content_of_equal_size_and_forged_time(photos: list[Path], tmp_path: Path) -> None:
    other = save_png(tmp_path / "other.png", random_rgb(99, 20, 31)).read_bytes()
    size = 1000 + max(len(other), photos[0].stat().st_size)
    photos[0].write_bytes(photos[0].read_bytes() + b"IEND".rjust(size - photos[0].stat().st_size, b"\0"))
    os.utime(photos[0], ns=(10**18, 10**18))
    opened(photos, tmp_path)
    photos[0].write_bytes(other + b"IEND".rjust(size - len(other), b"\0"))
    os.utime(photos[0], ns=(10**18, 10**18))
    cache, count = opened(photos, tmp_path)
    assert photos[0].stat().st_size == size
    assert count == 1
    assert_pixels(cache, [99, 1, 2, 3, 4])


def test_a_new_time_with_old_content_is_not_decoded_again(photos: list[Path], tmp_path: Path) -> None:
    opened(photos, tmp_path)
    os.utime(photos[2], ns=(10**18, 10**18 + 12345))
    cache, count = opened(photos, tmp_path)
    assert count == 0
    assert_pixels(cache, [0, 1, 2, 3, 4])


def test_unchanged_files_are_not_read_once_their_times_are_old(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(photos, tmp_path)
    now = time.time_ns()
    monkeypatch.setattr(cache_module.time, "time_ns", lambda: now + 10**12)
    opened(photos, tmp_path)  # still too fresh for its own record: hashed once more, with a later record
    monkeypatch.setattr(cache_module, "read_file", lambda path: pytest.fail(f"read {path}"))
    cache, count = opened(photos, tmp_path)
    assert count == 0
    assert_pixels(cache, [0, 1, 2, 3, 4])


def test_max_side_shrinks_but_never_enlarges(photos: list[Path], tmp_path: Path) -> None:
    cache, _ = opened(photos, tmp_path, max_side=33)
    assert [c.shape[:2] for c in cache] == [(20, 31), (21, 33), (21, 33), (21, 33), (20, 33)]
    assert cache.size(4) == (24, 39)
    full, count = opened(photos, tmp_path)
    assert count == 5 and full.folder != cache.folder
    wide = np.zeros((1, 1000, 3), np.uint8)
    assert shrink(wide, 10).shape == (1, 10, 3)
    with pytest.raises(ConfigError, match="max_side"):
        opened(photos, tmp_path, max_side=0)


@pytest.mark.parametrize("damage", ["flip", "truncate", "index", "index flip", "no pixels", "other format"])
def test_a_damaged_cache_is_made_anew(photos: list[Path], tmp_path: Path, damage: str) -> None:
    cache, _ = opened(photos, tmp_path)
    index = cache.folder / "index.json"
    (pixels,) = cache.folder.glob("pixels-*.bin")
    del cache
    content = bytearray(pixels.read_bytes())
    if damage == "flip":
        content[100] ^= 1
        pixels.write_bytes(content)
    elif damage == "truncate":
        pixels.write_bytes(content[:-1])
    elif damage == "index":
        index.write_text("{")
    elif damage == "index flip":
        text = index.read_text()
        index.write_text(text.replace('"offset": 0', '"offset": 3', 1))
        assert index.read_text() != text
    elif damage == "other format":
        digest, body = index.read_text().splitlines()
        body = json.dumps({**json.loads(body), "format": 99})
        index.write_text(f"{cache_module.sha256_bytes(body.encode())}\n{body}\n")
    else:
        pixels.unlink()
    cache, count = opened(photos, tmp_path)
    assert_pixels(cache, [0, 1, 2, 3, 4])
    assert_pixels(cache, [0, 1, 2, 3, 4])
    if damage == "flip":  # noticed only when the pixels were used
        assert count == 0
        cache, count = opened(photos, tmp_path)
    assert count == 5
    assert_pixels(cache, [0, 1, 2, 3, 4])


def test_a_broken_photo_is_named_and_nothing_is_left(photos: list[Path], tmp_path: Path) -> None:
    photos[3].write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50)
    with pytest.raises(DataError, match=r"3\.png"):
        opened(photos, tmp_path)
    assert [p for p in (tmp_path / "cache").rglob("*") if p.suffix != ".lock" and p.is_file()] == []


def test_a_broken_photo_later_keeps_the_old_cache(photos: list[Path], tmp_path: Path) -> None:
    cache, _ = opened(photos, tmp_path)
    before = {p: p.read_bytes() for p in cache.folder.iterdir()}
    bad = photos[0].with_name("bad.jpg")
    bad.write_bytes(b"")
    with pytest.raises(DataError, match=r"bad\.jpg: the picture file is empty"):
        opened([*photos, bad], tmp_path)
    assert {p: p.read_bytes() for p in cache.folder.iterdir()} == before


def test_a_folder_that_cannot_be_written(photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    with pytest.raises(DataError, match="cannot write the photo cache"):
        opened(photos, tmp_path)


def test_survives_pickling_and_replacement(photos: list[Path], tmp_path: Path) -> None:
    cache, _ = opened(photos, tmp_path)
    clone = pickle.loads(pickle.dumps(cache))
    assert_pixels(clone, [0, 1, 2, 3, 4])
    save_png(photos[1], random_rgb(11, 21, 33))
    opened(photos, tmp_path)  # replaces the pixel file under the first cache
    assert_pixels(cache, [0, 1, 2, 3, 4])


def test_two_processes_at_once(photos: list[Path], tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from uhd.data.cache import PhotoCache\n"
        "photos = sorted(Path(sys.argv[1]).glob('*.png'))\n"
        "print(sum(int(p.sum()) for p in PhotoCache(photos, directory=Path(sys.argv[2]))))"
    )
    command = [sys.executable, "-c", program, str(photos[0].parent), str(tmp_path / "cache")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    expected = sum(int(random_rgb(i, 20 + i, 31 + 2 * i).sum()) for i in range(5))
    assert [int(process.communicate(timeout=60)[0]) for process in running] == [expected] * 3


def test_default_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "uhd"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_directory() == tmp_path / "home" / ".cache" / "uhd"


def test_nothing_asked_for(tmp_path: Path) -> None:
    assert list(PhotoCache([], directory=tmp_path)) == []


def test_broken_photos_are_left_out_told_and_remembered(photos: list[Path], tmp_path: Path) -> None:
    photos[1].write_bytes(photos[1].read_bytes()[:40])
    photos[3].write_bytes(b"")
    missing = photos[0].with_name("missing.png")
    for attempt in range(3):
        problems: list[Problem] = []
        decoded = Decoded()
        asked = [*photos[:3], missing, *photos[3:]]
        cache = PhotoCache(asked, directory=tmp_path / "cache", progress=decoded, problems=problems)
        assert cache.images == [photos[0], photos[2], photos[4]]
        assert [p.picture for p in problems] == [photos[1], missing, photos[3]]
        assert "cut off" in problems[0].reason and "missing.png" in problems[1].reason and "empty" in problems[2].reason
        for image, pixels in zip(cache.images, cache, strict=True):
            assert np.array_equal(pixels, read_rgb(image))
        if attempt:
            assert len(decoded.calls) == 1  # only the missing one is tried again
        for path in photos:
            os.utime(path, ns=(10**18, 10**18))
    with pytest.raises(DataError, match="cut off"):
        PhotoCache(photos, directory=tmp_path / "cache")
    save_png(photos[1], random_rgb(77, 9, 9))
    assert len(PhotoCache(photos[:3], directory=tmp_path / "cache", problems=[])) == 3


def test_no_stale_pixel_is_ever_served(photos: list[Path], tmp_path: Path) -> None:
    """Pictures change in every way a file can, between openings; each opening shows what the files hold."""
    rng = np.random.default_rng(5)
    for round_ in range(25):
        victim = photos[int(rng.integers(len(photos)))]
        rgb = random_rgb(1000 + round_, 20, 31)
        how = round_ % 4
        if how == 0:
            save_png(victim, rgb)
        elif how == 1:  # another file moved into its place, with the times of the old one
            stat = victim.stat()
            other = save_png(tmp_path / "other.png", rgb)
            os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            other.replace(victim)
        elif how == 2:  # one byte of pixels in place: equal size, forged time
            stat = victim.stat()
            cv2.imwrite(str(victim), rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0])
            os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        else:
            victim.unlink()
            save_png(victim, rgb)
        cache = PhotoCache(photos, directory=tmp_path / "cache")
        for image, pixels in zip(photos, cache, strict=True):
            assert np.array_equal(pixels, read_rgb(image)), f"stale pixels in round {round_}"
