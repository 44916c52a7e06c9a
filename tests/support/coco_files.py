"""A tiny COCO download: pictures and an instances file, for tests of its conversion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.photos import random_rgb, save_png

PERSON, DOG = 1, 18


def coco_content(
    pictures: list[tuple[str, int, int]], boxes: list[tuple[int, list[float], int, int]]
) -> dict[str, Any]:
    """``pictures``: (file name, height, width), numbered from 1; ``boxes``: (picture, bbox, category, iscrowd)."""
    return {
        "images": [{"id": i, "file_name": n, "height": h, "width": w} for i, (n, h, w) in enumerate(pictures, start=1)],
        "annotations": [
            {"id": i, "image_id": p, "bbox": b, "category_id": c, "iscrowd": crowd, "area": b[2] * b[3]}
            for i, (p, b, c, crowd) in enumerate(boxes, start=1)
        ],
        "categories": [{"id": PERSON, "name": "person"}, {"id": DOG, "name": "dog"}],
    }


def write_coco(folder: Path, content: dict[str, Any]) -> tuple[Path, Path]:
    """The annotation file and the folder of (random) pictures."""
    for number, image in enumerate(content["images"]):
        save_png(folder / "pictures" / image["file_name"], random_rgb(number, image["height"], image["width"]))
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path, folder / "pictures"
