"""What preprocessing and boxes cost on the emulated rv32imafc, counted; and that it computes what the host does."""

from __future__ import annotations

import numpy as np
import pytest

from support.core_bench import (
    CANDIDATES,
    Scene,
    candidate_rows,
    crowd,
    network_scene,
    run,
    shipped,
    shipped_component,
    shipped_manifest,
)
from support.emulated import need_emulator
from uhd.device.runtime_bench import checksum, input_bytes
from uhd.device.twin import Twin
from uhd.image.rgb565 import rgb565_to_network
from uhd.image.yuyv import camera_to_network

pytestmark = pytest.mark.emu

PICTURE_LIMIT = 40_000  # instructions: a YUYV picture of 240x240, 320x240 or 640x480 to int8 integers, copied or not
OTHER_SIZE_LIMIT = 115_000  # the same for a width that has no function of its own
RGB565_LIMIT = 230_000
DETECT_LIMIT = 60_000  # decode and NMS with 100 candidates above the threshold

Lines = list[tuple[str, int]]


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Twin:
    need_emulator()
    return Twin(shipped_component(tmp_path_factory.mktemp("model") / "r"))


@pytest.fixture(scope="module")
def scenes(twin: Twin) -> dict[str, Scene]:
    """Variant R's own outputs on generated scenes full of people, and crowds made up candidate by candidate."""
    made = {f"network {seed}": network_scene(twin, seed) for seed in (1, 2, 3)}
    manifest = shipped_manifest(shipped("R"))
    return made | {f"crowd of {people}": crowd(twin, manifest, people, people) for people in (8, 16)}


@pytest.fixture(scope="module")
def lines(twin: Twin, scenes: dict[str, Scene], tmp_path_factory: pytest.TempPathFactory) -> Lines:
    folder = tmp_path_factory.mktemp("bench")
    return run(shipped_component(folder / "r"), list(scenes.values()), folder)


def test_pictures(lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {name: value for name, value in lines if name.startswith("picture") and "_sum" not in name}
    with capsys.disabled():
        print("".join(f"\n  {name} {value:,} instructions (emulated)" for name, value in counts.items()))
    for size in ("240x240", "320x240", "640x480"):
        for copied in ("", "_copy"):
            assert 16_384 < counts[f"picture_yuyv_{size}_int8{copied}"] <= PICTURE_LIMIT
    assert counts["picture_yuyv_160x120_int8_copy"] <= OTHER_SIZE_LIMIT
    assert max(value for name, value in counts.items() if "rgb565" in name) <= RGB565_LIMIT


def test_pictures_equal_the_host(lines: Lines) -> None:
    """The same bytes through the host's functions and the model's table."""
    found, frame = dict(lines), input_bytes(2 * 640 * 480)
    half = np.minimum((np.arange(256) + 1) // 2, 127)
    for width, height in ((240, 240), (320, 240), (640, 480), (160, 120)):
        network = camera_to_network(frame, width, height)
        integers = checksum([half[network].astype(np.int8)])
        name = f"picture_yuyv_{width}x{height}_int8"
        assert found[f"{name}_sum"] == found[f"{name}_copy_sum"] == integers
        assert found[f"{name}_copy_sum_copied"] == checksum([network])
    wide = half[camera_to_network(frame, 240, 240)].astype(np.int16)
    assert found["picture_yuyv_240x240_int16_copy_sum"] == checksum([wide])
    for order, big in (("le", False), ("be", True)):
        network = rgb565_to_network(frame, 240, 240, big_endian=big)
        name = f"picture_rgb565{order}_240x240_int8" + ("" if big else "_copy")
        assert found[f"{name}_sum"] == checksum([half[network].astype(np.int8)])


def test_boxes(twin: Twin, lines: Lines, scenes: dict[str, Scene], capsys: pytest.CaptureFixture[str]) -> None:
    table = {
        key: [value for name, value in lines if name == key]
        for key in ("decode", "suppress", "candidates", "boxes", "rows_sum")
    }
    counts = zip(scenes, *(table[k] for k in ("decode", "suppress", "candidates", "boxes")), strict=True)
    with capsys.disabled():
        for name, decode, suppress, candidates, boxes in counts:
            total = f"{decode:,} + {suppress:,} = {decode + suppress:,} instructions (emulated)"
            print(f"\n  {name}: {candidates} candidates, {boxes} boxes: {total}", end="")
    for i, scene in enumerate(scenes.values()):
        rows, candidates = candidate_rows(twin, scene.outputs, scene.threshold, 32768, CANDIDATES)
        assert table["candidates"][i] == candidates and CANDIDATES <= candidates <= CANDIDATES + 10
        assert table["boxes"][i] == len(rows) > 5
        total = 0
        for row in rows:
            total = (total * 31 + checksum([row.astype(np.uint32)])) & 0xFFFFFFFF
        assert table["rows_sum"][i] == total, "the emulated rows are others than the host's"
        assert table["decode"][i] + table["suppress"][i] <= DETECT_LIMIT
