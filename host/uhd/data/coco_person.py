"""From a COCO download (``instances_*.json`` and its pictures) to a folder of pictures with YOLO labels.

Format of the annotations: https://cocodataset.org/#format-data (``bbox`` is x, y, width, height in pixels of the
picture; ``iscrowd`` marks a box round people that were not told apart).
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from uhd.errors import ConfigError, DataError

Crowds = Literal["auto", "skip", "drop", "box"]
Link = Literal["symlink", "hardlink", "copy"]

#: ``auto``: a picture whose crowd boxes cover more than this share is left out; its people have no boxes to learn.
CROWD_COVER = 0.05


@dataclass(frozen=True)
class CocoOptions:
    """``crowds``: what becomes of crowd boxes: ``skip`` leaves the box out, ``drop`` the whole picture, ``box`` keeps
    it as a person, ``auto`` drops pictures that they cover by over 5 % and skips the others.

    ``min_pixels``: shortest side of a box, in the picture's pixels, to be kept. ``negatives``: pictures without any
    person for every picture with one (at most; chosen by chance from ``seed``). ``limit``: pictures with persons at
    most (0: all).
    """

    category: str = "person"
    crowds: Crowds = "auto"
    min_pixels: float = 1.0
    negatives: float = 0.25
    limit: int = 0
    seed: int = 42
    link: Link = "symlink"


@dataclass
class CocoCounts:
    """What was written and what was left out."""

    pictures: int = 0
    with_persons: int = 0
    negatives: int = 0
    boxes: int = 0
    crowd_boxes_skipped: int = 0
    crowd_boxes_kept: int = 0
    crowd_pictures_dropped: int = 0
    small_boxes_skipped: int = 0
    invalid_boxes_skipped: int = 0
    pictures_missing: int = 0
    missing: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; of the missing pictures the first ten names."""
        return {**asdict(self), "missing": self.missing[:10]}


@dataclass(frozen=True)
class _Picture:
    name: str
    lines: tuple[str, ...]


def read_annotations(path: Path) -> dict[str, Any]:
    """The annotation file, its three lists present. Raises ``DataError`` for anything else."""
    try:
        with path.open(encoding="utf-8") as stream:
            content = json.load(stream)
    except OSError as error:
        raise DataError(f"{path}: cannot read the annotations ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{path}: is no JSON ({error})", hint="unpack annotations_trainval2017.zip again") from None
    parts = ("images", "annotations", "categories")
    missing = [part for part in parts if not isinstance(content, dict) or not isinstance(content.get(part), list)]
    if missing:
        hint = "an instances_*.json is wanted, not captions or panoptic ones"
        raise DataError(f"{path}: has no list {missing[0]!r}", hint=hint)
    return dict(content)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def plan(content: Mapping[str, Any], options: CocoOptions, source: str, counts: CocoCounts) -> list[_Picture]:
    """Which pictures get which label lines, by file name; ``counts`` is filled. Raises ``DataError``."""
    ids = [c["id"] for c in content["categories"] if c.get("name") == options.category]
    if not ids:
        names = ", ".join(sorted(str(c.get("name")) for c in content["categories"])[:12])
        raise ConfigError(f"{source}: has no category {options.category!r}", hint=f"it has: {names}")
    boxes: dict[Any, list[tuple[list[float], bool]]] = {}
    try:
        for entry in content["annotations"]:
            if entry["category_id"] in ids:
                box = [_number(value) for value in entry["bbox"]]
                boxes.setdefault(entry["image_id"], []).append((box, bool(entry.get("iscrowd", 0))))
        found: list[_Picture] = []
        empty: list[_Picture] = []
        for image in sorted(content["images"], key=lambda image: str(image["file_name"])):
            name, size = str(image["file_name"]), (_number(image["width"]), _number(image["height"]))
            given = boxes.get(image["id"], [])
            lines = _label_lines(given, size, options, counts)
            if lines is None:
                counts.crowd_pictures_dropped += 1
            elif lines:
                found.append(_Picture(name, tuple(lines)))
            elif not given:  # a picture whose persons were all skipped shows people: it is no negative
                empty.append(_Picture(name, ()))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{source}: a malformed entry ({type(error).__name__}: {error})") from None
    rng = random.Random(options.seed)
    if options.limit and len(found) > options.limit:
        found = sorted(rng.sample(found, options.limit), key=lambda picture: picture.name)
    wanted = min(len(empty), round(options.negatives * len(found)))
    return sorted(found + rng.sample(empty, wanted), key=lambda picture: picture.name)


