"""Data sets in YOLO text form: one ``.txt`` a picture, lines ``class cx cy w h`` normalised to it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uhd.data.problems import Problem
from uhd.errors import ConfigError, DataError
from uhd.image.files import is_image_name, list_images

TOLERANCE = 1e-3
"""How far a coordinate may lie outside 0..1: rounding by label tools. What lies within is clamped to 0..1."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture and its boxes."""

    image: Path
    boxes: NDArray[np.float32]
    """[N,5]: class, cx, cy, w, h, normalised to the picture; N = 0 for a picture without objects."""


def parse_label_line(line: str) -> tuple[int, float, float, float, float]:
    """One label line. More than five fields are allowed, the rest is ignored. Raises ``ValueError`` saying why not."""
    fields = line.split()
    if len(fields) < 5:
        raise ValueError(f"{len(fields)} fields, expected: class cx cy w h")
    values = []
    for name, field in zip(("class", "cx", "cy", "w", "h"), fields, strict=False):
        try:
            values.append(float(field))
        except ValueError:
            raise ValueError(f"{name} is not a number: {field[:40]!r}") from None
        if not math.isfinite(values[-1]):
            raise ValueError(f"{name} is not finite: {field}")
    if values[0] != int(values[0]) or values[0] < 0:
        raise ValueError(f"class must be a whole number from 0, not {fields[0]}")
    for name, value, field in zip(("cx", "cy", "w", "h"), values[1:], fields[1:], strict=False):
        if not -TOLERANCE <= value <= 1 + TOLERANCE:
            raise ValueError(f"{name} = {field} is outside 0..1 (coordinates are fractions of the picture)")
    cx, cy, w, h = (min(max(value, 0.0), 1.0) for value in values[1:])
    if w <= 0 or h <= 0:
        raise ValueError(f"the box has no area: w = {fields[3]}, h = {fields[4]}")
    return int(values[0]), cx, cy, w, h


def read_labels(path: Path, class_ids: Sequence[int] | None = (0,)) -> NDArray[np.float32]:
    """The boxes of one label file, [N,5].

    Only classes in ``class_ids`` are kept; they are renumbered to their place in it (``None`` keeps all, unchanged).
    Raises ``DataError`` naming file and line for anything that is not a label.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot read the labels ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file", hint="labels are lines of: class cx cy w h") from None
    order = None if class_ids is None else {class_id: place for place, class_id in enumerate(class_ids)}
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            label, *box = parse_label_line(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: {error}", hint="correct or remove this line") from None
        place = label if order is None else order.get(label)
        if place is not None:
            rows.append((place, *box))
    return np.array(rows, dtype=np.float32).reshape(-1, 5)


def label_path(image: Path) -> Path:
    """Where the labels of ``image`` are: beside it, or in ``labels/`` where the picture is in ``images/``."""
    beside = image.with_suffix(".txt")
    if "images" in image.parts and not beside.exists():
        place = len(image.parts) - 1 - image.parts[::-1].index("images")
        twin = Path(*image.parts[:place], "labels", *image.parts[place + 1 :]).with_suffix(".txt")
        if twin.exists():
            return twin
    return beside


def read_list(path: Path, image_dir: Path | None = None) -> list[Path]:
    """The pictures that a list file names, one a line, in its order; blank lines are skipped.

    An entry is absolute, or is tried below the list's folder, below ``image_dir``, as a bare name in ``image_dir``,
    and below the working directory. Raises ``DataError`` naming file and line where none of them is a file.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot read the list ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file", hint="a list names one picture a line") from None
    images = []
    for number, line in enumerate(lines, start=1):
        entry = line.strip()
        if not entry:
            continue
        places = [path.parent / entry]
        if image_dir is not None:
            places += [image_dir / entry, image_dir / Path(entry).name]
        places.append(Path(entry))
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise DataError(f"{path}:{number}: no such picture: {entry}", hint="correct the path or remove the line")
        images.append(found)
    return images


def find_images(path: Path, image_dir: Path | None = None) -> list[Path]:
    """Pictures of a folder (sorted by name, not recursive) or of a list file (in its order).

    Raises ``DataError`` when there is none.
    """
    if path.is_dir():
        images = list_images(path)
    elif is_image_name(path):
        raise DataError(f"{path}: a folder or a list file is wanted, this is a picture")
    else:
        images = read_list(path, image_dir)
    if not images:
        raise DataError(f"{path}: no pictures here", hint="expected .jpg, .jpeg, .png, .bmp or .webp")
    return images


def load_split(
    path: Path | str,
    image_dir: Path | str | None = None,
    class_ids: Sequence[int] | None = (0,),
    *,
    unlabelled_as_negative: bool = False,
    problems: list[Problem] | None = None,
) -> list[Sample]:
    """All samples of a folder or list file, pictures without objects included.

    A picture without objects has an empty label file; one without a label file is an error, unless
    ``unlabelled_as_negative``. Raises ``DataError`` naming file (and line) for anything missing or malformed, and
    ``ConfigError`` for repeated ``class_ids``. Given a list of ``problems``, a picture with such labels is left out
    (without its other lines: what they do not name would be learnt as background) and the list tells. Pictures are
    not opened.
    """
    if class_ids is not None and (len(set(class_ids)) != len(class_ids) or not class_ids):
        raise ConfigError(f"class ids must be different numbers, at least one: {list(class_ids)}")
    samples = []
    for image in find_images(Path(path), None if image_dir is None else Path(image_dir)):
        try:
            samples.append(Sample(image, _boxes_of(image, class_ids, unlabelled_as_negative)))
        except DataError as error:
            if problems is None:
                raise
            problems.append(Problem(image, str(error)))
    return samples


def _boxes_of(image: Path, class_ids: Sequence[int] | None, unlabelled_as_negative: bool) -> NDArray[np.float32]:
    labels = label_path(image)
    if labels.exists():
        return read_labels(labels, class_ids)
    if unlabelled_as_negative:
        return np.empty((0, 5), dtype=np.float32)
    raise DataError(
        f"{image}: its label file {labels.name} is missing", hint="an empty file says: no objects in the picture"
    )


def split_samples(
    samples: Sequence[Sample], train: float = 0.8, val: float = 0.2, seed: int = 42
) -> tuple[list[Sample], list[Sample]]:
    """Divide samples by chance, the same way for the same order and seed: ``train`` and ``val`` are fractions.

    Raises ``ConfigError`` when they do not fit or a part would be empty.
    """
    if not (train > 0 and val > 0 and train + val <= 1 + 1e-9):
        raise ConfigError(f"train and val fractions must be over 0 and sum to at most 1, not {train} and {val}")
    shuffled = list(samples)
    random.Random(seed).shuffle(shuffled)
    first, second = int(len(shuffled) * train), int(len(shuffled) * val)
    if not first or not second:
        raise ConfigError(f"{len(shuffled)} samples are too few for a split of {train} and {val}")
    return shuffled[:first], shuffled[first : first + second]
