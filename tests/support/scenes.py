"""Photo stores of generated scenes, for tests that train."""

from __future__ import annotations

from pathlib import Path

import cv2

from uhd.data.synthetic import make_scene
from uhd.train.photos import PhotoStore


def scene_store(count: int, *, first_seed: int = 0, size: tuple[int, int] = (96, 128), people: int = 2) -> PhotoStore:
    """``count`` scenes as a store."""
    return PhotoStore.build(make_scene(first_seed + i, size, max_people=people) for i in range(count))


def write_scenes(folder: Path, count: int, *, first_seed: int = 0, size: tuple[int, int] = (96, 128)) -> Path:
    """``count`` scenes as PNG files with label files; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        rgb, boxes = make_scene(first_seed + i, size, max_people=2)
        cv2.imwrite(str(folder / f"{i:03d}.png"), rgb[:, :, ::-1])
        lines = [f"{int(c)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, x, y, w, h in boxes.tolist()]
        (folder / f"{i:03d}.txt").write_text("".join(lines))
    return folder
