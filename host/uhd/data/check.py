"""What is wrong, or doubtful, with a folder of labelled pictures: everything at once, not the first thing only."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uhd.data.yolo import find_images, label_path, parse_label_line
from uhd.errors import DataError
from uhd.image.files import decode_rgb, read_file

#: Kinds that make a picture unusable. The others are worth a look.
ERRORS = ("picture", "label file", "label line")
#: Sides of a box, in pixels of the network input, that count as small and medium.
SIZE_EDGES = (4, 8, 16, 32)


@dataclass(frozen=True)
class Finding:
    """``kind``: one of ``ERRORS``, or class, duplicate box, duplicate picture, tiny box, orphan label, leak."""

    kind: str
    path: Path
    text: str
    line: int = 0

    @property
    def is_error(self) -> bool:
        """Whether training leaves the picture out because of it."""
        return self.kind in ERRORS

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else str(self.path)
        return f"{place}: {self.text}"


@dataclass
class Report:
    """Counts of a data set and its findings; ``usable`` are the pictures without errors."""

    pictures: int = 0
    negatives: int = 0
    boxes: Counter[int] = field(default_factory=Counter)
    sides: Counter[str] = field(default_factory=Counter)
    shapes: Counter[tuple[int, int]] = field(default_factory=Counter)
    usable: list[Path] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.is_error]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "pictures": self.pictures,
            "usable": len(self.usable),
            "negatives": self.negatives,
            "boxes": {str(label): count for label, count in sorted(self.boxes.items())},
            "box_sides_in_network_pixels": dict(self.sides),
            "picture_sizes": [[*size, count] for size, count in self.shapes.most_common(5)],
            "findings": [
                {"kind": f.kind, "path": str(f.path), "line": f.line, "text": f.text, "error": f.is_error}
                for f in self.findings
            ],
        }


@dataclass(frozen=True)
class _Look:
    """One picture: its digest, size (height, width) and what could not be read of it."""

    path: Path
    digest: str
    size: tuple[int, int]
    finding: Finding | None


def _look(path: Path) -> _Look:
    digest = ""
    try:
        data = read_file(path)
        digest = hashlib.sha256(data).hexdigest()
        height, width = decode_rgb(data, str(path)).shape[:2]
    except DataError as error:
        text = str(error).removeprefix(f"{path}: ").split("; ")[0]
        return _Look(path, digest, (0, 0), Finding("picture", path, text))
    return _Look(path, digest, (height, width), None)


def _size_name(side: float) -> str:
    for edge in SIZE_EDGES:
        if side < edge:
            return f"under {edge}"
    return f"{SIZE_EDGES[-1]} and more"


def check_dataset(
    path: Path,
    image_dir: Path | None = None,
    *,
    class_ids: Sequence[int] | None = None,
    against: Sequence[Path] = (),
    side: int = 64,
    threads: int = 4,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Open every picture and every label line of a folder or list file.

    ``class_ids``: classes that should occur; others are reported (``None``: all are fine). ``against``: other folders
    or lists (the validation split) whose pictures must not be here too. ``side``: the network's input, for the sizes
    of boxes. Raises ``DataError`` only where there are no pictures at all.
    """
    images = find_images(path, image_dir)
    report = Report(pictures=len(images))
    first: dict[str, Path] = {}
    others = _digests(against)
    with ThreadPoolExecutor(threads) as pool:
        for done, look in enumerate(pool.map(_look, images), start=1):
            found = [look.finding] if look.finding else []
            found += _check_labels(look.path, class_ids, side, report)
            if look.digest and look.finding is None:
                report.shapes[look.size] += 1
                if look.digest in others:
                    found.append(Finding("leak", look.path, f"is the same picture as {others[look.digest]}"))
                if first.setdefault(look.digest, look.path) != look.path:
                    found.append(
                        Finding("duplicate picture", look.path, f"is the same picture as {first[look.digest].name}")
                    )
            if not any(finding.is_error for finding in found):
                report.usable.append(look.path)
            report.findings += found
            progress(done, len(images))
    if path.is_dir():
        labels = {label_path(image) for image in images}
        report.findings += [
            Finding("orphan label", file, "belongs to no picture")
            for file in sorted(path.glob("*.txt"))
            if file not in labels and _looks_like_labels(file)
        ]
    return report


def _digests(against: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in against:
        for image in find_images(path):
            found[hashlib.sha256(read_file(image)).hexdigest()] = image
    return found


def _looks_like_labels(path: Path) -> bool:
    """True for a text whose every line starts as a label does; notes and lists beside the pictures are left alone."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        return all(len(line) >= 5 and all(map(math.isfinite, map(float, line[:5]))) for line in lines)
    except (OSError, ValueError):
        return False


def _check_labels(image: Path, class_ids: Sequence[int] | None, side: int, report: Report) -> list[Finding]:
    path = label_path(image)
    if not path.exists():
        return [Finding("label file", image, f"its label file {path.name} is missing (an empty one says: no objects)")]
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return [Finding("label file", path, "cannot be read as text")]
    found: list[Finding] = []
    seen: dict[tuple[float, ...], int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            label, *box = parse_label_line(line)
        except ValueError as error:
            found.append(Finding("label line", path, str(error), number))
            continue
        report.boxes[label] += 1
        shortest = min(box[2], box[3]) * side
        report.sides[_size_name(float(np.sqrt(box[2] * box[3])) * side)] += 1
        if class_ids is not None and label not in class_ids:
            found.append(Finding("class", path, f"class {label} is not among {list(class_ids)}", number))
        if shortest < 1:
            found.append(
                Finding("tiny box", path, f"its shorter side is {shortest:.2f} pixels of a {side}x{side} input", number)
            )
        earlier = seen.setdefault((label, *box), number)
        if earlier != number:
            found.append(Finding("duplicate box", path, f"is line {earlier} again", number))
    if not seen and not any(finding.is_error for finding in found):
        report.negatives += 1
    return found