def _label_lines(
    given: Sequence[tuple[list[float], bool]], size: tuple[float, float], options: CocoOptions, counts: CocoCounts
) -> list[str] | None:
    """Label lines of a picture; ``None`` to leave it out because of a crowd."""
    width, height = size
    crowds = [box for box, crowd in given if crowd]
    cover = sum(max(0.0, w) * max(0.0, h) for _, _, w, h in crowds) / (width * height)
    if crowds and (options.crowds == "drop" or (options.crowds == "auto" and cover > CROWD_COVER)):
        return None
    lines = []
    for (x, y, w, h), crowd in given:
        if crowd and options.crowds != "box":
            counts.crowd_boxes_skipped += 1
            continue
        x0, x1 = max(0.0, x), min(width, x + w)
        y0, y1 = max(0.0, y), min(height, y + h)
        if not (x1 > x0 and y1 > y0):  # also false for what is not a number
            counts.invalid_boxes_skipped += 1
        elif min(x1 - x0, y1 - y0) < options.min_pixels:
            counts.small_boxes_skipped += 1
        else:
            counts.crowd_boxes_kept += crowd
            values = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
            lines.append("0 " + " ".join(f"{value:.6f}" for value in values))
    return lines


def convert(
    annotations: Path,
    images: Path,
    output: Path,
    options: CocoOptions | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CocoCounts:
    """Fill ``output`` (which must not exist or be empty) with pictures and their label files.

    Written beside it first and renamed at the end, so nothing half-made is left. Raises ``DataError`` for unreadable
    annotations, a wrong picture folder and an ``output`` in use.
    """
    options = options or CocoOptions()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DataError(f"{output}: is not empty", hint="choose a new folder")
    if not images.is_dir():
        raise DataError(f"{images}: no such folder", hint="unpack train2017.zip or val2017.zip there")
    counts = CocoCounts()
    pictures = plan(read_annotations(annotations), options, str(annotations), counts)
    if not pictures:
        raise DataError(
            f"{annotations}: no picture with a {options.category} is left", hint="see --crowds and --min-pixels"
        )
    temporary = output.with_name(f".{output.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for done, picture in enumerate(pictures, start=1):
            _write(picture, images, temporary, options.link, counts)
            progress(done, len(pictures))
        if not counts.pictures:
            raise DataError(
                f"{images}: holds none of the {len(pictures)} pictures that {annotations.name} names",
                hint="give the folder of the pictures that belong to these annotations",
            )
        temporary.replace(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return counts


def _write(picture: _Picture, images: Path, folder: Path, link: Link, counts: CocoCounts) -> None:
    source = images / picture.name
    name = Path(picture.name).name
    if not source.is_file():
        source = images / name
    if not source.is_file():
        counts.pictures_missing += 1
        counts.missing.append(picture.name)
        return
    target = folder / name
    if target.exists():
        raise DataError(f"{picture.name}: two pictures of this name", hint="convert their folders one by one")
    if link == "symlink":
        target.symlink_to(source.resolve())
    elif link == "hardlink":
        os.link(source.resolve(), target)
    else:
        shutil.copyfile(source, target)
    target.with_suffix(".txt").write_text("".join(f"{line}\n" for line in picture.lines))
    counts.pictures += 1
    counts.with_persons += bool(picture.lines)
    counts.negatives += not picture.lines
    counts.boxes += len(picture.lines)
