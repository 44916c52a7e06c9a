"""What a run keeps of its last evaluation: boxes, detections, curve, and the photos that went worst."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.detect.coco import ClassResult, GroundTruth, MapResult, SizeBucket, evaluate, size_buckets
from uhd.detect.coco_curve import Curve, Matches, curve, match
from uhd.errors import DataError
from uhd.files import atomic_path, write_text

ARRAYS = "evaluation.npz"
SUMMARY = "evaluation.json"
FORMAT = 1
#: How many of the worst photos a report shows, and the longest side at which it keeps them.
WORST = 32
THUMBNAIL = 320

MEASURE = (
    "The loss of a photo is the sum of √(w·h) over the boxes that were missed and of score × √(w·h) over the false "
    "alarms, w and h as fractions of the photo, at IoU 0.5 and the score threshold of the best F1: large people "
    "missed and large, confident false alarms come first."
)
"""The measure of ``photo_losses``, as the report explains it."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation over the validation photos, in their order."""

    names: tuple[str, ...]
    class_names: tuple[str, ...]
    truth: tuple[GroundTruth, ...]
    rows: tuple[NDArray[np.float32], ...]
    """Per photo [n,6]: score, class, cx, cy, w, h."""
    result: MapResult
    buckets: tuple[SizeBucket, ...]
    matches: Matches
    """At IoU 0.5."""
    curve: Curve
    losses: NDArray[np.float64]
    """[N], see ``MEASURE``."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """What the caller says about it: epoch, name of the data; JSON values."""
    pictures: Mapping[int, bytes] = field(default_factory=dict)
    """JPEG of the worst photos, by their number; filled by ``save``."""

    @property
    def threshold(self) -> float:
        """The score threshold of the best F1; 0 where nothing was found."""
        best = self.curve.best
        return 0.0 if best is None else float(self.curve.scores[best])

    @property
    def worst(self) -> list[int]:
        """Numbers of the worst photos, worst first; photos without any loss are left out."""
        order = np.argsort(-self.losses, kind="stable")[:WORST]
        return [int(i) for i in order if self.losses[i] > 0]


def photo_losses(
    truth: Sequence[GroundTruth], rows: Sequence[NDArray[Any]], matches: Matches, threshold: float
) -> NDArray[np.float64]:
    """[N] losses by the measure in ``MEASURE``, at score ``threshold`` (scores equal to it count)."""
    losses = np.zeros(len(truth))
    for i, (_, boxes) in enumerate(truth):
        found = np.asarray(rows[i], np.float64).reshape(-1, 6)
        wanted = np.asarray(boxes, np.float64).reshape(-1, 5)
        alarms = (found[:, 0] >= threshold) & matches.counted[i] & ~matches.hits[i]
        missed = is_missed(found, matches.finders[i], threshold)
        losses[i] = np.sqrt(wanted[missed, 3] * wanted[missed, 4]).sum()
        losses[i] += (found[alarms, 0] * np.sqrt(np.maximum(found[alarms, 4] * found[alarms, 5], 0))).sum()
    return losses


def is_missed(rows: NDArray[Any], finders: NDArray[np.int64], threshold: float) -> NDArray[np.bool_]:
    """[m] for each box: no row found it, or one with a score below ``threshold``."""
    if not len(rows):
        return np.ones(len(finders), dtype=np.bool_)
    missed: NDArray[np.bool_] = (finders < 0) | (rows[np.maximum(finders, 0), 0] < threshold)
    return missed


def measure(
    truth: Sequence[GroundTruth],
    rows: Sequence[NDArray[Any]],
    *,
    names: Sequence[str] | None = None,
    class_names: Sequence[str] = ("person",),
    info: Mapping[str, Any] | None = None,
    result: MapResult | None = None,
) -> Evaluation:
    """Everything that a report shows about detections ``rows`` of photos with boxes ``truth``, in the same order.

    ``names``: file names of the photos; ``info``: JSON values such as epoch and data; ``result``: what
    ``uhd.detect.coco.evaluate`` gave for the same, if it is known. Raises ``ValueError`` as ``evaluate`` does.
    """
    # in the precision in which they are kept, so that scores equal to the threshold stay equal to it
    kept = tuple(np.asarray(part, np.float32).reshape(-1, 6) for part in rows)
    labelled = tuple((size, np.asarray(boxes, np.float32).reshape(-1, 5)) for size, boxes in truth)
    matches = match(labelled, kept)
    evaluation = Evaluation(
        names=tuple(names) if names is not None else tuple(f"photo {i}" for i in range(len(truth))),
        class_names=tuple(class_names),
        truth=labelled,
        rows=kept,
        result=result or evaluate(labelled, kept),
        buckets=size_buckets(labelled, kept),
        matches=matches,
        curve=curve(matches, kept),
        losses=np.zeros(len(truth)),
        info=dict(info or {}),
    )
    if len(evaluation.names) != len(truth):
        raise ValueError(f"{len(truth)} photos but {len(evaluation.names)} names")
    return replace(evaluation, losses=photo_losses(labelled, kept, matches, evaluation.threshold))


def save(folder: Path, evaluation: Evaluation, *, picture: Callable[[int], Pixels] | None = None) -> None:
    """Write ``evaluation.npz`` (all of it) and ``evaluation.json`` (the figures) into ``folder``, atomically each.

    ``picture(i)`` gives photo i as RGB uint8 [H,W,3]; the worst are kept as JPEG of at most ``THUMBNAIL`` pixels a
    side, so that the report does not need the photos.
    """
    pictures = {i: thumbnail(picture(i)) for i in evaluation.worst} if picture else dict(evaluation.pictures)
    counts = np.array([len(boxes) for _, boxes in evaluation.truth], np.int64)
    best = evaluation.curve.best
    summary = {
        "format": FORMAT,
        "info": dict(evaluation.info),
        "class_names": list(evaluation.class_names),
        "result": asdict(evaluation.result),
        "buckets": [asdict(bucket) for bucket in evaluation.buckets],
        "best_f1": None if best is None else float(evaluation.curve.f1[best]),
        "best_threshold": None if best is None else float(evaluation.curve.scores[best]),
        "worst": [{"name": evaluation.names[i], "loss": float(evaluation.losses[i])} for i in evaluation.worst],
    }
    arrays: dict[str, NDArray[Any]] = {
        "summary": _text(json.dumps(summary)),
        "names": _text(json.dumps(list(evaluation.names))),
        "sizes": np.array([size for size, _ in evaluation.truth], np.int64).reshape(-1, 2),
        "truth": np.concatenate([np.zeros((0, 5), np.float32), *(boxes for _, boxes in evaluation.truth)]),
        "truth_count": counts,
        "rows": np.concatenate([np.zeros((0, 6), np.float32), *evaluation.rows]),
        "row_count": np.array([len(rows) for rows in evaluation.rows], np.int64),
        "hits": np.concatenate([np.zeros(0, np.bool_), *evaluation.matches.hits]),
        "counted": np.concatenate([np.zeros(0, np.bool_), *evaluation.matches.counted]),
        "finders": np.concatenate([np.zeros(0, np.int64), *evaluation.matches.finders]),
        "scores": evaluation.curve.scores,
        "precision": evaluation.curve.precision,
        "recall": evaluation.curve.recall,
        "losses": evaluation.losses,
    }
    arrays.update({f"picture_{i}": np.frombuffer(data, np.uint8) for i, data in pictures.items()})
    with atomic_path(folder / ARRAYS) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    write_text(folder / SUMMARY, json.dumps(summary, indent=2, sort_keys=True) + "\n")


def load(folder: Path) -> Evaluation:
    """Read what ``save`` wrote. Raises ``DataError`` where ``evaluation.npz`` is missing or damaged."""
    path = folder / ARRAYS
    try:
        with np.load(path, allow_pickle=False) as stored:
            return _unpack({name: stored[name] for name in stored.files})
    except FileNotFoundError:
        raise DataError(f"{path}: no evaluation here", hint="a run writes it when it ends") from None
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path}: damaged evaluation ({reason})", hint="evaluate again") from None


def _unpack(arrays: dict[str, NDArray[Any]]) -> Evaluation:
    summary = json.loads(arrays["summary"].tobytes())
    if summary["format"] != FORMAT:
        raise ValueError(f"format {summary['format']}, not {FORMAT}")
    result = dict(summary["result"])
    per_class = tuple(ClassResult(**item) for item in result.pop("per_class"))
    sizes = [(int(height), int(width)) for height, width in arrays["sizes"]]
    truth = _split(arrays["truth"], arrays["truth_count"])
    row_count = arrays["row_count"]
    photos = len(sizes)
    names = json.loads(arrays["names"].tobytes())
    if not len(truth) == len(row_count) == len(names) == len(arrays["losses"]) == photos:
        raise ValueError("the parts count different numbers of photos")
    return Evaluation(
        names=tuple(names),
        class_names=tuple(summary["class_names"]),
        truth=tuple(zip(sizes, truth, strict=True)),
        rows=tuple(_split(arrays["rows"], row_count)),
        result=MapResult(per_class=per_class, **result),
        buckets=tuple(SizeBucket(**item) for item in summary["buckets"]),
        matches=Matches(
            tuple(_split(arrays["hits"], row_count)),
            tuple(_split(arrays["counted"], row_count)),
            tuple(_split(arrays["finders"], arrays["truth_count"])),
        ),
        curve=Curve(arrays["scores"], arrays["precision"], arrays["recall"], int(arrays["truth_count"].sum())),
        losses=arrays["losses"],
        info=summary["info"],
        pictures={
            int(name.removeprefix("picture_")): data.tobytes()
            for name, data in arrays.items()
            if name.startswith("picture_")
        },
    )


def thumbnail(rgb: Pixels) -> bytes:
    """A JPEG of the photo, reduced to ``THUMBNAIL`` pixels on its longest side; small photos keep their size."""
    import cv2

    scale = min(1.0, THUMBNAIL / max(rgb.shape[:2]))
    size = [max(1, math.floor(side * scale + 0.5)) for side in rgb.shape[1::-1]]
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA) if scale < 1 else rgb
    return cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()


def _text(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


def _split(table: NDArray[Any], counts: NDArray[np.int64]) -> list[NDArray[Any]]:
    """``table`` cut into parts of ``counts`` rows. Raises ``ValueError`` when they do not add up."""
    if counts.sum() != len(table) or (counts < 0).any():
        raise ValueError("a table and its counts do not agree")
    return np.split(table, np.cumsum(counts)[:-1]) if len(counts) else []
