"""A folder of generated scenes with YOLO labels, for commands that want photos."""

from __future__ import annotations

from pathlib import Path

import cv2

from uhd.data.synthetic import make_scene


def write_scenes(folder: Path, count: int, *, size: tuple[int, int] = (120, 160)) -> Path:
    """``count`` pictures ``scene_000.png`` ... with their label files; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        rgb, boxes = make_scene(seed, size)
        cv2.imwrite(str(folder / f"scene_{seed:03d}.png"), rgb[..., ::-1])
        lines = (" ".join(f"{value:.6f}" for value in box[1:]) for box in boxes)
        (folder / f"scene_{seed:03d}.txt").write_text("".join(f"0 {line}\n" for line in lines))
    return folder
