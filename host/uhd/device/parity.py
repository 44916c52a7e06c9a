"""Parity: every photo through the float model, the host's integers and the device, compared to the bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.data.yolo import Sample
from uhd.detect.coco import MapResult, evaluate
from uhd.device.detectors import Detection, Detector, FrameDetector
from uhd.device.frames import FrameChange, Stimulus, check_injection, make_stimulus
from uhd.device.parity_record import (
    MOST_STEPS,
    Answer,
    PhotoRecord,
    digest,
    step_histograms,
    unequal_integers,
)
from uhd.device.parity_steady import PhotoLost
from uhd.errors import DataError
from uhd.image.files import read_rgb
from uhd.manifest import ModelManifest

#: The float model, and with camera frames also the float model on what the camera path makes of them.
FLOAT, FLOAT_FRAME = "onnx", "onnx-frame"


#: Counts of the link that are always told: of photos, of the session, of the host's decoder.
LINK = (
    *("attempts", "sent_again", "reconnects", "restarts", "retries"),
    *("stale", "frames", "frames_missing", "crc_errors", "malformed"),
)


@dataclass
class EngineRun:
    """All that one engine said, in the order of the photos; ``networks``: photos of which it saw another input."""

    name: str
    rows: list[NDArray[np.float64]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    networks: list[int] = field(default_factory=list)
    timings: dict[str, list[float]] = field(default_factory=dict)
    result: MapResult | None = None

    @property
    def is_float(self) -> bool:
        """True for the float model, which nobody holds to integers."""
        return self.name in (FLOAT, FLOAT_FRAME)


@dataclass(frozen=True)
class PairDifference:
    """Where two integer engines disagree: photo indices with other integers, and with other boxes.

    ``count`` integers differ in all, by ``most`` steps at most (-1: the engines have other output tensors).
    """

    first: str
    second: str
    integers: list[int]
    boxes: list[int]
    count: int = 0
    most: int = 0


@dataclass(frozen=True)
class ParityReport:
    """What came of a run.

    ``photos`` are those that every engine has answered, ``lost`` names the others and says why. ``runs`` are by engine,
    in the order asked for; ``pairs`` are neighbours among the integer engines. ``steps``: for each output map a
    histogram of integer minus float, in steps from -``MOST_STEPS`` (of the first integer engine). ``link``: what the
    transfers took; ``stats``: the device's counters at the end.
    """

    photos: list[Path]
    labelled: bool
    runs: dict[str, EngineRun]
    pairs: list[PairDifference]
    inject: str = "network"
    truth: list[NDArray[np.float32]] = field(default_factory=list)
    lost: list[tuple[Path, str]] = field(default_factory=list)
    steps: dict[str, list[int]] = field(default_factory=dict)
    change: FrameChange | None = None
    link: dict[str, int] = field(default_factory=dict)
    stats: dict[str, int] | None = None

    @property
    def exact(self) -> bool:
        """True if all integer engines gave the same integers and, where they share the decoder, the same boxes.

        With camera frames they must also have picked the network input that the image contract says.
        """
        same = all(not pair.integers and not pair.boxes for pair in self.pairs)
        picked = not any(run.networks for run in self.runs.values()) and not (self.change and self.change.luma)
        return same and picked

    @property
    def complete(self) -> bool:
        """True if no photo is missing."""
        return not self.lost

    def as_dict(self) -> dict[str, Any]:
        """The report for ``--json``."""
        reference = next(iter(self.runs.values()))
        return {
            "photos": len(self.photos),
            "labelled": self.labelled,
            "inject": self.inject,
            "engines": {
                name: None
                if run.result is None or reference.result is None
                else {
                    "map50": run.result.map50,
                    "map50_95": run.result.map50_95,
                    "map50_difference": run.result.map50 - reference.result.map50,
                    "map50_95_difference": run.result.map50_95 - reference.result.map50_95,
                }
                for name, run in self.runs.items()
            },
            "pairs": [
                {
                    "first": pair.first,
                    "second": pair.second,
                    "photos_with_other_integers": len(pair.integers),
                    "photos_with_other_boxes": len(pair.boxes),
                    "other_integers": pair.count,
                    "largest_difference": pair.most,
                }
                for pair in self.pairs
            ],
            "camera": None if self.change is None else self._camera(self.change),
            "float_to_integer": {name: _spread(counts) for name, counts in self.steps.items()},
            "timings": {
                name: {stage: _summary(values) for stage, values in run.timings.items()}
                for name, run in self.runs.items()
                if run.timings
            },
            "link": dict.fromkeys(LINK, 0) | self.link,
            "lost": [{"photo": str(path), "reason": reason} for path, reason in self.lost],
            "device": self.stats,
            "exact": self.exact,
            "complete": self.complete,
        }

    def _camera(self, change: FrameChange) -> dict[str, Any]:
        return {
            "photos_with_other_network_input": {
                name: len(run.networks) for name, run in self.runs.items() if not run.is_float and name != "oracle"
            },
            "pixels_compared": change.pixels,
            "pixels_picked_elsewhere": change.moved,
            "other_luma_bytes": change.luma,
            "other_chroma_bytes": change.chroma,
            "chroma_difference_mean": change.chroma_sum / max(change.pixels, 1),
            "chroma_difference_most": change.chroma_most,
        }


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "p95": float(np.percentile(values, 95)), "most": float(max(values))}


def _spread(counts: Sequence[int]) -> dict[str, Any]:
    """A histogram of steps by its figures; ``counts`` from -``MOST_STEPS``, the ends hold what lies beyond."""
    total = max(sum(counts), 1)
    places = [step for step, count in zip(range(-MOST_STEPS, MOST_STEPS + 1), counts, strict=True) if count]
    near = sum(counts[MOST_STEPS - 1 : MOST_STEPS + 2])
    return {
        "counts": list(counts),
        "equal": counts[MOST_STEPS] / total,
        "within_one_step": near / total,
        "most_steps": max((abs(step) for step in places), default=0),
    }


class Progress:
    """What ``run_parity`` takes up and gives on: records of an earlier run by place, and a place to keep new ones."""

    def __init__(
        self,
        records: Mapping[int, PhotoRecord] | None = None,
        keep: Callable[[int, PhotoRecord], None] = lambda place, record: None,
    ) -> None:
        self.records, self.keep = dict(records or {}), keep

    def add(self, place: int, record: PhotoRecord) -> None:
        """A new record; what an earlier attempt at the photo took is added to it."""
        earlier = self.records.get(place)
        if earlier:
            record.link = dict(Counter(earlier.link) + Counter(record.link))
        self.records[place] = record
        self.keep(place, record)


def run_parity(
    samples: Sequence[Sample],
    manifest: ModelManifest,
    detectors: Sequence[Detector],
    track: Callable[[Sequence[Sample]], Iterable[Sample]] = lambda items: items,
    *,
    inject: str = "network",
    exponents: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> ParityReport:
    """Send every photo through every detector and compare. The first detector is the reference of the mAP column.

    Args:
        samples: the photos with their boxes.
        manifest: of the model that all detectors run.
        detectors: in the order of the table.
        track: iterates over the photos that are still to do, and may show it.
        inject: ``network`` gives every engine the network input of the photo. ``camera`` makes a YUYV frame of the
            photo's full size: devices and twin get the frame, the float model the network input of the photo
            (``onnx``) and what the contract makes of the frame (``onnx-frame``), others the latter.
        exponents: of the output maps, to compare integers with the float model.
        progress: what is known already and where to keep what comes.

    Raises:
        DataError: no photos, or one that cannot be read.
        ConfigError: the model takes no camera frames.
        DeviceError: a device is gone for good.
    """
    if not samples:
        raise DataError("no photos to compare", hint="give a folder that holds .jpg or .png files")
    check_injection(inject, manifest)
    progress = progress or Progress()
    todo = [i for i in range(len(samples)) if i not in progress.records or progress.records[i].lost]
    for sample, place in zip(track([samples[i] for i in todo]), todo, strict=True):
        rgb = read_rgb(sample.image)
        record = _measure(make_stimulus(rgb, manifest, inject), detectors, exponents or {})
        record.size = (rgb.shape[0], rgb.shape[1])
        progress.add(place, record)
    return parity_report(samples, progress.records, engine_names([d.name for d in detectors], inject), inject)


def engine_names(detectors: Sequence[str], inject: str) -> list[str]:
    """Rows of the report: the detectors, with frames also the float model on what the frames become."""
    names = list(detectors)
    if inject == "camera" and FLOAT in names:
        names.insert(names.index(FLOAT) + 1, FLOAT_FRAME)
    return names


def _measure(stimulus: Stimulus, detectors: Sequence[Detector], exponents: Mapping[str, int]) -> PhotoRecord:
    """One photo through all engines."""
    record = PhotoRecord(network=digest({"network": stimulus.network}), change=stimulus.change)
    real: Detection | None = None
    integers: dict[str, Detection] = {}
    try:
        for detector in detectors:
            if detector.name == FLOAT:
                real = detector.detect(stimulus.photo)
                record.answers[FLOAT] = Answer(real.rows)
                if stimulus.frame is not None:
                    real = detector.detect(stimulus.network)
                    record.answers[FLOAT_FRAME] = Answer(real.rows)
                continue
            if stimulus.frame is not None and isinstance(detector, FrameDetector):
                found = detector.detect_frame(stimulus.frame)
            else:
                found = detector.detect(stimulus.network)
            integers[detector.name] = found
            record.answers[detector.name] = _answer(found)
            record.link = dict(Counter(record.link) + Counter(found.link))
    except PhotoLost as error:
        record.lost, record.link = str(error), dict(Counter(record.link) + Counter(error.link))
        return record
    for (first, one), (second, other) in zip(integers.items(), list(integers.items())[1:], strict=False):
        count, most = unequal_integers(one.outputs, other.outputs)
        if count:
            record.unequal[f"{first}/{second}"] = (count, most)
    if real and integers:
        record.steps = step_histograms(real.outputs, next(iter(integers.values())).outputs, exponents)
    return record


def _answer(found: Detection) -> Answer:
    network = "" if found.network is None else digest({"network": found.network})
    timings = {name: value for name, value in found.timings.items() if name != "timestamp_us"}
    return Answer(found.rows, digest(found.outputs), network, timings)


def parity_report(
    samples: Sequence[Sample],
    records: Mapping[int, PhotoRecord],
    names: Sequence[str],
    inject: str = "network",
    stats: Mapping[str, int] | None = None,
) -> ParityReport:
    """What the records of a run say, without any engine. ``names``: the engines, as ``engine_names`` gives them."""
    done = [i for i in range(len(samples)) if i in records and not records[i].lost]
    runs = {name: EngineRun(name) for name in names}
    change = FrameChange() if inject == "camera" else None
    steps: dict[str, NDArray[np.int64]] = {}
    for place, i in enumerate(done):
        record = records[i]
        for name, run in runs.items():
            answer = record.answers[name]
            run.rows.append(answer.rows)
            run.digests.append(answer.integers)
            if answer.network and answer.network != record.network:
                run.networks.append(place)
            for stage, value in answer.timings.items():
                run.timings.setdefault(stage, []).append(value)
        for name, counts in record.steps.items():
            steps[name] = steps.get(name, np.zeros(len(counts), np.int64)) + np.asarray(counts)
        if change and record.change:
            change.add(record.change)
    labelled = any(len(samples[i].boxes) for i in done)
    if labelled:
        truth = [(records[i].size, np.asarray(samples[i].boxes)) for i in done]
        for run in runs.values():
            run.result = evaluate(truth, run.rows)
    return ParityReport(
        photos=[samples[i].image for i in done],
        labelled=labelled,
        runs=runs,
        pairs=_pairs(list(runs.values()), [records[i] for i in done]),
        inject=inject,
        truth=[samples[i].boxes for i in done],
        lost=[
            (s.image, records[i].lost if i in records else "not sent") for i, s in enumerate(samples) if i not in done
        ],
        steps={name: counts.tolist() for name, counts in steps.items()},
        change=change,
        link=_link(records),
        stats=dict(stats) if stats is not None else None,
    )


def _link(records: Mapping[int, PhotoRecord]) -> dict[str, int]:
    """Counts of all transfers; ``sent_again``: photos that needed more than one attempt."""
    total: Counter[str] = Counter()
    for record in records.values():
        total.update(record.link)
        total["sent_again"] += record.link.get("attempts", 0) > 1
    return dict(total)


def _pairs(runs: Sequence[EngineRun], records: Sequence[PhotoRecord]) -> list[PairDifference]:
    """Neighbours among the integer engines; boxes are compared where both decode with the device's integers."""
    integer = [run for run in runs if not run.is_float]
    pairs = []
    for first, second in zip(integer, integer[1:], strict=False):
        integers = [i for i, (a, b) in enumerate(zip(first.digests, second.digests, strict=True)) if a != b]
        boxes: list[int] = []
        if "oracle" not in (first.name, second.name):
            rows = zip(first.rows, second.rows, strict=True)
            boxes = [i for i, (a, b) in enumerate(rows) if not np.array_equal(a, b)]
        unequal = [r.unequal[name] for r in records if (name := f"{first.name}/{second.name}") in r.unequal]
        most = -1 if any(m < 0 for _, m in unequal) else max((m for _, m in unequal), default=0)
        pairs.append(PairDifference(first.name, second.name, integers, boxes, sum(count for count, _ in unequal), most))
    return pairs
