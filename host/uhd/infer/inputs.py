"""What pictures and videos a user means: a folder, a file, or a pattern."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uhd.errors import DataError
from uhd.image.files import IMAGE_SUFFIXES, is_image_name, list_images, read_rgb

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


@dataclass(frozen=True)
class Photo:
    """A picture to look at. ``name`` is that of a file with boxes; unique within a run."""

    name: str
    path: Path | None = None
    picture: NDArray[np.uint8] | None = None

    def read(self) -> NDArray[np.uint8]:
        """RGB uint8 [H,W,3]. Raises ``DataError`` for a file that cannot be read."""
        if self.picture is not None:
            return self.picture
        assert self.path is not None
        return read_rgb(self.path)


def is_video_name(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_files(text: str) -> list[Path]:
    """The files that a folder, a file's name or a pattern with ``*``, ``?``, ``**`` stands for: pictures or videos.

    Of a folder its pictures, or else its videos, by name. Raises ``DataError`` where there are none.
    """
    path = Path(text)
    if path.is_dir():
        found = list_images(path) or sorted(p for p in path.iterdir() if is_video_name(p))
        if not found:
            raise DataError(
                f"{path}: no pictures in this folder",
                hint=f"it needs files ending in {', '.join(IMAGE_SUFFIXES)}; for folders in it, give '{path}/**'",
            )
        return found
    if path.is_file():
        return [path]
    if glob.has_magic(text):
        names = sorted(Path(name) for name in glob.glob(text, recursive=True))  # noqa: PTH207 - patterns may be absolute
        found = [p for p in names if p.is_file() and (is_image_name(p) or is_video_name(p))]
        if not found:
            raise DataError(f"{text}: no picture or video matches this pattern", hint="put it in quotes, and check it")
        if len({is_video_name(p) for p in found}) > 1:
            raise DataError(f"{text}: matches pictures and videos", hint="give one kind at a time, as in '*.jpg'")
        return found
    raise DataError(f"{path}: no such folder, picture or video", hint="check the path")


def photos_of(paths: Sequence[Path]) -> list[Photo]:
    """Photos with unique names: that of the file, with its folder's in front or a number behind where two are alike."""
    counts = Counter(path.name.lower() for path in paths)
    taken: set[str] = set()
    photos = []
    for path in paths:
        name = path.name if counts[path.name.lower()] == 1 else f"{path.parent.name}_{path.name}"
        stem, number = Path(name).stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}_{number}{path.suffix}"
        taken.add(name.lower())
        photos.append(Photo(name, path))
    return photos
